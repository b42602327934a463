"""Folders of instance masks by hand: numbers, colours and one file an object, with and without classes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskray.platform.data.formats import instance_masks
from maskray.platform.data.outlines import decode_rle

MakeImage = Callable[..., Path]
NUMBERS = np.zeros((10, 20), dtype=np.uint16)
NUMBERS[1:6, 2:7] = 700
NUMBERS[3, 4] = 0  # a hole
NUMBERS[8:10, 0:3] = 2
NUMBERS[8, 10:12] = 2  # another part of it


def write_mask(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers).save(path)


@pytest.fixture
def folder(tmp_path: Path, make_image: MakeImage) -> Path:
    make_image(tmp_path / "images/a.png")
    make_image(tmp_path / "images/not-annotated.png")
    return tmp_path


def masks_of(tree: dict[str, Any]) -> list[np.ndarray]:
    return [decode_rle(entry["segmentation"]) for entry in tree["annotations"]]


def test_numbers_of_sixteen_bits_are_objects(folder: Path) -> None:
    write_mask(folder / "masks/a.png", NUMBERS)
    found = instance_masks.read(folder, None, None)
    assert found.tree["images"] == [{"id": 1, "file_name": "images/a.png", "width": 20, "height": 10}]
    assert found.tree["categories"] == [{"id": 1, "name": "object"}]
    first, second = masks_of(found.tree)  # by number
    assert (first == (NUMBERS == 2)).all()
    assert (second == (NUMBERS == 700)).all()
    assert [(entry["bbox"], entry["area"]) for entry in found.tree["annotations"]] == [
        ([0, 8, 12, 2], 8), ([2, 1, 5, 5], 24),
    ]  # fmt: skip


def test_colours_and_palettes_are_numbers_too(folder: Path) -> None:
    colours = np.zeros((10, 20, 3), dtype=np.uint8)
    colours[NUMBERS == 2] = (0, 0, 9)
    colours[NUMBERS == 700] = (255, 0, 0)
    write_mask(folder / "masks/a.png", colours)
    by_colour = instance_masks.read(folder, None, None).tree["annotations"]
    palette = Image.fromarray((NUMBERS % 256).astype(np.uint8)).convert("L").quantize(4)
    palette.putpalette([10, 20, 30] * 4)  # all colours alike: the index counts
    indices = np.asarray(palette)
    palette.save(folder / "masks/a.png")
    by_index = instance_masks.read(folder, None, None).tree["annotations"]
    assert sorted(entry["area"] for entry in by_colour) == [8, 24]
    assert len(by_index) == len(set(indices[indices > 0].tolist()))


def test_one_file_an_object_and_splits(tmp_path: Path, make_image: MakeImage) -> None:
    for split in ("train", "valid"):
        make_image(tmp_path / split / "images/deep/a.jpg")
        for number in (2, 700):
            mask = (number == NUMBERS).astype(np.uint8) * 255
            mask[mask > 0] -= np.arange((mask > 0).sum(), dtype=np.uint8)  # as JPEG or smoothing leave it
            write_mask(tmp_path / split / f"masks/deep/a/{number}.png", mask)
    assert instance_masks.splits(tmp_path) == ("train", "val")
    found = instance_masks.read(tmp_path, "val", None)
    assert found.tree["images"] == [
        {"id": 1, "file_name": "valid/images/deep/a.jpg", "width": 20, "height": 10, "split": "val"}
    ]
    assert [mask.sum() for mask in masks_of(found.tree)] == [8, 24]
    assert len(instance_masks.read(tmp_path, None, None).tree["images"]) == 2


def test_classes_of_a_file(folder: Path) -> None:
    write_mask(folder / "masks/a.png", NUMBERS)
    (folder / "classes.txt").write_text("cell\n")
    assert instance_masks.read(folder, None, None).tree["categories"] == [{"id": 1, "name": "cell"}]
    (folder / "classes.txt").write_text("cell\nnucleus\n")
    with pytest.raises(ValueError, match=r"2 classes in classes.txt: categories.json must say"):
        instance_masks.read(folder, None, None)
    table = {"categories": ["nucleus", "cell"], "objects": {"a.png": {"2": "cell", "700": "nucleus"}}}
    (folder / "categories.json").write_text(json.dumps(table))
    found = instance_masks.read(folder, None, None)
    assert [entry["category_id"] for entry in found.tree["annotations"]] == [2, 1]
    (folder / "categories.json").write_text(json.dumps(table | {"objects": {}}))
    with pytest.raises(
        ValueError, match=r"no object can be taken: 2 x an object whose class is not in categories.json"
    ):
        instance_masks.read(folder, None, None)


def test_a_mask_of_zeros_is_an_image_without_objects(folder: Path) -> None:
    write_mask(folder / "masks/a.png", np.zeros((10, 20), dtype=np.uint8))
    tree = instance_masks.read(folder, None, None).tree
    assert (len(tree["images"]), tree["annotations"]) == (1, [])


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("b.png", NUMBERS, r"masks/b.png: no image of this name"),
        ("a.png", NUMBERS[:5], r"masks/a.png: 20x5 pixels, its image has 20x10"),
        ("a.tif", NUMBERS.astype(np.float32), "floating point"),
        ("a.png", None, "cannot be decoded"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, name: str, numbers: np.ndarray | None, message: str) -> None:
    if numbers is None:
        (folder / "masks").mkdir()
        (folder / "masks" / name).write_bytes(b"no image")
    else:
        write_mask(folder / "masks" / name, numbers)
    with pytest.raises(ValueError, match=message) as caught:
        instance_masks.read(folder, None, None)
    assert "\n" not in str(caught.value)


def png(numbers: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(numbers).save(file, "png")
    return file.getvalue()


PNG = png(NUMBERS.astype(np.uint8))


@settings(max_examples=60)
@given(st.binary(max_size=60) | st.integers(0, len(PNG)).map(lambda cut: PNG[:cut] + bytes(9) + PNG[cut + 9 :]))
def test_no_mask_ends_otherwise_than_in_a_line(garbage_folder: Path, in_a_line: Callable[[], Any], data: bytes) -> None:
    for place in ("images", "masks"):
        (garbage_folder / place).mkdir(exist_ok=True)
    (garbage_folder / "images/a.png").write_bytes((garbage_folder / "a.png").read_bytes())
    (garbage_folder / "masks/a.png").write_bytes(data)
    with in_a_line():
        found = instance_masks.read(garbage_folder, None, None)
        boxes = [entry["bbox"] for entry in found.tree["annotations"]]
        assert boxes or not data.startswith(PNG)
        assert all(0 <= x < x + w <= 20 and 0 <= y < y + h <= 10 for x, y, w, h in boxes)
