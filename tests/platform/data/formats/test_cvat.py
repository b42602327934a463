"""CVAT's XML by hand: every shape, groups, subsets, and XML that is of another kind or hostile."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskray.platform.data.formats import cvat
from maskray.platform.data.outlines import decode_rle

MakeImage = Callable[..., Path]
KEYS = ("points", "xtl", "ytl", "xbr", "ybr", "rotation", "cx", "cy", "rx", "ry", "left", "top", "width", "height")
LABELS = "".join(f"<label><name>{name}</name></label>" for name in ("dog", "cat"))
META = f"<meta><task><labels>{LABELS}</labels></task></meta>"
BOX = '<box label="cat" xtl="1" ytl="2" xbr="9.5" ybr="8" occluded="1"/>'


def write(folder: Path, *shapes: str, images: str | None = None) -> Path:
    image = f'<image id="0" name="a.png" width="20" height="10">{"".join(shapes)}</image>'
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    path = folder / "annotations.xml"
    path.write_text(f"{head}{META}{images or image}</annotations>")
    return path


@pytest.fixture
def folder(tmp_path: Path, make_image: MakeImage) -> Path:
    make_image(tmp_path / "images/a.png")
    return tmp_path


def annotations(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cvat.read(folder, None, None).tree["annotations"]
    return found


def test_polygon_and_box_by_hand(folder: Path) -> None:
    write(folder, '<polygon label="dog" points="1.0,1.0;5.0,1.0;5.0,4.0;1.0,4.0"/>', BOX)
    found = cvat.read(folder, None, None)
    assert found.tree["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]  # in the task's order
    assert found.tree["images"] == [{"id": 1, "file_name": "images/a.png", "width": 20, "height": 10}]
    polygon, box = found.tree["annotations"]
    assert (polygon["segmentation"], polygon["bbox"], polygon["area"]) == ([[1, 1, 5, 1, 5, 4, 1, 4]], [1, 1, 4, 3], 12)
    assert (box["segmentation"], box["bbox"], box["area"], box["category_id"]) == ([], [1, 2, 8.5, 6], 51, 2)
    assert box["occluded"] is True
    assert "occluded" not in polygon


def test_a_turned_box_is_its_four_corners(folder: Path) -> None:
    write(folder, '<box label="cat" xtl="6" ytl="4" xbr="14" ybr="6" rotation="90"/>')
    (found,) = annotations(folder)
    assert (found["bbox"], found["area"]) == ([9, 1, 2, 8], 16)  # around its middle (10, 5)
    assert len(found["segmentation"][0]) == 8


def test_ellipses(tmp_path: Path, make_image: MakeImage) -> None:
    make_image(tmp_path / "a.png", 400, 300)
    ellipse = '<ellipse label="cat" cx="200" cy="150" rx="100" ry="50"{}/>'
    shapes = ellipse.format("") + ellipse.format(' rotation="90"')
    write(tmp_path, images=f'<image name="a.png" width="400" height="300">{shapes}</image>')
    straight, turned = annotations(tmp_path)
    assert straight["bbox"] == [100, 100, 200, 100]
    assert turned["bbox"] == [150, 50, 100, 200]
    assert straight["area"] == pytest.approx(math.pi * 5000, rel=3e-3)


def test_a_mask_by_hand_keeps_its_hole(folder: Path) -> None:
    # rows of 5: .###. / ##.## / .###. ; it stands 2 to the right and 4 down
    write(folder, '<mask label="cat" left="2" top="4" width="5" height="3" rle="1, 3, 1, 2, 1, 2, 1, 3, 1"/>')
    (found,) = annotations(folder)
    expected = np.zeros((10, 20), dtype=np.uint8)
    expected[4:7, 2:7] = [[0, 1, 1, 1, 0], [1, 1, 0, 1, 1], [0, 1, 1, 1, 0]]
    assert (decode_rle(found["segmentation"]) == expected).all()
    assert (found["bbox"], found["area"]) == ([2, 4, 5, 3], 10)


def test_shapes_of_a_group_and_a_label_are_one_object(folder: Path) -> None:
    square = '<polygon label="{}" points="{x},0;{y},0;{y},2;{x},2" group_id="{}"/>'
    shapes = [square.format("cat", 3, x=0, y=2), square.format("dog", 3, x=3, y=4), square.format("cat", 3, x=6, y=8)]
    write(folder, *shapes, *[square.format("cat", 0, x=10, y=11)] * 2)
    joined, dog, one, other = annotations(folder)
    assert joined["segmentation"] == [[0, 0, 2, 0, 2, 2, 0, 2], [6, 0, 8, 0, 8, 2, 6, 2]]
    assert (joined["bbox"], joined["area"], dog["bbox"]) == ([0, 0, 8, 2], 8, [3, 0, 1, 2])
    assert one["bbox"] == other["bbox"] == [10, 0, 1, 2]  # group 0 is none


def test_a_box_in_a_group_is_the_box_of_its_object_and_several_are_objects(folder: Path) -> None:
    polygon = '<polygon label="cat" points="1,1;5,1;5,4;1,4" group_id="2"/>'
    box = '<box label="cat" xtl="0.5" ytl="1" xbr="6" ybr="4" group_id="2"/>'
    write(folder, box, polygon)
    (both,) = annotations(folder)
    assert (both["bbox"], both["segmentation"], both["area"]) == ([0.5, 1, 5.5, 3], [[1, 1, 5, 1, 5, 4, 1, 4]], 12)
    write(folder, box, polygon, box)
    assert [bool(entry["segmentation"]) for entry in annotations(folder)] == [False, False, True]
    write(folder, box, box)
    assert len(annotations(folder)) == 2


def test_what_has_no_mask_is_told_and_subsets_are_splits(folder: Path, make_image: MakeImage) -> None:
    make_image(folder / "images/Validation/b.png")
    others = '<points label="cat" points="1,1"/><polyline label="cat" points="1,1;2,2"/><tag label="cat"/>'
    parts = [f'<image name="{n}.png" subset="{s}" width="20" height="10">{BOX}{others}</image>'
             for n, s in (("a", "Train"), ("b", "Validation"))]  # fmt: skip
    write(folder, images="".join(parts))
    found = cvat.read(folder, None, None)
    assert [(one.count, one.reason) for one in found.left_out] == [
        (2, "<points>, which is not read"), (2, "<polyline>, which is not read"), (2, "<tag>, which is not read"),
    ]  # fmt: skip
    assert cvat.splits(folder) == ("train", "val")
    (image,) = cvat.read(folder, "val", None).tree["images"]
    assert image == {"id": 1, "file_name": "images/Validation/b.png", "width": 20, "height": 10, "split": "val"}
    with pytest.raises(ValueError, match="no image of a subset 'test'"):
        cvat.read(folder, "test", None)


def test_several_files_are_splits_or_have_to_be_named(folder: Path) -> None:
    text = f'<annotations><image name="a.png" width="20" height="10">{BOX}</image></annotations>'
    for name in ("train.xml", "Val.xml"):
        (folder / name).write_text(text)
    (folder / "annotations.xml").unlink(missing_ok=True)
    assert cvat.splits(folder) == ("train", "val")
    found = cvat.read(folder, "val", None)
    assert (found.name, len(found.tree["images"])) == (str(folder / "Val.xml"), 1)
    for split in (None, "test"):
        with pytest.raises(ValueError, match=r"several files of CVAT \(Val\.xml, train\.xml\)"):
            cvat.read(folder, split, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object/></annotation>", "its root is <annotation>"),
        ("<annotations><track id='0'/></annotations>", "tracks of a video"),
        ("<annotations>", "not XML that can be read: no element found"),
        ("<annotations></annotations>", "no images"),
        ("<!DOCTYPE a><annotations/>", "a document type or an entity"),
        ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>', "a document type"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>', "a document type"),
        ("<a>" * 60 + "</a>" * 60, "nested too deeply"),
        ("<annotations><image name='a' width='x' height='3'/></annotations>", "width and height are not whole numbers"),
        ("<annotations><image name='a' width='1000000' height='1000000'/></annotations>", "size 1000000x1000000"),
        ("<annotations><image width='3' height='3'/></annotations>", "an image has no name"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, text: str, message: str, encoding: str) -> None:
    (tmp_path / "annotations.xml").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=message) as caught:
        cvat.read(tmp_path, None, None)
    assert str(caught.value).startswith(str(tmp_path / "annotations.xml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            '<mask label="cat" left="0" top="0" width="3" height="2" rle="1, 2"/>',
            "does not add up to its width x height",
        ),
        ('<mask label="cat" left="0" top="0" width="3" height="2" rle="-1, 7"/>', "does not add up"),
        ('<mask label="cat" left="0" top="0" width="99999" height="99999" rle="1"/>', "a mask larger than its image"),
        ('<polygon label="cat" points="1,1;2"/>', "points are not pairs of numbers"),
        ('<polygon label="cat" points="1,1;2,2;1e300,4"/>', "far outside its image"),
        ('<box label="cat" xtl="1" ytl="2" xbr="nan" ybr="8"/>', "a <box> without a number xbr"),
        ('<ellipse label="cat" cx="1" cy="2" rx="-3" ry="8"/>', "an ellipse without extent"),
        ('<box xtl="1" ytl="2" xbr="3" ybr="8"/>', "a shape without a label"),
        ('<box label="cow" xtl="1" ytl="2" xbr="3" ybr="8"/>', "label 'cow' is not among the labels"),
    ],
)
def test_a_damaged_shape_is_told(folder: Path, shape: str, message: str) -> None:
    write(folder, shape)
    with pytest.raises(ValueError, match=message):
        cvat.read(folder, None, None)


@settings(max_examples=150)
@given(
    tag=st.sampled_from(["polygon", "box", "ellipse", "mask", "points"]),
    values=st.lists(st.text(alphabet="0123456789.,;-+e naif", max_size=12), min_size=14, max_size=14),
    whole=st.booleans(),
)
def test_no_attribute_ends_otherwise_than_in_a_line(
    garbage_folder: Path, in_a_line: Callable[[], Any], tag: str, values: list[str], whole: bool
) -> None:
    attributes = " ".join(f'{key}="{value}"' for key, value in zip(KEYS, values, strict=True))
    shape = f'<{tag} label="cat" group_id="{values[0]}" rle="{values[1]}" {attributes}/>'
    write(garbage_folder, shape, BOX if whole else "")
    with in_a_line():
        found = cvat.read(garbage_folder, None, None)
        assert all(x >= 0 for entry in found.tree["annotations"] for x in entry["bbox"])


@settings(max_examples=80)
@given(st.binary(max_size=80) | st.text(alphabet="<>/=!?&;\"' abcimage[]-", max_size=80).map(str.encode))
def test_no_file_ends_otherwise_than_in_a_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "annotations.xml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"annotations\.xml"):
        cvat.read(path, None, None)
