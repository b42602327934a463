"""COCO and LVIS files in folders: which of several is meant, where the images are, and names made of addresses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskray.platform.data.formats import coco_files

MakeImage = Callable[..., Path]


def tree(*names: str, **keys: Any) -> dict[str, Any]:
    images = [{"id": i, "file_name": name, "width": 20, "height": 10} | keys for i, name in enumerate(names)]
    return {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}


def write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("result.json", "a.png"),
        ("result.json", "images/a.png"),
        ("annotations/instances_train2017.json", "train2017/a.png"),
        ("annotations/instances_train2017.json", "images/train2017/a.png"),
        ("annotations/train.json", "train/a.png"),
        ("labels.json", "data/a.png"),
    ],
)
def test_the_images_folder_is_found(tmp_path: Path, make_image: MakeImage, file: str, image: str) -> None:
    make_image(tmp_path / image)
    path = write(tmp_path / file, tree("a.png"))
    assert coco_files.find(tmp_path) == file
    assert coco_files.find(path) == path.name
    assert coco_files.find_lvis(tmp_path) is None
    assert {coco_files.read(where, None, None).images for where in (tmp_path, path)} == {(tmp_path / image).parent}


def test_of_several_files_the_split_names_one(tmp_path: Path, make_image: MakeImage) -> None:
    make_image(tmp_path / "val2017/a.png")
    make_image(tmp_path / "train2017/b.png")
    for name in ("instances_val2017", "person_keypoints_val2017", "instances_train2017"):
        write(tmp_path / "annotations" / f"{name}.json", tree("a.png" if "val" in name else "b.png"))
    assert coco_files.splits(tmp_path) == ("train", "val")
    found = coco_files.read(tmp_path, "val", None)
    assert (Path(found.name).name, found.images.name) == ("instances_val2017.json", "val2017")
    with pytest.raises(ValueError, match=r"several COCO files .*: name one of them, or a split"):
        coco_files.read(tmp_path, None, None)
    with pytest.raises(ValueError, match="no JSON file has the split 'test' in its name"):
        coco_files.read(tmp_path, "test", None)
    write(tmp_path / "other/val.json", tree("a.png"))
    with pytest.raises(ValueError, match="no JSON file has the split 'train'"):
        coco_files.read(tmp_path / "other", "train", None)


def test_images_that_are_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", tree("b.png"))
    with pytest.raises(ValueError, match=r"its image b\.png is not in .*: name the folder of the images"):
        coco_files.read(path, None, None)
    assert coco_files.read(path, None, tmp_path / "images").images == tmp_path / "images"


@pytest.mark.parametrize("place", ["val2017/7.png", "7.png"])
def test_lvis_names_images_by_address(tmp_path: Path, make_image: MakeImage, place: str) -> None:
    make_image(tmp_path / "images" / place)
    content = tree("x", coco_url="http://images.cocodataset.org/val2017/7.png", neg_category_ids=[3, 4])
    del content["images"][0]["file_name"]
    write(tmp_path / "lvis_v1_val.json", content)
    assert coco_files.find(tmp_path) is None
    assert coco_files.find_lvis(tmp_path) == "lvis_v1_val.json"
    found = coco_files.read_lvis(tmp_path, "val", None)
    (entry,) = found.tree["images"]
    assert (entry["file_name"], entry["neg_category_ids"], found.images) == (place, [3, 4], tmp_path / "images")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": [], "annotations": {}}', "[" * 99999])
def test_files_that_are_not_coco(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    for read in (coco_files.read, coco_files.read_lvis):
        with pytest.raises(ValueError, match=r"a\.json: not (JSON|a COCO annotation file)"):
            read(tmp_path / "a.json", None, None)
