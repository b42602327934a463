"""Writing data sets: objects that YOLO has no words for, splits, names, and outputs that are there already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskray.platform.data.batch import decode_rle
from maskray.platform.data.conversion import convert, short_names
from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.formats.coco import ImageRecord
from maskray.platform.data.formats.reading import dataset_of_tree, read_annotated
from maskray.platform.data.synthetic.dataset import SyntheticPaths

PARTS = {"size": [96, 128], "counts": [0, 200, 5, 191, 96 * 128 - 396]}


def written(found: AnnotatedFolder, target: str, out: Path) -> AnnotatedFolder:
    convert(found, dataset_of_tree(found.name, found.tree, found.images), target, out)  # type: ignore[arg-type]
    return read_annotated(out)


def test_masks_with_holes_survive_as_polygons(drawn: SyntheticPaths, tmp_path: Path) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    found.tree["annotations"][0]["segmentation"] = PARTS
    again = written(found, "yolo", tmp_path / "yolo")
    assert again.format == "yolo"
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in found.tree["images"]}
    names = {entry["id"]: entry["name"] for entry in found.tree["categories"]}

    def masks(tree: dict) -> list[tuple[str, bytes]]:
        classes = {entry["id"]: entry["name"] for entry in tree["categories"]}
        pixels = []
        for entry in tree["annotations"]:
            shape = entry["segmentation"]
            size = sizes[found.tree["images"][0]["id"]]
            mask = decode_rle(shape) if isinstance(shape, dict) else coco_mask.decode(
                coco_mask.merge(coco_mask.frPyObjects(shape, *size)))  # fmt: skip
            pixels.append((classes[entry["category_id"]], np.packbits(mask).tobytes()))
        return sorted(pixels)

    kept = found.tree | {"annotations": [entry for entry in found.tree["annotations"] if not entry["iscrowd"]]}
    assert masks(again.tree) == masks(kept)
    assert [entry["name"] for entry in again.tree["categories"]] == list(names.values())


def test_splits_stay_splits_in_both_formats(drawn: SyntheticPaths, tmp_path: Path) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    for index, entry in enumerate(found.tree["images"]):
        entry["split"] = "val" if index % 4 == 0 else "train"
    for target in ("yolo", "coco"):
        written_out = tmp_path / target
        convert(found, dataset_of_tree(found.name, found.tree, found.images), target, written_out)  # type: ignore[arg-type]
        parts = {split: read_annotated(written_out, split=split).tree["images"] for split in ("train", "val")}
        assert [len(part) for part in parts.values()] == [17, 6]
        assert {entry["split"] for entry in parts["val"]} == {"val"}


@pytest.mark.parametrize("split", ["../../evil", ["train"], {"a": 1}, "dev", 3])
def test_a_split_that_is_none_names_no_file(tmp_path: Path, drawn: SyntheticPaths, split: object) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    for entry in found.tree["images"]:
        entry["split"] = split
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    convert(found, dataset, "coco", tmp_path / "a/b/coco")
    assert {path.name for path in (tmp_path / "a/b/coco").iterdir()} == {"annotations.json", "images"}
    assert [path.name for path in tmp_path.rglob("*.json")] == ["annotations.json"]
    convert(found, dataset, "yolo", tmp_path / "yolo")
    assert [path.name for path in (tmp_path / "yolo/labels").iterdir()] == ["train"]


def test_one_file_under_two_ids(tmp_path: Path, drawn: SyntheticPaths) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    found.tree["images"][1] |= {"file_name": found.tree["images"][0]["file_name"]}
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    with pytest.raises(ValueError, match="stands under several ids, but has one label file"):
        convert(found, dataset, "yolo", tmp_path / "yolo")
    assert convert(found, dataset, "coco", tmp_path / "coco").images == 23
    assert len(list((tmp_path / "coco/images").iterdir())) == 22


def test_crowds_and_boxes(tmp_path: Path, drawn: SyntheticPaths) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    first, second = found.tree["annotations"][:2]
    first["iscrowd"], second["segmentation"] = 1, []
    found.tree["annotations"] = [first, second]
    done = convert(found, dataset_of_tree("a", found.tree, found.images), "yolo", tmp_path / "a")
    assert done.objects == 1
    assert dict(done.left_out) == {"a crowd, which YOLO labels cannot tell from an object": 1}
    (box,) = read_annotated(tmp_path / "a").tree["annotations"]
    assert box["segmentation"] == []
    assert box["bbox"] == pytest.approx(second["bbox"], abs=2e-3)


def test_nothing_is_overwritten_and_nothing_is_left_behind(tmp_path: Path, drawn: SyntheticPaths) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="exists already and is not overwritten"):
        convert(found, dataset, "coco", tmp_path / "out")
    dataset.images[3].file_name = "absent.jpg"
    with pytest.raises(ValueError, match=r"image absent\.jpg is not in"):
        convert(found, dataset, "coco", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_names_lose_folders_of_a_layout_where_they_stay_unique() -> None:
    images = [ImageRecord(1, "train/images/a.jpg", 1, 1), ImageRecord(2, "valid/images/deep/a.jpg", 1, 1)]
    assert short_names(images, {1: "train", 2: "val"}) == {1: "a.jpg", 2: "deep/a.jpg"}
    images += [ImageRecord(3, "valid/deep/a.png", 1, 1)]  # its labels would be those of image 2
    assert short_names(images, {1: "train", 2: "val", 3: "val"})[3] == "valid/deep/a.png"


def test_a_coco_folder_holds_what_it_was(tmp_path: Path, drawn: SyntheticPaths) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    again = written(found, "coco", tmp_path / "coco")
    assert json.loads((tmp_path / "coco/annotations.json").read_text())["annotations"] == found.tree["annotations"]
    assert again.images == tmp_path / "coco/images"
