"""What one image holds: figures of its objects, drawings, and COCO's dictionaries."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_masks

from maskray import api
from maskray.model.config import Category, LabelMap
from maskray.platform.inference.drawing import draw_detections

LABELS = LabelMap(categories=(Category(id=2, name="cat"), Category(id=7, name="dog")))
PIXELS = np.full((30, 40, 3), 90, np.uint8)


def half() -> dict:
    """The left half of the image."""
    mask = np.zeros((30, 40), np.uint8, order="F")
    mask[:, :20] = 1
    rle = rle_masks.encode(mask)
    return rle | {"counts": rle["counts"].decode()}


def result(category: int, score: float, **more: object) -> dict:
    return {"image_id": 3, "category_id": category, "bbox": [5.0, 6.0, 10.0, 12.0], "score": score, **more}


def made(*results: dict, **more: object) -> api.Objects:
    return api.Objects(results, LABELS, 3, (30, 40), lambda: PIXELS, **more)


def test_figures_of_objects_are_arrays() -> None:
    found = made(result(7, 0.9, segmentation=half()), result(2, 0.4, segmentation=half()), has_masks=True)
    assert len(found) == 2
    assert found.boxes.tolist() == [[5, 6, 15, 18]] * 2
    assert found.scores.tolist() == [0.9, 0.4]
    assert found.classes == ["dog", "cat"]
    assert found.class_ids.tolist() == [7, 2]
    assert found.masks.shape == (2, 30, 40)
    assert found.masks.dtype == bool
    assert found.masks[:, :, :20].all()
    assert not found.masks[:, :, 20:].any()
    assert found.keypoints is None
    assert repr(found) == "<image 3, 40 x 30 pixels: 1 dog, 1 cat>"


def test_an_image_without_objects_keeps_the_shapes() -> None:
    nothing = made(has_masks=True, num_keypoints=17)
    assert (nothing.boxes.shape, nothing.scores.shape, nothing.class_ids.shape) == ((0, 4), (0,), (0,))
    assert (nothing.masks.shape, nothing.keypoints.shape) == ((0, 30, 40), (0, 17, 3))
    assert nothing
    assert made().masks is None
    assert repr(made(path=Path("a/b.jpg"))) == "<b.jpg, 40 x 30 pixels: no objects>"


def test_keypoints_are_rows_of_three() -> None:
    found = made(result(2, 0.9, keypoints=[1.0, 2.0, 0.5, 3.0, 4.0, 0.25]), num_keypoints=2)
    assert found.keypoints.tolist() == [[[1, 2, 0.5], [3, 4, 0.25]]]


def test_annotations_of_any_kind_have_masks() -> None:
    whole = {"size": [30, 40], "counts": [0, 1200]}
    polygon = [[0, 0, 20, 0, 20, 30, 0, 30]]
    notes = [{**result(2, 1), "segmentation": kind} for kind in (whole, polygon, half(), None)]
    for note in notes:
        del note["score"]
    found = made(*notes, has_masks=True)
    assert [int(mask.sum()) for mask in found.masks] == [1200, 600, 600, 0]
    assert found.scores.tolist() == [1, 1, 1, 1]


def test_what_is_given_out_can_be_changed() -> None:
    found = made(result(2, 0.9))
    found.to_coco()[0]["score"] = 0
    found.boxes[:] = 0
    assert found.scores.tolist() == [0.9]
    assert found.boxes.any()


def test_a_notebook_gets_the_drawn_image(model: api.Model, data: api.Data) -> None:
    (found,) = model.predict(data.images[:1])
    shown = np.array(Image.open(io.BytesIO(found._repr_png_())))
    expected = draw_detections(found.image, found.to_coco(), found.labels, 0.5)
    np.testing.assert_array_equal(shown, expected)
    assert (found.draw(score_threshold=0.0) != found.image).any()
    assert found.draw(scale=3).shape == (192, 288, 3)


def test_a_saved_drawing_is_that_of_predict(model: api.Model, data: api.Data, folder: Path, tmp_path: Path) -> None:
    from maskray.platform.inference.image_files import predict_files

    (found,) = model.predict(data.images[:1])
    assert found.save(tmp_path / "mine" / "a.png", 0.1) == tmp_path / "mine" / "a.png"
    list(predict_files([found.path], str(folder), out=tmp_path / "theirs", score_threshold=0.1))
    (theirs,) = (tmp_path / "theirs").iterdir()
    assert theirs.read_bytes() == (tmp_path / "mine" / "a.png").read_bytes()
    found.save(tmp_path / "mine" / "a.png")  # over a drawing of ours


def test_a_photograph_is_not_overwritten(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    with pytest.raises(ValueError, match=r"photo\.png: exists and was not drawn by maskray"):
        made().save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"photo\.jpg: drawings are written as \.png"):
        made().save(tmp_path / "photo.jpg")
    assert (tmp_path / "photo.png").read_bytes() == before


def test_outside_of_a_notebook_the_viewer_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture.size))
    monkeypatch.delitem(__import__("sys").modules, "ipykernel", raising=False)
    made(result(2, 0.9)).show(scale=2)
    assert shown == [(80, 60)]
