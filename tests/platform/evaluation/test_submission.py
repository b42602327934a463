"""Submissions to Cityscapes by hand: a text file for every image, a mask for every detection that has a pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskray.model.config import LabelMap
from maskray.platform.evaluation.submission import submission_name, write_submission

LABELS = LabelMap.model_validate({"categories": [{"id": 3, "name": "rider"}, {"id": 5, "name": "train"}]})
NAME = "leftImg8bit/val/ulm/ulm_000001_000019_leftImg8bit.png"


def result(category: int, score: float, rows: slice) -> dict[str, Any]:
    mask = np.zeros((6, 8), dtype=np.uint8, order="F")
    mask[rows, 2:5] = 1
    return {"category_id": category, "score": score, "segmentation": coco_mask.encode(mask)}


def test_every_image_has_its_text_and_every_detection_its_mask(tmp_path: Path) -> None:
    found = [result(5, 1 / 3, slice(1, 3)), result(3, 0.5, slice(0, 0)), result(3, 1.0, slice(2, 6))]
    images = [(NAME, found), (NAME.replace("ulm_", "jena_"), [])]
    write_submission(tmp_path / "out", images, 2, LABELS)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert files == ["jena_000001_000019.txt", "ulm_000001_000019.txt", "ulm_000001_000019/000.png",
                     "ulm_000001_000019/001.png"]  # fmt: skip
    assert (tmp_path / "out/jena_000001_000019.txt").read_text() == ""
    assert (tmp_path / "out/ulm_000001_000019.txt").read_text().splitlines() == [
        "ulm_000001_000019/000.png 31 0.3333333333333333",
        "ulm_000001_000019/001.png 25 1.0",
    ]
    for number, entry in ((0, found[0]), (1, found[2])):
        with Image.open(tmp_path / f"out/ulm_000001_000019/{number:03d}.png") as image:
            assert np.array_equal(np.asarray(image.convert("L")) == 255, coco_mask.decode(entry["segmentation"]) == 1)


def test_a_submission_is_not_overwritten_unasked_and_stands_whole(tmp_path: Path) -> None:
    write_submission(tmp_path / "out", [(NAME, [result(5, 0.5, slice(1, 3))])], 1, LABELS)
    with pytest.raises(ValueError, match="out: exists already"):
        write_submission(tmp_path / "out", [(NAME, [])], 1, LABELS)
    with pytest.raises(ValueError, match=r"not called CITY_000000_000000_leftImg8bit\.png"):
        write_submission(tmp_path / "out", [(NAME, []), ("a.jpg", [])], 2, LABELS, replace=True)
    assert (tmp_path / "out/ulm_000001_000019/000.png").is_file()  # of before
    write_submission(tmp_path / "out", [(NAME, [])], 1, LABELS, replace=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ulm_000001_000019.txt"]


def test_classes_and_names_of_others_are_refused(tmp_path: Path) -> None:
    cat = LabelMap.model_validate({"categories": [{"id": 1, "name": "cat"}]})
    with pytest.raises(ValueError, match="submission: class 'cat' is none of Cityscapes: person, rider"):
        write_submission(tmp_path / "out", [], 0, cat)
    assert not (tmp_path / "out").exists()
    for name in ("ulm_000001_leftImg8bit.png", "ulm 1_000001_000019_leftImg8bit.png", "ulm_000001_000019.png"):
        with pytest.raises(ValueError, match="is not called"):
            submission_name(name)
