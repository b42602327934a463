"""Data sets in Python are what the readers of `maskray data` read, with pixels as training sees them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskray import api
from maskray.platform.data.conversion import convert
from maskray.platform.data.formats.coco import dataset_of_tree
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.data.synthetic.dataset import SyntheticPaths


def test_a_coco_file_comes_back_as_it_is(data: api.Data, drawn: SyntheticPaths) -> None:
    tree = json.loads(drawn.annotations.read_text())
    assert len(data) == len(data.images) == len(tree["images"]) == 6
    assert data.classes == tuple(category["name"] for category in tree["categories"])
    assert (data.format, data.folder) == ("coco", drawn.images)
    assert data.problems == []
    by_id = {entry["id"]: entry for entry in data.annotations}
    assert sorted(by_id) == sorted(entry["id"] for entry in tree["annotations"])
    for entry in tree["annotations"]:
        assert {key: by_id[entry["id"]][key] for key in ("image_id", "category_id", "bbox", "area", "iscrowd")} == {
            key: entry[key] for key in ("image_id", "category_id", "bbox", "area", "iscrowd")
        }
    again = dataset_of_tree("again", json.loads(json.dumps(data.to_coco())), drawn.images)
    assert list(again.images) == list(data._dataset.images)
    assert again.labels == data._dataset.labels
    assert repr(data) == f"<{drawn.annotations}, coco: 6 images, 4 classes>"


def test_images_are_a_sequence(data: api.Data) -> None:
    assert [one.image_id for one in data.images] == [data.images[at].image_id for at in range(6)]
    assert [one.image_id for one in data] == [one.image_id for one in data.images]
    assert [one.image_id for one in data.images[4:]] == [data.images[4].image_id, data.images[-1].image_id]
    with pytest.raises(IndexError):
        data.images[6]


def test_an_image_has_its_objects(data: api.Data) -> None:
    first = next(one for one in data.images if len(one) > 0)
    assert first.image.shape == (*first.size, 3) == (64, 96, 3)
    assert first.path.is_file()
    assert set(first.classes) <= set(data.classes)
    assert first.masks.shape == (len(first), 64, 96)
    for (x0, y0, x1, y1), mask in zip(first.boxes, first.masks):
        rows, columns = np.nonzero(mask)
        assert x0 <= columns.min() + 1
        assert columns.max() <= x1
        assert y0 <= rows.min() + 1
        assert rows.max() <= y1
    assert (first.draw() != first.image).any()


def test_other_formats_have_the_same_objects(data: api.Data, drawn: SyntheticPaths, tmp_path: Path) -> None:
    found = read_annotated(drawn.annotations, images=drawn.images)
    convert(found, dataset_of_tree(found.name, found.tree, found.images), "yolo", tmp_path / "yolo")
    other = api.read_data(tmp_path / "yolo")
    assert other.format == "yolo"
    assert other.classes == data.classes
    assert len(other) == len(data)


def test_pixels_are_in_the_frame_of_the_annotations(tmp_path: Path) -> None:
    """Where a tool has annotated the stored, unrotated image."""
    picture = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    tree = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(tree))
    (one,) = api.read_data(tmp_path / "a.json", images=tmp_path).images
    assert one.image.shape == (40, 60, 3)
    assert one.masks is None


def test_what_is_wrong_is_told(drawn: SyntheticPaths, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        api.read_data(tmp_path / "none")
    with pytest.raises(ValueError, match="format 'foo' is none of"):
        api.read_data(drawn.annotations, format="foo")
    images = shutil.copytree(drawn.images, tmp_path / "images")
    data = api.read_data(drawn.annotations, images=images)
    data.images[0].path.unlink()
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        _ = data.images[0].image
    data.images[1].path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="image cannot be decoded"):
        _ = data.images[1].image


def test_problems_are_lines(drawn: SyntheticPaths, tmp_path: Path) -> None:
    tree = json.loads(drawn.annotations.read_text())
    tree["annotations"][0]["id"] = str(tree["annotations"][0]["id"])
    (tmp_path / "odd.json").write_text(json.dumps(tree))
    (line,) = api.read_data(tmp_path / "odd.json", images=drawn.images).problems
    assert "id" in line
