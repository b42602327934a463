"""YOLO labels by hand: boxes and polygons in pixels, where files are looked for, and what is wrong with a data.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskray.platform.data.formats import yolo

MakeImage = Callable[..., Path]
LINES = "1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.6 0.2 0.6 0.8 0.1 0.8\n"


def write(folder: Path, names: Any = ("cat", "dog"), labels: str | None = LINES, **keys: Any) -> Path:
    folder.mkdir(exist_ok=True)
    tree = {"names": list(names) if isinstance(names, tuple) else names, "train": "images/train"} | keys
    (folder / "data.yaml").write_text(yaml.safe_dump(tree))
    if labels is not None:
        (folder / "labels/train").mkdir(parents=True, exist_ok=True)
        (folder / "labels/train/a.txt").write_text(labels)
    return folder


@pytest.fixture
def images(tmp_path: Path, make_image: MakeImage) -> Path:
    make_image(tmp_path / "images/train/b.png")
    make_image(tmp_path / "images/train/a.png", 20, 10)
    return tmp_path


def test_a_box_and_a_polygon_by_hand(images: Path) -> None:
    found = yolo.read(write(images), None, None)
    assert found.images == images
    assert found.tree["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert found.tree["images"] == [
        {"id": 1, "file_name": "images/train/a.png", "width": 20, "height": 10, "split": "train"},
        {"id": 2, "file_name": "images/train/b.png", "width": 20, "height": 10, "split": "train"},
    ]
    box, polygon = found.tree["annotations"]
    # 0.5 +- 0.1 of 20 pixels, 0.5 +- 0.2 of 10
    assert (box["bbox"], box["area"], box["segmentation"]) == ([8, 3, 4, 4], 16, [])
    assert (box["category_id"], box["image_id"], box["iscrowd"]) == (2, 1, 0)
    assert polygon["segmentation"] == [[2, 2, 12, 2, 12, 8, 2, 8]]
    assert (polygon["bbox"], polygon["area"], polygon["category_id"]) == ([2, 2, 10, 6], 60, 1)


def test_sizes_are_those_of_the_image_as_it_is_shown(images: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    Image.new("RGB", (20, 10)).save(images / "images/train/a.jpg", exif=turned)
    (images / "images/train/a.png").unlink()
    found = yolo.read(write(images), None, None)
    assert [(entry["width"], entry["height"]) for entry in found.tree["images"]] == [(10, 20), (20, 10)]
    assert found.tree["annotations"][0]["bbox"] == [4, 6, 2, 8]


def test_names_as_a_table_and_in_a_file(images: Path) -> None:
    found = yolo.read(write(images, {0: "cat", 1: "dog"}), "train", None)
    assert [entry["name"] for entry in found.tree["categories"]] == ["cat", "dog"]
    (images / "data.yaml").unlink()
    (images / "classes.txt").write_text("cat\ndog\n")
    assert yolo.find(images) == "classes.txt"
    assert yolo.read(images, None, None).tree["annotations"] == found.tree["annotations"]


@pytest.mark.parametrize(
    "keys",
    [
        {"path": "/content/set", "train": "/content/set/images/train"},  # of another machine
        {"train": "../images/train"},  # as Roboflow writes it
        {"path": "C:\\data\\set", "train": "images\\train"},
        {"train": ["images/train"]},
        {"train": "list.txt"},
        {"path": "../elsewhere"},
    ],
)
def test_paths_are_looked_for_below_the_folder(images: Path, keys: dict[str, Any]) -> None:
    (images / "list.txt").write_text("./images/train/a.png\n/content/set/images/train/b.png\n")
    found = yolo.read(write(images, **keys), None, None)
    assert [entry["file_name"] for entry in found.tree["images"]] == ["images/train/a.png", "images/train/b.png"]


def test_the_layout_of_roboflow_and_splits(images: Path, make_image: MakeImage) -> None:
    make_image(images / "valid/images/c.jpg", 10, 10)
    (images / "valid/labels").mkdir()
    (images / "valid/labels/c.txt").write_text("0 0.5 0.5 1 1\n")
    write(images, val="../valid/images")
    assert yolo.splits(images) == ("train", "val")
    found = yolo.read(images, "val", None)
    assert [(entry["file_name"], entry["split"]) for entry in found.tree["images"]] == [("valid/images/c.jpg", "val")]
    assert found.tree["annotations"][0]["bbox"] == [0, 0, 10, 10]
    with pytest.raises(ValueError, match="no split 'test'; there are train, val"):
        yolo.read(images, "test", None)


@pytest.mark.parametrize(
    ("names", "labels", "keys", "message"),
    [
        (("a", "b"), None, {}, "none of 2 images has a label file"),
        ({0: "a", 2: "b"}, LINES, {}, "not those of the classes 0, 1, 2"),
        ((True, False), LINES, {}, "class name True is not text: write it in quotes"),
        (("a", "a"), LINES, {}, "stands twice"),
        (("a",), LINES, {"train": "nowhere"}, "train: no nowhere in"),
        (("a",), LINES, {"train": 3}, "train: 3 is not a path"),
        (("a",), LINES, {"kpt_shape": [17, 3]}, "poses"),
        (("a", "b"), "0 30 40 5 5\n", {}, "coordinates that are not fractions of the image"),
        (("a", "b"), "2 0.5 0.5 0.1 0.1\n", {}, "a class that is not among the names"),
        (("a", "b"), "0 0.5 0.5 0.1\n", {}, "neither class and box nor class and polygon"),
        (("a", "b"), "cat 0.5 0.5 0.1 0.1\n", {}, "not made of numbers"),
        (("a", "b"), "0 nan 0.5 0.1 0.1\n", {}, "not finite"),
    ],
)
def test_a_mistake_is_one_line(images: Path, names: Any, labels: str | None, keys: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        yolo.read(write(images, names, labels, **keys), None, None)
    assert "\n" not in str(caught.value)
    assert str(images) in str(caught.value)


def test_a_few_damaged_lines_are_counted_and_the_rest_is_read(images: Path) -> None:
    found = yolo.read(write(images, labels=LINES + "0 0.5\n7 0.5 0.5 0.1 0.1\n0 0.5\n"), None, None)
    assert len(found.tree["annotations"]) == 2
    assert [(one.count, one.reason.split()[1]) for one in found.left_out] == [(2, "line"), (1, "class")]
    assert found.left_out[0].where.endswith("a.txt line 3")
    with pytest.raises(ValueError, match="11 of 13 objects are damaged"):
        yolo.read(write(images, labels=LINES + "0 0.5\n" * 11), None, None)


def test_aliases_are_refused(images: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi")]
    (images / "data.yaml").write_text("\n".join([*lines, "names: *i"]))
    with pytest.raises(ValueError, match="aliases"):
        yolo.read(images, None, None)


@settings(max_examples=60)
@given(text=st.text(alphabet="names:[]{}&*!|>-?,'\"01 \n\tx#%@", max_size=80) | st.binary(max_size=60))
def test_no_data_yaml_ends_otherwise_than_in_a_line(tmp_path_factory: pytest.TempPathFactory, text: Any) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    (folder / "data.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"data\.yaml|garbage"):
        yolo.read(folder, None, None)


@settings(max_examples=60)
@given(text=st.text(alphabet="0123456789.eE+-naif \n\t", max_size=60) | st.binary(max_size=40))
def test_no_label_file_ends_otherwise_than_in_a_line(
    garbage_folder: Path, in_a_line: Callable[[], Any], text: Any
) -> None:
    write(garbage_folder, labels="", train=".")
    (garbage_folder / "a.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with in_a_line():
        found = yolo.read(garbage_folder, None, None)
        assert all(0 < value <= 20 for entry in found.tree["annotations"] for value in entry["bbox"][2:])
