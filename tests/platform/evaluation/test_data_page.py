"""The page of a data set: numbers by hand, what is drawn, and data that cannot be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskray.model.config import Category, LabelMap
from maskray.platform.data.batch import Sample
from maskray.platform.data.formats.annotated import AnnotatedFolder, LeftOut
from maskray.platform.data.formats.coco import Annotation, CocoDataset, ImageRecord
from maskray.platform.data.outlines import decode_rle, read_outlines
from maskray.platform.data.targets import ImageTargets
from maskray.platform.evaluation.data_page import (
    PageOptions,
    choose_images,
    class_rows,
    training_targets,
    write_data_page,
)
from maskray.platform.job.load import parse_job

LABELS = LabelMap(categories=tuple(Category(id=10 * key, name=name) for key, name in ((1, "cat"), (2, "<b>dog"))))
SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]


def dataset(*classes: list[int]) -> CocoDataset:
    images = [
        ImageRecord(n, f"{n}.png", 40, 30, [Annotation(i, key, (0, 0, 4, 4), 4.0 * key) for i, key in enumerate(found)])
        for n, found in enumerate(classes)
    ]
    return CocoDataset(LABELS, images, "")


def make_folder(folder: Path, **changes: object) -> AnnotatedFolder:
    Image.new("RGB", (40, 30), (9, 80, 9)).save(folder / "a.png")
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 20,
        "bbox": [2, 2, 10, 10],
        "area": 100,
        "segmentation": SQUARE,
    }
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [annotation | changes],
        "categories": [{"id": one.id, "name": one.name} for one in LABELS.categories],
    }
    return AnnotatedFolder(str(folder / "a.json"), "coco", tree, folder, (LeftOut("points", 3, "b.xml"),))


def test_rows_of_classes_by_hand() -> None:
    data = dataset([10, 10, 20], [10], [])
    data.images[1].annotations[0].iscrowd = 1
    cat, dog = class_rows(data)
    assert cat == {
        "name": "cat",
        "objects": 2,
        "crowds": 1,
        "images": 1,
        "share": 2 / 3,
        "edge": pytest.approx(40**0.5),
    }
    assert (dog["objects"], dog["share"], dog["edge"]) == (1, 1 / 3, pytest.approx(80**0.5))
    assert class_rows(dataset([]))[0]["edge"] is None


def test_each_class_is_shown_before_others_come() -> None:
    data = dataset(*[[10]] * 30, [20])
    for seed in range(4):
        chosen = [image.image_id for image in choose_images(data, 5, seed)]
        assert len(set(chosen)) == 5
        assert 30 in chosen
    assert len(choose_images(data, 99, 0)) == 31
    assert choose_images(data, 0, 0) == []


def test_targets_are_drawn_as_they_are() -> None:
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[4:9, 5:7] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    outlines = read_outlines([{"id": 1, "segmentation": rle | {"counts": rle["counts"].decode()}}], (30, 40), (30, 40))
    targets = ImageTargets(np.array([[5, 4, 7, 9]], dtype=np.float32), np.array([1]), outlines)
    (result,) = training_targets(Sample(np.zeros((30, 40, 3), np.uint8), 1, (30, 40), targets), LABELS)
    assert (result["category_id"], result["bbox"]) == (20, [5, 4, 2, 5])
    assert (decode_rle(result["segmentation"]) == mask).all()


def test_the_page_needs_nothing_else_and_escapes_names(tmp_path: Path) -> None:
    write_data_page(tmp_path / "page.html", make_folder(tmp_path), PageOptions())
    text = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;dog" in text
    assert "<b>dog" not in text
    assert "3 x points; first b.xml" in text
    assert text.count("data:image/jpeg;base64,") == 1
    assert "in training 1067x800, 1 object" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    with pytest.raises(ValueError, match="exists already"):
        write_data_page(tmp_path / "page.html", make_folder(tmp_path), PageOptions())


def test_a_job_says_how_images_are_seen(tmp_path: Path) -> None:
    source = "{kind: synthetic, num_images: 8}"
    job = parse_job(
        f"name: mine\ndata: {{train: {source}, val: {source}, flip: 1.0}}\ntrain: {{steps: 1, images_per_batch: 2}}\n"
        "input: {shorter_edge: 60, longer_edge_max: 99}"
    )
    write_data_page(tmp_path / "page.html", make_folder(tmp_path), PageOptions(job=job))
    text = (tmp_path / "page.html").read_text()
    assert "in training 80x60, 1 object, flipped" in text
    assert "job mine" in text
    write_data_page(tmp_path / "boxes.html", make_folder(tmp_path, segmentation=[]), PageOptions(job=job))
    assert "annotation 1: no segmentation to train a mask on" in (tmp_path / "boxes.html").read_text()


def test_boxes_alone_are_drawn_and_wrong_data_is_told(tmp_path: Path) -> None:
    write_data_page(tmp_path / "boxes.html", make_folder(tmp_path, segmentation=[]), PageOptions())
    assert "1 object, some without a mask" in (tmp_path / "boxes.html").read_text().replace(", flipped", "")
    write_data_page(tmp_path / "wrong.html", make_folder(tmp_path, category_id=77), PageOptions())
    text = (tmp_path / "wrong.html").read_text()
    assert "Training would end with" in text
    assert "1 dangling_category_id" in text
    assert "data:image" not in text
