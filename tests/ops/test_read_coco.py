"""Plain COCO files as columns: numbers as Python reads them, whatever the blocks, and None for what is not plain."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from maskray.ops import read_coco
from maskray.ops.read_coco import plain_masks, read_plain_annotations, read_plain_results

ENTRY = {"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [1, 2.5, 3, 4e0]}
NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(10**30), 10**30).map(str)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)


def read_text(text, kind="bbox"):
    return read_plain_results(io.BytesIO(text.encode() if isinstance(text, str) else text), kind, 17)


@settings(max_examples=1000, deadline=None)
@given(NUMBERS)
def test_a_number_is_that_of_python_to_the_last_bit(number):
    text = f'[{{"image_id":1,"category_id":1,"bbox":[0,0,1,1],"score": {number}}}]'
    columns = read_text(text)
    expected = json.loads(text)[0]["score"]
    if columns is not None:
        assert struct.pack("d", columns["scores"][0]) == struct.pack("d", float(expected))
    else:  # beyond what a double holds, or so near 0 that it is none
        assert expected in (float("inf"), float("-inf")) or abs(expected) > 1e300 or abs(expected) < 1e-300


@pytest.mark.parametrize(
    "number", ["01", "-", "1.", ".5", "1e", "+1", "NaN", "-Infinity", "1e999", "0x1", "--1", "1 2", ""]
)
def test_what_is_no_number_is_not_plain(number):
    assert read_text(f'[{{"image_id":1,"category_id":1,"bbox":[0,0,1,1],"score":{number}}}]') is None


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 50, 1000])
def test_blocks_make_no_difference(monkeypatch, block_bytes):
    rle = coco_mask.encode(np.asfortranarray(np.random.default_rng(0).random((30, 40)) < 0.4, dtype=np.uint8))
    segmentation = {"size": [30, 40], "counts": rle["counts"].decode()}
    entries = [
        {"image_id": i, "category_id": -i, "score": i / 7, "bbox": [i, 0, 1.5, 2], "segmentation": segmentation}
        | {"keypoints": [float(k + i) for k in range(51)], "extra": [{"a": "\\u00e9\n", "b": [None, True, {}]}, []]}
        for i in range(12)
    ]
    text = json.dumps(entries, indent=block_bytes % 3 or None)
    for kind in ("bbox", "segm", "keypoints"):
        whole = read_text(text, kind)
        monkeypatch.setattr(read_coco, "BLOCK_BYTES", block_bytes)
        pieces = read_text(text, kind)
        monkeypatch.undo()
        assert whole is not None
        assert pieces is not None
        for name, column in whole.items():
            np.testing.assert_array_equal(column, pieces[name])
        assert whole["image_ids"].tolist() == list(range(12))


def test_masks_are_read_and_measured():
    masks = [np.zeros((5, 6), np.uint8) for _ in range(3)]
    masks[1][1:4, 2:5] = 1
    masks[2][:, :] = 1
    entries = []
    for mask in masks:
        rle = coco_mask.encode(np.asfortranarray(mask))
        region = {"size": [5, 6], "counts": rle["counts"].decode()}
        entries.append({"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": region})
    runs = {"size": [5, 6], "counts": [11, 3, 2, 3, 2, 3, 6]}
    entries.append({"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": runs})
    columns = read_text(json.dumps(entries), "segm")
    assert columns is not None
    found = plain_masks(columns)
    assert found.areas.tolist() == [0, 9, 30, 9]
    assert found.extents[1:].tolist() == [[2, 1, 4, 3], [0, 0, 5, 4], [2, 1, 4, 3]]
    texts = [found.text[start : start + length].tobytes() for start, length in zip(found.starts, found.lengths)]
    assert texts[1] == texts[3]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[",
        "[1]",
        "[{}]",
        json.dumps([ENTRY])[:-1],
        json.dumps([ENTRY]) + "]",
        json.dumps([ENTRY]) + "x",
        json.dumps([ENTRY])[:-1] + ",]",
        json.dumps([ENTRY | {"image_id": 1.0}]),
        json.dumps([ENTRY | {"image_id": True}]),
        json.dumps([ENTRY | {"image_id": 10**18}]),
        json.dumps([ENTRY | {"bbox": [1, 2, 3]}]),
        json.dumps([ENTRY | {"bbox": [1, 2, 3, 1e7]}]),
        json.dumps([ENTRY | {"bbox": None}]),
        json.dumps([ENTRY | {"other": float("nan")}]),
        json.dumps([ENTRY]).replace('"score"', '"sc\\u006fre"'),
        json.dumps([ENTRY]).replace('"score"', '"score": 1, "score"'),
        json.dumps([ENTRY | {"é": 1}], ensure_ascii=False),
        json.dumps([ENTRY | {"other": 0}]).replace(": 0}", ': "\\x"}'),
        json.dumps([ENTRY | {"other": 0}]).replace(": 0}", ': "\n"}'),
        json.dumps([ENTRY | {"other": 0}]).replace(": 0}", ": " + "[" * 70 + "]" * 70 + "}"),
        "﻿" + json.dumps([ENTRY]),
        json.dumps([ENTRY]).encode("utf-16"),
    ],
)
def test_what_is_odd_is_left_to_others(text):
    assert read_text(text) is None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=5) | st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_text_is_taken_where_python_takes_it(text):
    """But for surrogates on their own, and for what ends the string."""
    whole = json.dumps([ENTRY | {"other": "@"}]).encode().replace(b"@", text)
    try:
        expected = json.loads(whole.decode())
    except ValueError:
        expected = None
    columns = read_text(whole)
    if columns is not None:
        assert expected is not None
    elif expected is not None:
        assert b"\\" in text or b'"' in text


def test_what_is_plain():
    for text in ("[]", " [ ] \n", json.dumps([ENTRY]), json.dumps([ENTRY | {"segmentation": [{"counts": "é"}]}])):
        assert read_text(text) is not None


def test_bytes_of_any_kind_are_read_or_not():
    """Whole files changed at random, of which no other than JSON is taken; the sanitizers run this too."""
    random = np.random.default_rng(0)
    rle = {"size": [4, 5], "counts": [3, 4, 5, 8]}
    result = ENTRY | {"segmentation": rle, "keypoints": [1.5] * 51, "x": {"y": [1, "a\\n", None]}}
    truth = {
        "images": [{"id": 7, "height": 4, "width": 5}],
        "annotations": [ENTRY | {"id": 1, "area": 3, "segmentation": [[1, 1, 3, 1, 3, 3]], "keypoints": [2] * 51}],
        "categories": [{"id": 3, "name": "a"}],
    }
    taken = refused = 0
    for number in range(3000):
        text = bytearray(json.dumps([result, result] if number % 2 else truth).encode())
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(len(text)))
            text[at : at + int(random.integers(0, 3))] = random.choice(
                list(b'[]{}",:0123456789.eE-\\ntu \xc3')
            ).tobytes()[:1]
        if number % 2:
            read = [read_text(bytes(text), kind) for kind in ("bbox", "segm", "keypoints")]
        else:
            read = [read_plain_annotations(bytes(text), bool(number % 4), 17)]
        if any(columns is not None for columns in read):
            assert isinstance(json.loads(text), list if number % 2 else dict)
            taken += 1
        else:
            refused += 1
    assert min(taken, refused) > 100
