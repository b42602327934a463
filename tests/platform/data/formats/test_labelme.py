"""LabelMe by hand: every shape, groups, where images are looked for, and whatever stands in a JSON."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from maskray.platform.data.formats import labelme
from maskray.platform.data.outlines import decode_rle

MakeImage = Callable[..., Path]


def shape(kind: str | None, *points: tuple[float, float], label: str = "cat", **keys: Any) -> dict[str, Any]:
    return {"label": label, "points": [list(point) for point in points], "shape_type": kind} | keys


def write(folder: Path, *shapes: Any, name: str = "a", **keys: Any) -> Path:
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = {"shapes": list(shapes), "imagePath": f"{path.stem}.png", "imageHeight": 10, "imageWidth": 20} | keys
    path.write_text(json.dumps(tree))
    return path


@pytest.fixture
def folder(tmp_path: Path, make_image: MakeImage) -> Path:
    make_image(tmp_path / "a.png")
    return tmp_path


def annotations(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = labelme.read(folder, None, None).tree["annotations"]
    return found


def test_polygon_and_rectangle_of_any_two_corners(folder: Path) -> None:
    write(folder, shape("polygon", (1, 1), (5, 1), (5, 4), (1, 4)), shape("rectangle", (9, 8), (3, 2), label="dog"))
    polygon, rectangle = annotations(folder)
    assert (polygon["segmentation"], polygon["bbox"], polygon["area"]) == ([[1, 1, 5, 1, 5, 4, 1, 4]], [1, 1, 4, 3], 12)
    assert (rectangle["bbox"], rectangle["area"], rectangle["category_id"]) == ([3, 2, 6, 6], 36, 2)
    assert coco_mask.area(coco_mask.frPyObjects(rectangle["segmentation"], 10, 20)).tolist() == [36]


def test_circle_and_ellipse_have_their_extremes_and_their_area(tmp_path: Path, make_image: MakeImage) -> None:
    make_image(tmp_path / "a.png", 400, 300)
    circle, ellipse = shape("circle", (200, 150), (200, 250)), shape("ellipse", (50, 100), (350, 200))
    write(tmp_path, circle, ellipse, imageHeight=300, imageWidth=400)
    first, second = annotations(tmp_path)
    assert first["bbox"] == [100, 50, 200, 200]
    assert first["area"] == pytest.approx(math.pi * 100**2, rel=2e-3)
    assert second["bbox"] == [50, 100, 300, 100]
    assert second["area"] == pytest.approx(math.pi * 150 * 50, rel=3e-3)


def test_shapes_of_a_group_and_a_label_are_one_object(folder: Path) -> None:
    parts = [shape("rectangle", (0, 0), (2, 2), group_id=1), shape("rectangle", (6, 0), (8, 2), group_id=1)]
    write(
        folder, *parts, shape("rectangle", (4, 4), (5, 5), group_id=1, label="dog"), shape(None, (0, 5), (3, 5), (3, 9))
    )
    joined, dog, alone = annotations(folder)
    assert joined["segmentation"] == [[0, 0, 2, 0, 2, 2, 0, 2], [6, 0, 8, 0, 8, 2, 6, 2]]
    assert (joined["bbox"], joined["area"]) == ([0, 0, 8, 2], 8)
    assert (dog["bbox"], alone["bbox"]) == ([4, 4, 1, 1], [0, 5, 3, 4])


def test_a_mask_keeps_its_hole(folder: Path) -> None:
    pixels = np.full((4, 5), 255, dtype=np.uint8)
    pixels[1:3, 2] = 0
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    write(folder, shape("mask", (3, 2), (7, 5), mask=text), shape("rectangle", (0, 0), (2, 2)))
    (found, _) = annotations(folder)
    expected = np.zeros((10, 20), dtype=np.uint8)
    expected[2:6, 3:8] = pixels // 255
    assert (decode_rle(found["segmentation"]) == expected).all()
    assert (found["bbox"], found["area"]) == ([3, 2, 5, 4], 18)
    write(folder, shape("mask", (3, 2), (7, 5), mask=text, group_id=4), shape("rectangle", (0, 0), (4, 3), group_id=4))
    (union,) = annotations(folder)
    expected[:3, :4] = 1
    assert (decode_rle(union["segmentation"]) == expected).all()
    assert (union["bbox"], union["area"]) == ([0, 0, 8, 6], expected.sum())


def test_what_has_no_extent_is_told(folder: Path) -> None:
    lines = [shape("line", (0, 0), (3, 3)), shape("linestrip", (0, 0), (3, 3)), shape("point", (1, 1))]
    write(folder, shape("rectangle", (0, 0), (2, 2)), *lines, shape("rectangle", (0, 0), (2, 2), label="__ignore__"))
    found = labelme.read(folder, None, None)
    assert len(found.tree["annotations"]) == 1
    assert [(one.count, one.reason.split(",")[0]) for one in found.left_out] == [
        (2, "lines"), (1, "points"), (1, "a shape that labels no object (__ignore__"),
    ]  # fmt: skip


@pytest.mark.parametrize("written", ["..\\img\\b.png", "../img/b.png", "C:\\work\\b.png", "/home/me/b.png", "b.png"])
def test_an_image_is_found_where_tools_say_it_is(tmp_path: Path, make_image: MakeImage, written: str) -> None:
    make_image(tmp_path / "img/b.png")
    write(tmp_path, shape("rectangle", (0, 0), (2, 2)), name="ann/b", imagePath=written)
    found = labelme.read(tmp_path, None, None)
    assert [entry["file_name"] for entry in found.tree["images"]] == ["img/b.png"]
    assert labelme.read(tmp_path, None, tmp_path / "img").tree["images"][0]["file_name"] == "b.png"


def test_splits_are_folders_and_sizes_may_be_missing(tmp_path: Path, make_image: MakeImage) -> None:
    for name in ("train/a", "val/b"):
        make_image(tmp_path / f"{name}.png")
        write(tmp_path, shape("rectangle", (0, 0), (2, 2)), name=name, imageHeight=None, imageWidth=None)
    assert labelme.splits(tmp_path) == ("train", "val")
    write(
        tmp_path, shape("rectangle", (0, 0), (2, 2), label="ant"), shape("point", (1, 1), label="dot"), name="train/a"
    )
    found = labelme.read(tmp_path, "val", None)
    (entry,) = found.tree["images"]
    assert [one["name"] for one in found.tree["categories"]] == ["ant", "cat"]  # those of train too
    assert (entry["file_name"], entry["width"], entry["height"]) == ("val/b.png", 20, 10)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"imagePath": "away.png", "imageData": "aGVq"}, r"its image away.png is not in .* \(imageData in the JSON"),
        ({"imagePath": None}, "no imagePath"),
        ({"shapes": {}}, "shapes are not a list"),
        ({"imageWidth": 10**9, "imageHeight": 10**9}, "size 1000000000x1000000000"),
        ({"shapes": [shape("polygon", (1, 1), (2, 2))]}, "no object can be taken: 1 x a polygon of fewer than three"),
        ({"shapes": [shape("rectangle", (30, 30), (40, 40))]}, "no extent in its image"),
        ({"shapes": [shape("star", (1, 1), (2, 2))]}, "a shape of an unknown type"),
        ({"shapes": [shape("circle", (1, 1))]}, "a circle that has not two points"),
        ({"shapes": [shape("rectangle", (0, 0), (2, 2), label=" ")]}, "a shape without a label"),
        ({"shapes": [shape("mask", (0, 0), (2, 2), mask="AAAA")]}, "a mask that is no PNG"),
        ({"shapes": [shape("polygon", (0, 0), (math.nan, 2), (1, 1))]}, "points that are not pairs of numbers"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, keys: dict[str, Any], message: str) -> None:
    write(folder, name="z", **({"imagePath": "a.png"} | keys))
    with pytest.raises(ValueError, match=message) as caught:
        labelme.read(folder, None, None)
    assert "\n" not in str(caught.value)


def test_one_image_of_two_files_is_refused(folder: Path) -> None:
    for name in ("a", "b"):
        write(folder, shape("rectangle", (0, 0), (2, 2)), name=name, imagePath="a.png")
    with pytest.raises(ValueError, match="is annotated twice"):
        labelme.read(folder, None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["mask", "circle"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["label", "points", "mask"]), inner),
    max_leaves=8,
)


@settings(max_examples=150)
@given(
    key=st.sampled_from(["shapes", "imagePath", "imageHeight", "imageWidth"]),
    inner=st.sampled_from([None, "label", "points", "shape_type", "group_id", "mask"]),
    value=JSON,
)
def test_no_json_value_ends_otherwise_than_in_a_line(
    garbage_folder: Path, in_a_line: Callable[[], Any], key: str, inner: str | None, value: Any
) -> None:
    whole = shape("rectangle", (0, 0), (2, 2))
    write(garbage_folder, *([whole, whole | {inner: value}] if inner else []), **({} if inner else {key: value}))
    with in_a_line():
        found = labelme.read(garbage_folder, None, None)
        assert all(x >= 0 for entry in found.tree["annotations"] for x in entry["bbox"])
