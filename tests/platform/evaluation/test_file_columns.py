"""The quick reader beside the one that knows what may be odd: what it takes, the other reads alike and says nothing."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskray.ops.match_images import RegionColumns
from maskray.platform.evaluation import file_columns, results
from maskray.platform.evaluation.file_columns import TruthColumns, read_result_columns, read_truth_columns

SIZE = (30, 40)
ODD = [
    None,
    True,
    "1",
    1.0,
    -1,
    0,
    10**20,
    1e-9,
    5e6,
    float("nan"),
    [],
    [[]],
    {},
    [1, 2],
    "x",
    "é",
    0.5,
    [[1, 2, 3]],
    8,
]


def a_mask(rng: random.Random) -> dict[str, Any]:
    pixels = np.random.default_rng(rng.randrange(2**32)).random(SIZE) < 0.5
    rle = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


def draw_tree(rng: random.Random) -> dict[str, Any]:
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i}.jpg"} for i in (9, 4, 6)]
    annotations: list[dict[str, Any]] = []
    for number in range(6):
        x, y, w, h = rng.uniform(2, 15), rng.uniform(2, 10), rng.uniform(2, 20), rng.uniform(2, 15)
        polygons = [[x, y, x + w, y, x + w, y + h], [x, y, x + w, y + h, x, y + h]]
        mask: Any = polygons if rng.random() < 0.6 else a_mask(rng)
        if rng.random() < 0.2:
            mask = {"size": list(SIZE), "counts": [100, 50, 1050]}
        keypoints = [v for k in range(17) for v in (rng.randint(1, 39), rng.randint(1, 29), rng.choice([0, 1, 2]))]
        entry = {
            "id": number,
            "image_id": rng.choice((9, 4, 6)),
            "category_id": rng.choice((3, 1)),
            "bbox": [x, y, w, h],
        }
        entry |= {"area": w * h, "iscrowd": rng.choice((0, 0, 1)), "segmentation": mask, "keypoints": keypoints}
        annotations.append(entry | ({"num_keypoints": 5} if rng.random() < 0.5 else {}))
    categories = [{"id": 3, "name": "thing", "supercategory": "é"}, {"id": 1, "name": "other"}]
    return {"info": {"year": 2017}, "images": images, "annotations": annotations, "categories": categories}


def draw_results(rng: random.Random) -> list[dict[str, Any]]:
    keypoints = [1.5 * k for k in range(51)]
    return [
        {"image_id": rng.choice((9, 4, 6)), "category_id": rng.choice((3, 1, 5)), "score": rng.random()}
        | {"bbox": [rng.uniform(0, 9) for _ in range(4)], "segmentation": a_mask(rng), "keypoints": keypoints}
        for _ in range(6)
    ]


def mutate(value: Any, rng: random.Random) -> None:
    """Change one thing somewhere in a tree of lists and dictionaries."""
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = rng.choice(keys)
        if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.85:
            holder = holder[key]
            continue
        kind = rng.random()
        if kind < 0.2:
            del holder[key]
        elif kind < 0.4 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = rng.choice(ODD)
        return


def rows_of(columns: RegionColumns) -> list[list[tuple[Any, ...]]]:
    """Everything of every row, image by image."""
    images = []
    for start, end in zip(columns.offsets, columns.offsets[1:]):
        rows = columns.rows[start:end]
        images.append([row for row in (row_of(columns, r) for r in rows) if row[0] >= 0])
    return images


def row_of(columns: RegionColumns, row: int) -> tuple[Any, ...]:
    optional = [getattr(columns, name) for name in ("scores", "crowd", "ignored", "keypoints")]
    values = [None if column is None else np.asarray(column[row]).tolist() for column in optional]
    mask: Any = None
    if columns.masks is not None:
        m = columns.masks
        start, length = m.starts[row], m.lengths[row]
        ends = m.polygons[m.objects[row] : m.objects[row + 1] + 1]
        polygons = [m.coordinates[a:b].tolist() for a, b in itertools.pairwise(ends)]
        mask = m.text[start : start + length].tobytes() if length >= 0 else polygons
    # Boxes of masks and of detected keypoints are not looked at.
    unused = columns.masks is not None or (columns.scores is not None and columns.keypoints is not None)
    box = None if unused else columns.boxes[row].tolist()
    return (columns.classes[row], columns.areas[row], box, *values, mask)


def read_both(monkeypatch: Any, caplog: Any, read: Any, name: str) -> tuple[Any, Any]:
    """By the quick reader, None where it leaves it to the other; and by the other, with what it logs or raises."""
    taken = []
    quick = getattr(file_columns, name)
    with monkeypatch.context() as patch:
        patch.setattr(file_columns, name, lambda *arguments: taken.append(quick(*arguments)) or taken[0])
        patch.setattr(results, "read_ground_truth", lambda *arguments: pytest.fail("not asked"))
        patch.setattr(results, "read_results", lambda *arguments: {})
        try:
            read()
        except BaseException:  # the other reader, which was not asked
            assert taken[0] is None
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(file_columns, name, lambda *arguments: None)
        try:
            return taken[0], read()
        except ValueError as error:
            return taken[0], error


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_ground_truth_is_read_alike(iou_type, tmp_path, monkeypatch, caplog):
    path = tmp_path / "gt.json"
    quick = 0
    for seed in range(400):
        rng = random.Random(seed)
        tree = draw_tree(rng)
        for _ in range(rng.choice([0, 1, 1, 2])):
            mutate(tree, rng)
        path.write_text(json.dumps(tree))
        plain, careful = read_both(monkeypatch, caplog, lambda: read_truth_columns(path, iou_type), "_read_plain_truth")
        if plain is None:
            continue
        quick += 1
        assert isinstance(careful, TruthColumns), f"seed {seed}: {careful}"
        assert not caplog.records
        assert plain.image_ids.tolist() == careful.image_ids.tolist()
        assert plain.sizes.tolist() == careful.sizes.tolist()
        assert plain.category_ids.tolist() == careful.category_ids.tolist()
        of_boxes = iou_type == "bbox"
        for ours, theirs in zip(rows_of(plain.objects), rows_of(careful.objects), strict=True):
            assert [row[: 3 if of_boxes else None] for row in ours] == [
                row[: 3 if of_boxes else None] for row in theirs
            ]
    assert quick > 100


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_results_are_read_alike(iou_type, tmp_path, monkeypatch, caplog):
    truth_path, path = tmp_path / "gt.json", tmp_path / "dt.json"
    truth_path.write_text(json.dumps(draw_tree(random.Random(0))))
    truth = read_truth_columns(truth_path, iou_type)
    quick = 0
    for seed in range(400):
        rng = random.Random(seed)
        entries = draw_results(rng)
        for _ in range(rng.choice([0, 1, 1, 2])):
            mutate(entries, rng)
        path.write_text(json.dumps(entries))
        read = lambda: read_result_columns(path, truth, iou_type)  # noqa: E731
        plain, careful = read_both(monkeypatch, caplog, read, "_read_plain_results")
        if plain is None:
            continue
        quick += 1
        assert isinstance(careful, RegionColumns), f"seed {seed}: {careful}"
        assert rows_of(plain) == rows_of(careful)
        assert all("category id that the ground truth lacks" in record.message for record in caplog.records)
    assert quick > 100


def test_unknown_categories_are_told_by_both(tmp_path, caplog):
    truth_path, path = tmp_path / "gt.json", tmp_path / "dt.json"
    truth_path.write_text(json.dumps(draw_tree(random.Random(0))))
    truth = read_truth_columns(truth_path, "bbox")
    entry = {"image_id": 9, "category_id": 77, "score": 1, "bbox": [1, 2, 3, 4]}
    for changed in (entry, entry | {"image_id": 9.0}):
        caplog.clear()
        path.write_text(json.dumps([entry, changed | {"category_id": 1}]))
        with caplog.at_level(logging.WARNING):
            columns = read_result_columns(path, truth, "bbox")
        assert "1 of 2 results have a category id" in caplog.text
        assert [len(rows) for rows in rows_of(columns)] == [0, 0, 1]


def test_real_files_are_plain(shared):
    folder = Path(shared("data/coco-eval-reference"))
    for iou_type in ("bbox", "segm"):
        truth = file_columns._read_plain_truth(folder / "instances_val2014_100.json", iou_type)
        assert truth is not None
        results = folder / f"instances_val2014_fake{iou_type}100_results.json"
        assert file_columns._read_plain_results(results, truth, iou_type) is not None
