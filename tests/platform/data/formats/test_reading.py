"""Telling formats apart, the checked data set of a tree, and what is half there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskray.platform.data.formats.coco import dataset_of_tree
from maskray.platform.data.formats.reading import (
    FORMATS,
    detect_format,
    is_small,
    list_splits,
    read_annotated,
    read_files,
)
from maskray.platform.job.data_config import FilesSource

MakeImage = Callable[..., Path]
COCO = {"images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}], "annotations": [],
        "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
LVIS = {**COCO, "images": [{"id": 1, "coco_url": "http://host/x/a.png", "width": 20, "height": 10}]}
LABELME = {"shapes": [{"label": "a", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"}], "imagePath": "a.png",
           "imageHeight": 10, "imageWidth": 20}  # fmt: skip
BOX = '<box label="a" xtl="0" ytl="0" xbr="2" ybr="2"/>'
CVAT = f'<annotations><image name="a.png" width="20" height="10">{BOX}</image></annotations>'
CORNERS = "".join(f"<{key}>{value}</{key}>" for key, value in (("xmin", 1), ("ymin", 1), ("xmax", 2), ("ymax", 2)))
THING = f"<object><name>a</name><bndbox>{CORNERS}</bndbox></object>"
VOC = f"<annotation><filename>a.png</filename>{THING}</annotation>"
FILES: dict[str, dict[str, Any]] = {
    "roboflow": {"train/_annotations.coco.json": COCO, "train/a.png": None},
    "yolo": {"data.yaml": "names: [a]\ntrain: images", "images/a.png": None, "labels/a.txt": "0 0.5 0.5 1 1"},
    "cvat": {"annotations.xml": CVAT, "a.png": None},
    "voc": {"Annotations/a.xml": VOC, "JPEGImages/a.png": None},
    "instance_masks": {"images/a.png": None, "masks/a.png": None},
    "cityscapes": {
        "gtFine/train/x/x_0_1_gtFine_polygons.json": {"imgWidth": 20, "imgHeight": 10, "objects": []},
        "gtFine/train/x/x_0_1_gtFine_instanceIds.png": "ids",
        "leftImg8bit/train/x/x_0_1_leftImg8bit.png": None,
    },
    "coco": {"annotations.json": COCO, "a.png": None},
    "lvis": {"annotations.json": LVIS, "a.png": None},
    "labelme": {"a.json": LABELME, "a.png": None},
}


@pytest.fixture
def make_source(tmp_path: Path, make_image: MakeImage) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        for file, content in FILES[name].items():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                make_image(path)
            elif content == "ids":
                Image.fromarray(np.full((10, 20), 26000, dtype=np.uint16)).save(path)
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return make


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_told_and_read(make_source: Callable[[str], Path], name: str) -> None:
    folder = make_source(name)
    assert detect_format(folder) == name
    found = read_annotated(folder)
    assert (found.format, len(found.tree["images"])) == (name, 1)
    assert len(dataset_of_tree(found.name, found.tree, found.images).images) == 1
    source = FilesSource(path=str(folder))
    assert is_small(source)
    assert len(read_files(source).tree["images"]) == 1
    assert list_splits(folder) == (("train",) if name in ("roboflow", "yolo", "cityscapes") else ())
    if name not in ("voc", "instance_masks", "cityscapes"):  # of a folder
        assert detect_format(folder / next(iter(FILES[name]))) == name


def test_an_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no annotations of a known format\. Looked for") as caught:
        detect_format(tmp_path)
    for part in ("data.yaml", "annotations.xml", "Annotations/*.xml", "_annotations.coco.json", "masks", "imagePath"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    for name in FORMATS:
        with pytest.raises(ValueError, match=str(tmp_path)):
            read_annotated(tmp_path, name)
    with pytest.raises(ValueError, match="no such file or folder"):
        detect_format(tmp_path / "absent")
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="a packed file: unpack it"):
        detect_format(tmp_path / "data.zip")
    with pytest.raises(ValueError, match="format 'tiff' is none of auto, roboflow, yolo"):
        read_annotated(tmp_path, "tiff")


def test_two_formats_in_one_folder_are_a_question(make_source: Callable[[str], Path]) -> None:
    make_source("yolo")
    folder = make_source("cvat")
    with pytest.raises(ValueError, match=r"several formats: yolo \(data.yaml\), cvat \(annotations.xml\)"):
        detect_format(folder)
    assert read_annotated(folder, "cvat").format == "cvat"


def test_text_files_and_lists_of_classes_are_not_yolo(make_source: Callable[[str], Path]) -> None:
    folder = make_source("labelme")
    (folder / "classes.txt").write_text("a\n")
    (folder / "README.txt").write_text("1 2 3: how these were made\n")
    assert detect_format(folder) == "labelme"


def test_one_file_is_not_train_and_val_at_once(make_source: Callable[[str], Path]) -> None:
    folder = make_source("coco")
    for path in (folder, folder / "annotations.json"):
        with pytest.raises(ValueError, match="no JSON file has the split 'val' in its name"):
            read_annotated(path, split="val")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"instance_masks", "cityscapes"}))
def test_annotations_of_missing_images_are_one_line(make_source: Callable[[str], Path], name: str) -> None:
    folder = make_source(name)
    next(folder.rglob("*.png")).unlink()
    with pytest.raises(ValueError, match=r"no images|no such image|its image|none of its 1 images") as caught:
        read_annotated(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.json", {**COCO, "images": [{**COCO["images"][0], "file_name": "a\nb\x1b[31m.png"}]}),
        ("annotations.xml", CVAT.replace("a.png", "../a&#10;b.png")),
        ("a.json", {**LABELME, "imagePath": "a\nb\x1b[31m.png"}),
        ("a.json", {**LABELME, "imagePath": "a\n" * 5000}),
    ],
)
def test_odd_names_in_files_leave_an_error_one_line(tmp_path: Path, file: str, content: Any) -> None:
    (tmp_path / file).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=r"its image|none of its 1 images|too long") as caught:
        read_annotated(tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 2000


def test_the_digest_covers_tree_and_images(tmp_path: Path, make_image: MakeImage) -> None:
    digests = [dataset_of_tree("a", COCO, tmp_path).digest]
    make_image(tmp_path / "a.png")
    digests.append(dataset_of_tree("a", COCO, tmp_path).digest)
    digests.append(dataset_of_tree("a", COCO | {"categories": [{"id": 1, "name": "dog"}]}, tmp_path).digest)
    assert len(set(digests)) == 3
    assert dataset_of_tree("b", dict(reversed(COCO.items())), tmp_path).digest == digests[1]


@settings(max_examples=100)
@given(
    name=st.sampled_from(["a.json", "a.xml", "data.yaml", "annotations/b.json", "classes.txt", "masks/a.png"]),
    data=st.binary(max_size=60)
    | st.sampled_from([b'{"images": 3, "annotations": 4}', b"<annotation>", b'"shapes" "imagePath"']),
)
def test_no_file_ends_otherwise_than_in_a_line(garbage_folder: Path, name: str, data: bytes) -> None:
    path = garbage_folder / "source" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    for format in ("auto", *FORMATS):
        with pytest.raises(ValueError, match=r"\S") as caught:
            read_annotated(garbage_folder / "source", format)
        assert "\n" not in str(caught.value)
    path.unlink()
