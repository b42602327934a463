"""Pascal VOC by hand: how boxes count pixels, which mask is whose, and where images and lists are looked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskray.platform.data.formats import voc
from maskray.platform.data.formats.reading import detect_format, is_small, read_annotated
from maskray.platform.data.outlines import decode_rle
from maskray.platform.job.data_config import FilesSource

MakeImage = Callable[..., Path]


def thing(name: str, *corners: object, extra: str = "") -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def write(folder: Path, *objects: str, name: str = "a", size: tuple[object, object] = (20, 10)) -> None:
    path = folder / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    sized = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>{name}.png</filename>{sized}{''.join(objects)}</annotation>")


def write_masks(folder: Path, numbers: np.ndarray, name: str = "a") -> None:
    (folder / "SegmentationObject").mkdir(exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint8)).convert("P")
    image.save(folder / "SegmentationObject" / f"{name}.png")


@pytest.fixture
def folder(tmp_path: Path, make_image: MakeImage) -> Path:
    make_image(tmp_path / "JPEGImages/a.png")
    return tmp_path


def annotations(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = voc.read(folder, None, None).tree["annotations"]
    return found


def test_pixels_are_numbered_from_one(folder: Path) -> None:
    flags = "<difficult>1</difficult><truncated>0</truncated>"
    write(folder, thing("dog", 1, 1, 20, 10), thing("cat", 4, 2, 6, 2, extra=flags))
    found = voc.read(folder, None, None)
    assert found.tree["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert found.tree["images"] == [{"id": 1, "file_name": "JPEGImages/a.png", "width": 20, "height": 10}]
    whole, small = found.tree["annotations"]
    assert (whole["bbox"], whole["area"], whole["segmentation"]) == ([0, 0, 20, 10], 200, [])
    assert (small["bbox"], small["area"], small["difficult"]) == ([3, 1, 3, 1], 3, True)
    assert "truncated" not in small


@pytest.mark.parametrize("first", [(0, 3, 5, 8), (1.5, 3, 5, 8)])
def test_a_tool_that_counts_edges_from_zero_is_known_by_a_box(folder: Path, first: tuple[float, ...]) -> None:
    write(folder, thing("cat", *first), thing("cat", 4, 2, 6, 4))
    assert [entry["bbox"] for entry in annotations(folder)] == [[first[0], 3, 5 - first[0], 5], [4, 2, 2, 2]]


def test_each_mask_goes_to_the_box_it_fits(folder: Path) -> None:
    numbers = np.zeros((10, 20), dtype=np.uint8)
    numbers[0:4, 0:4] = 255  # a border
    numbers[1:3, 1:3] = 2
    numbers[4:10, 10:20] = 1
    numbers[6:8, 12:14] = 0  # a hole
    numbers[9, 0] = 3
    write(folder, thing("cat", 2, 2, 3, 3), thing("dog", 11, 5, 20, 10), thing("cow", 5, 1, 8, 2))
    write_masks(folder, numbers)
    found = voc.read(folder, None, None)
    cat, dog, cow = found.tree["annotations"]
    assert (decode_rle(cat["segmentation"]) == (numbers == 2)).all()
    assert (decode_rle(dog["segmentation"]) == (numbers == 1)).all()
    assert (cat["area"], dog["area"], dog["bbox"]) == (4, 56, [10, 4, 10, 6])
    assert (cow["segmentation"], cow["bbox"]) == ([], [4, 0, 4, 2])
    assert [(one.count, one.reason) for one in found.left_out] == [(1, "a mask of SegmentationObject that no box fits")]


def test_splits_are_lists_and_classes_those_of_all(folder: Path, make_image: MakeImage) -> None:
    make_image(folder / "JPEGImages/b.png")
    write(folder, thing("cat", 1, 1, 2, 2))
    write(folder, thing("dog", 1, 1, 2, 2), name="b", size=("0", ""))
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/val.txt").write_text("b 1\n")
    assert voc.splits(folder) == ("val",)
    found = voc.read(folder, "val", None)
    assert found.tree["images"] == [
        {"id": 1, "file_name": "JPEGImages/b.png", "width": 20, "height": 10, "split": "val"}
    ]
    assert [entry["name"] for entry in found.tree["categories"]] == ["cat", "dog"]
    assert found.tree["annotations"][0]["category_id"] == 2
    with pytest.raises(ValueError, match="no split 'test'"):
        voc.read(folder, "test", None)


def test_no_list_hides_images_and_a_list_may_be_the_source(folder: Path, make_image: MakeImage) -> None:
    """Segmentation names fewer than Main: what of a split has no mask is read, unless that list is asked for."""
    make_image(folder / "JPEGImages/b.png")
    for name in ("a", "b"):
        write(folder, thing("cat", 1, 1, 2, 2), name=name)
    lists = {"Main": "a\nb\nc\n", "Segmentation": "b\n"}
    for kind, text in lists.items():
        (folder / "ImageSets" / kind).mkdir(parents=True)
        (folder / "ImageSets" / kind / "train.txt").write_text(text)
    found = voc.read(folder, "train", None)
    assert [entry["file_name"] for entry in found.tree["images"]] == ["JPEGImages/a.png", "JPEGImages/b.png"]
    (left,) = found.left_out
    assert (left.count, left.reason) == (1, "an image of the list without an XML")
    assert left.where.endswith("train.txt: c")
    path = folder / "ImageSets/Segmentation/train.txt"
    assert detect_format(path) == "voc"
    few = read_annotated(path)
    assert (few.images, [entry["file_name"] for entry in few.tree["images"]]) == (folder, ["JPEGImages/b.png"])
    assert is_small(FilesSource(kind="files", path=str(path)))


def test_boxes_beside_images_in_folders_of_splits(tmp_path: Path, make_image: MakeImage) -> None:
    for name in ("train/a", "valid/b"):
        make_image(tmp_path / f"{name}.png")
        text = f"<annotation><filename>{name[-1]}.png</filename>{thing('cat', 1, 1, 2, 2)}</annotation>"
        (tmp_path / f"{name}.xml").write_text(text)
    assert voc.find(tmp_path) == "train/a.xml"
    assert [entry["file_name"] for entry in voc.read(tmp_path, "val", None).tree["images"]] == ["valid/b.png"]
    assert len(voc.read(tmp_path, None, None).tree["images"]) == 2


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([thing("cat", 5, 1, 2, "x")], "an <object> without a name or four numbers"),
        ([thing("", 5, 1, 8, 9)], "an <object> without a name or four numbers"),
        ([thing("cat", 30, 1, 38, 9)], "a shape that has no extent in its image"),
        ([thing("cat", "nan", 1, "inf", 9)], "an <object> without"),
    ],
)
def test_a_damaged_object_is_told(folder: Path, objects: list[str], message: str) -> None:
    write(folder, *objects)
    with pytest.raises(ValueError, match=f"no object can be taken: 1 x {message}"):
        voc.read(folder, None, None)


def test_masks_of_another_size_are_refused(folder: Path) -> None:
    write(folder, thing("cat", 1, 1, 2, 2))
    write_masks(folder, np.ones((10, 10)))
    with pytest.raises(ValueError, match=r"SegmentationObject/a.png: 10x10 pixels, its image has 20x10"):
        voc.read(folder, None, None)


@settings(max_examples=100)
@given(
    corners=st.lists(st.text(alphabet="0123456789.-+enaif ", max_size=6) | st.integers(-5, 40), min_size=4, max_size=4),
    size=st.tuples(st.integers(-5, 30), st.text(alphabet="0123456789e-", max_size=12)),
    masks=st.none() | st.binary(max_size=30),
)
def test_no_value_ends_otherwise_than_in_a_line(
    garbage_folder: Path, in_a_line: Callable[[], Any], corners: list[Any], size: Any, masks: bytes | None
) -> None:
    write(garbage_folder, thing("cat", *corners), thing("dog", 1, 2, 3, 4), size=size)
    file = garbage_folder / "SegmentationObject/a.png"
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    if masks is not None:
        file.write_bytes(masks)
    with in_a_line():
        found = voc.read(garbage_folder, None, None)
        assert all(x >= 0 for entry in found.tree["annotations"] for x in entry["bbox"])
