"""Cityscapes by hand: objects, groups and void of 16-bit ids; trees that are damaged, each in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskray.platform.data.formats.cityscapes_labels import LABELS, THINGS, VOID, VOID_IDS, is_instance_id
from maskray.platform.data.formats.coco import dataset_of_tree
from maskray.platform.data.formats.reading import detect_format, list_splits, read_annotated
from maskray.platform.data.outlines import decode_rle

MakeImage = Callable[..., Path]
IDS = np.full((10, 20), LABELS["road"], dtype=np.uint16)
IDS[0] = 2  # rectification border
IDS[2:5, 3:6] = 26000
IDS[2:5, 6:8] = 26013  # beside it, another car
IDS[6:8, 1:4] = 24  # persons that nobody told apart
IDS[8, 10] = 33000  # one pixel of a bicycle
IDS[5:7, 12:15] = 29001  # a caravan is no class, and no void either
IDS[7:9, 16:18] = 30  # a group of trailers is void


def make_frame(root: Path, make_image: MakeImage, split: str = "train", name: str = "a_000000_000019") -> None:
    city = name.partition("_")[0]
    make_image(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
    truth = root / f"gtFine/{split}/{city}"
    truth.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IDS).save(truth / f"{name}_gtFine_instanceIds.png")
    tree = {"imgWidth": 20, "imgHeight": 10, "objects": [{"label": "persongroup", "polygon": [[1, 6], [3, 7]]}]}
    (truth / f"{name}_gtFine_polygons.json").write_text(json.dumps(tree))


@pytest.fixture
def tree(tmp_path: Path, make_image: MakeImage) -> Path:
    make_frame(tmp_path, make_image)
    return tmp_path


def test_objects_groups_and_void_are_told_apart(tree: Path) -> None:
    found = read_annotated(tree)
    assert found.format == "cityscapes"
    assert [category["name"] for category in found.tree["categories"]] == list(THINGS)
    kept = [
        (THINGS[entry["category_id"] - 1], entry["instance_id"], entry["iscrowd"], entry["bbox"], entry["area"])
        for entry in found.tree["annotations"]
    ]
    assert kept == [
        ("person", 24, 1, [1, 6, 3, 2], 6),
        ("car", 26000, 0, [3, 2, 3, 3], 9),
        ("car", 26013, 0, [6, 2, 2, 3], 6),
        ("bicycle", 33000, 0, [10, 8, 1, 1], 1),
    ]
    for entry in found.tree["annotations"]:
        assert (decode_rle(entry["segmentation"]) == (entry["instance_id"] == IDS)).all()
    (image,) = found.tree["images"]
    assert image["file_name"] == "leftImg8bit/train/a/a_000000_000019_leftImg8bit.png"
    assert (image["width"], image["height"], image["split"]) == (20, 10, "train")
    assert (decode_rle(image["ignore_region"]) == np.isin(IDS, VOID_IDS)).all()
    assert decode_rle(image["ignore_region"]).sum() == 24


def test_the_records_keep_groups_and_void(tree: Path) -> None:
    found = read_annotated(tree)
    dataset = dataset_of_tree(found.name, found.tree, found.images)
    assert [annotation.iscrowd for annotation in dataset.images[0].annotations] == [1, 0, 0, 0]
    assert dataset.images[0].ignore_region == found.tree["images"][0]["ignore_region"]
    assert not dataset.problems


def test_splits_are_folders_and_none_is_train_and_val(tree: Path, make_image: MakeImage) -> None:
    for split, name in (("val", "b_000000_000001"), ("test", "c_000000_000001"), ("train", "a_000001_000001")):
        make_frame(tree, make_image, split, name)
    (tree / "leftImg8bit/train_extra/x").mkdir(parents=True)  # of the coarse annotations
    assert list_splits(tree) == ("train", "val", "test")

    def images(path: Path, split: str | None = None) -> list[str]:
        return [Path(entry["file_name"]).name[:15] for entry in read_annotated(path, split=split).tree["images"]]

    assert images(tree) == ["a_000000_000019", "a_000001_000001", "b_000000_000001"]
    assert images(tree, "test") == ["c_000000_000001"]
    for part in ("gtFine", "leftImg8bit"):
        assert detect_format(tree / part) == detect_format(tree / part / "val") == "cityscapes"
        assert list_splits(tree / part / "val") == ("val",)
        assert read_annotated(tree / part / "val").tree == read_annotated(tree, split="val").tree
    with pytest.raises(ValueError, match="is of the split 'val', not 'train'"):
        read_annotated(tree / "gtFine/val", split="train")


def break_ids(tree: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).save(next(tree.rglob("*_instanceIds.png")))


def break_polygons(tree: Path, text: Any) -> None:
    next(tree.rglob("*_polygons.json")).write_text(text if isinstance(text, str) else json.dumps(text))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: next(t.rglob("*_instanceIds.png")).unlink(), r"leftImg8bit.png: its annotation gtFine/train/.* is"),
        (lambda t: next(t.rglob("*_polygons.json")).unlink(), r"its annotation .*_gtFine_polygons.json is missing"),
        (lambda t: next(t.rglob("*_leftImg8bit.png")).unlink(), r"_instanceIds.png: its image leftImg8bit/train/.* is"),
        (lambda t: break_ids(t, (IDS % 256).astype(np.uint8)), r"Ids.png: instance ids need 16 bits .*labelIds"),
        (lambda t: break_ids(t, np.zeros((10, 20, 3), np.uint8)), r"_instanceIds.png: .*need 16 bits .*of kind RGB"),
        (lambda t: break_ids(t, IDS[:, :10].copy()), r"_instanceIds.png: 10x10 pixels, its image has 20x10"),
        (lambda t: break_ids(t, np.full_like(IDS, 50)), r"_instanceIds.png: 50 is no instance id of Cityscapes"),
        (lambda t: break_ids(t, np.full_like(IDS, 11000)), r"_instanceIds.png: 11000 is no instance id"),
        (lambda t: next(t.rglob("*_instanceIds.png")).write_bytes(b"PNG"), r"_instanceIds.png: cannot identify"),
        (lambda t: break_polygons(t, {"imgWidth": 20, "imgHeight": 9, "objects": []}), r"20x9, its image has 20x10"),
        (lambda t: break_polygons(t, {"imgWidth": 20, "imgHeight": 10}), r"_polygons.json: objects are not a list"),
        (
            lambda t: break_polygons(t, {"imgWidth": 20, "imgHeight": 10, "objects": [{"label": "cat"}]}),
            r"_polygons.json: 'cat' is no label",
        ),
        (
            lambda t: Image.new("1", (8000, 8000)).save(next(t.rglob("*_leftImg8bit.png"))),
            r"_leftImg8bit.png: 8000x8000 pixels are more than 33554432",
        ),
        (lambda t: break_polygons(t, "{"), r"_polygons.json: not JSON"),
        (lambda t: (t / "gtFine/valid").mkdir(), r"gtFine/valid: no folder of Cityscapes, which has train, val, test"),
        (lambda t: (t / "leftImg8bit/train").rename(t / "leftImg8bit/val"), r"Img8bit: no folder of the split 'tra"),
        (lambda t: (t / "gtFine").rename(t / "gtCoarse"), r"no folder gtFine, which Cityscapes has"),
        (lambda t: (t / "gtFine/train").rename(t / "gtFine/test"), r"neither train nor val is in it; name the split"),
        (
            lambda t: next(t.rglob("*_leftImg8bit.png")).rename(t / "leftImg8bit/train/a/x_leftImg8bit.png"),
            r"x_leftImg8bit.png: no name of Cityscapes: CITY_000000_000000_leftImg8bit.png",
        ),
    ],
)  # fmt: skip
def test_a_damaged_tree_is_one_line_that_names_the_file(
    tree: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(tree)
    with pytest.raises(ValueError, match=message) as caught:
        read_annotated(tree)
    assert "\n" not in str(caught.value)


def test_other_arguments_are_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match="no folder of the split 'val'"):
        read_annotated(tree, split="val")
    with pytest.raises(ValueError, match="images cannot be another folder"):
        read_annotated(tree, images=tree)


def test_the_labels_are_those_of_the_scripts() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    assert {label.name: label.id for label in labels} == LABELS
    assert tuple(label.name for label in labels if label.hasInstances and not label.ignoreInEval) == THINGS
    assert {label.name for label in labels if label.ignoreInEval} == {*VOID, "license plate"}
    for label in labels:
        assert is_instance_id(label.id * 1000 + 5) == ((label.hasInstances and label.id > 0) or label.id == 0)
        assert is_instance_id(label.id) == (label.id >= 0)
