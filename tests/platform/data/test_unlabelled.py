"""Unlabelled images: folders, lists, COCO files without annotations, data sets whose labels are not looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from maskray.model.config import Category, LabelMap
from maskray.platform.data.unlabelled import check_unlabelled, list_images, read_unlabelled
from maskray.platform.job.data_config import ImagesSource, UnlabelledSource

LABELS = LabelMap(categories=(Category(id=3, name="cup"),))


def source(**keys: Any) -> UnlabelledSource:
    found: UnlabelledSource = TypeAdapter(UnlabelledSource).validate_python(keys)
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for name, size in (("b.jpg", (40, 30)), ("deep/a.png", (20, 50))):
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(folder / name)
    (folder / "notes.md").write_text("no image")
    return folder


def described(found: Any) -> list[tuple[str, int, int, int]]:
    return [(one.file_name, one.width, one.height, len(one.annotations)) for one in found.dataset.images]


def test_a_folder_with_all_below_it(images: Path, tmp_path: Path) -> None:
    found = read_unlabelled(source(kind="images", path=str(images)), tmp_path, LABELS)
    assert described(found) == [("b.jpg", 40, 30, 0), ("deep/a.png", 20, 50, 0)]
    assert found.labels == LABELS


def test_a_list_of_images(images: Path, tmp_path: Path) -> None:
    (images / "list.txt").write_text("deep/a.png\n\n")
    found = read_unlabelled(source(kind="images", path=str(images / "list.txt")), tmp_path, LABELS)
    assert described(found) == [("deep/a.png", 20, 50, 0)]
    (tmp_path / "other.txt").write_text("b.jpg\n")
    elsewhere = ImagesSource(path=str(tmp_path / "other.txt"), images=str(images))
    assert list_images(elsewhere) == (["b.jpg"], images)


def test_a_coco_file_needs_its_images_alone(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "image_info.json"
    entry = {"id": 7, "file_name": "b.jpg", "width": 40, "height": 30}
    path.write_text(json.dumps({"images": [entry]}))
    coco = source(kind="coco", annotations=str(path), images=str(images))
    assert described(read_unlabelled(coco, tmp_path, LABELS)) == [("b.jpg", 40, 30, 0)]
    labelled = {"images": [entry], "annotations": [{"id": 1, "wrong": True}], "categories": [{"id": 9, "name": "x"}]}
    path.write_text(json.dumps(labelled))
    assert described(read_unlabelled(coco, tmp_path, LABELS)) == [("b.jpg", 40, 30, 0)]
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"distill\.unlabelled: .*image_info\.json: not a COCO file"):
        read_unlabelled(coco, tmp_path, LABELS)


def test_drawn_images_lose_their_labels(tmp_path: Path) -> None:
    found = read_unlabelled(source(kind="synthetic", num_images=3, height=64, width=64), tmp_path, LABELS)
    assert [count for *_, count in described(found)] == [0, 0, 0]


def test_what_is_no_source_is_told_in_one_line(images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (images / "out.txt").write_text("../../secret.jpg\n")
    (images / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    for path, told in (
        ("empty", "no images below this folder"),
        ("images/notes.md", "neither a folder of images nor a list"),
        ("images/out.txt", "no such image"),
        ("images", r"broken\.jpg: image cannot be decoded.*1 unreadable images, 0 allowed"),
    ):
        with pytest.raises(ValueError, match=rf"^distill\.unlabelled: .*{told}"):
            read_unlabelled(source(kind="images", path=str(tmp_path / path)), tmp_path, LABELS)
    with pytest.raises(ValueError, match=r"distill\.unlabelled\.path: .*nowhere: no such file or folder"):
        check_unlabelled(source(kind="images", path=str(tmp_path / "nowhere")), "distill.unlabelled")
    found = read_unlabelled(source(kind="images", path=str(images)), tmp_path, LABELS, max_bad_images=1)
    assert len(described(found)) == 2


def test_a_list_cannot_lead_out_of_its_folder(images: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "secret.png")
    (images / "out.txt").write_text("../secret.png\n")
    with pytest.raises(ValueError, match="leads out of the images folder"):
        read_unlabelled(source(kind="images", path=str(images / "out.txt")), tmp_path, LABELS)
