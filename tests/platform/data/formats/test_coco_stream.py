"""Large COCO files read entry by entry: the same data, problems and refusals as reading them whole."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coco_trees import VALUES, make_tree, mutated_trees
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.platform.data.formats import coco, json_entries
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.formats.coco_stream import StreamedImages, read_streamed
from maskray.platform.data.formats.json_entries import NotStreamableError, stream_lists
from maskray.platform.data.formats.reading import read_checked
from maskray.platform.data.suitability import ReadingRules, find_mask_gaps, fit_masks

KEYS = ("images", "annotations", "categories")


def outcome(path: Path, folder: Path, streamed: bool) -> Any:
    """All that a data set says, or the refusal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco, "STREAMED_BYTES", -1 if streamed else 2**60)
        try:
            found = read_dataset(path, folder)
        except ValueError as error:
            return str(error)
    return found.labels, list(found.images), found.digest, found.problems, found.num_annotations


@settings(max_examples=300, deadline=None)
@given(mutated_trees() | VALUES, st.permutations(KEYS), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_any_file_is_read_as_it_is_when_read_whole(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, order: list[str], encoding: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "streamed.json"
    if isinstance(tree, dict):
        tree = {key: tree[key] for key in order if key in tree} | tree
    path.write_text(json.dumps(tree, indent=1), encoding)
    assert outcome(path, path.parent, True) == outcome(path, path.parent, False)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_text_gives_the_entries_that_json_finds_or_is_left_to_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = json.dumps({"more": 1.5, "a": data.draw(st.lists(VALUES, max_size=4)), "b": [12, 3.5e-3, True, 'x\\"']})
    cut = data.draw(st.integers(0, len(text)))
    changed = text[:cut] + data.draw(st.sampled_from(["", "", ",", "]", "}", " ", '"a": [1],', "1"])) + text[cut:]
    path = tmp_path_factory.getbasetemp() / "entries.json"
    path.write_text(changed)
    try:
        whole = json.loads(changed)
    except ValueError:
        whole = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_entries, "CHUNK", data.draw(st.integers(1, 9)))
        try:
            found = list(stream_lists(path, ("a", "b")))
        except NotStreamableError:
            assert (
                whole is None or not all(isinstance(whole.get(key), list) for key in "ab") or changed.count('"a":') > 1
            )
            return
    assert whole is not None
    expected = [(key, entry) for key, entries in whole.items() if key in "ab" for entry in entries]
    assert json.dumps(found) == json.dumps(expected)


def test_images_come_with_their_objects_by_index_and_slice(tmp_path: Path) -> None:
    tree = make_tree()
    tree["images"].append({"id": 9, "file_name": "empty.png", "width": 4, "height": 4})
    path = tmp_path / "tree.json"
    path.write_text(json.dumps(tree))
    reading, images = read_streamed("tree", path, tmp_path)
    assert [image.image_id for image in images] == [2, 5, 9]
    assert [[one.id for one in image.annotations] for image in images] == [[3], [1, 2], []]
    assert images[-2] == images[1] == images[1:2][0]
    assert images[0].annotations[0].keypoints == [22, 7, 2, 0, 0, 0]
    assert [image.annotations for image in reading.images] == [[], [], []]
    with pytest.raises(IndexError):
        images[3]


def test_objects_without_masks_are_dropped_image_by_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree()
    del tree["annotations"][0]["segmentation"]
    path = tmp_path / "tree.json"
    path.write_text(json.dumps(tree))
    monkeypatch.setattr(coco, "STREAMED_BYTES", -1)
    dataset = fit_masks(read_dataset(path, tmp_path), "tree", ReadingRules(masks="all", without_masks="drop"))
    assert [[one.id for one in image.annotations] for image in dataset.images[0:2]] == [[3], [2]]
    assert find_mask_gaps(dataset.images).objects == 0
    assert [problem.annotation_id for problem in dataset.problems if problem.code == "no_mask"] == [1]


def test_a_large_file_of_a_folder_is_found_with_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "val/a.png").write_bytes(b"")
    path = tmp_path / "annotations/instances_val.json"
    path.write_text(json.dumps(make_tree()))
    whole = read_checked(tmp_path, split="val")
    monkeypatch.setattr(coco, "STREAMED_BYTES", -1)
    found = read_checked(tmp_path, split="val")
    assert isinstance(found.dataset.images, StreamedImages)
    assert (found.name, found.format, found.images) == (str(path), "coco", tmp_path / "val")
    assert list(found.dataset.images) == whole.dataset.images
    with pytest.raises(ValueError, match="nowhere: no such folder of images"):
        read_checked(tmp_path, split="val", images=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"none of its 2 images is in .*annotations"):
        read_checked(tmp_path, split="val", images=tmp_path / "annotations")
    path.write_text("[")
    with pytest.raises(ValueError, match=f"^{path}: "):
        read_checked(path, "coco", images=tmp_path)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tree.json"
    path.write_text(json.dumps(make_tree()))
    monkeypatch.setattr(coco, "STREAMED_BYTES", -1)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: io.FileIO("/dev/full", "w"))
    with pytest.raises(ValueError, match=r"its objects not be kept in .*: No space left on device"):
        read_dataset(path, tmp_path)


PEAK = """
import re, sys
from maskray.platform.data.formats import coco
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
coco.STREAMED_BYTES = int(sys.argv[2])
start = peak()
found = coco.read_dataset(sys.argv[1], ".")
print(sum(len(image.annotations) for image in found.images[:1]), peak() - start)
"""


def test_a_large_file_does_not_come_into_memory(tmp_path: Path) -> None:
    tree = make_tree()
    box, outline = tree["annotations"][0], [[2.25 + i % 7, 3.25 + i % 5] for i in range(60)]
    polygon = [[number for point in outline for number in point]]
    tree["images"] = [tree["images"][0] | {"id": number, "file_name": f"{number}.png"} for number in range(2000)]
    tree["annotations"] = [
        box | {"id": number, "image_id": number % 2000, "segmentation": polygon} for number in range(20_000)
    ]
    path = tmp_path / "large.json"
    path.write_text(json.dumps(tree))
    memory = {}
    for name, threshold in (("whole", 2**60), ("streamed", -1)):
        command = [sys.executable, "-c", PEAK, str(path), str(threshold)]
        objects, memory[name] = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
        assert objects == 10
    assert memory["streamed"] < path.stat().st_size < memory["whole"]
