"""Files to predictions and drawings: nothing is lost, and nothing that maskray did not draw is overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskray.model.build_model import build_model
from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.inference.image_files import image_ids, list_images, name_drawings, predict_files

SMALL = {
    "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 8},
    "rpn": {"pre_nms_top_n_test": 20, "post_nms_top_n_test": 10},
    "box_head": {"hidden_channels": 8},
    "mask_head": {"channels": 8, "num_convs": 1},
    "inference": {"score_threshold": 0.0, "detections_per_image": 3},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    spec = ModelSpec(
        model=ModelConfig.model_validate(SMALL),
        input=InputConfig(shorter_edge=64, longer_edge_max=96),
        labels=LabelMap(categories=(Category(id=1, name="a"), Category(id=7, name="b"))),
    )
    model = build_model(spec.model, spec.input, 2)
    return str(write_model_folder(tmp_path_factory.mktemp("model") / "model", model, spec))


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(path)
    return path


def test_sound_images_are_answered_beside_broken_ones(model: str, tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{name}.png") for name in "abcdef"]
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    paths[4].write_bytes(b"")
    paths[5].unlink()
    found = list(predict_files(paths, model, out=tmp_path / "out"))
    assert [prediction.path for prediction in found] == paths
    assert [prediction.error is None for prediction in found] == [True, False, True, True, False, False]
    assert [len(prediction.results) for prediction in found] == [3, 0, 3, 3, 0, 0]
    assert all(str(paths[index]) in str(found[index].error) for index in (1, 4, 5))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "c.png", "d.png"}
    assert {result["image_id"] for prediction in found for result in prediction.results} == {1, 3, 4}


def test_images_of_one_name_have_drawings_of_their_own(model: str, tmp_path: Path) -> None:
    paths = [draw(tmp_path / "a" / "x.png"), draw(tmp_path / "b" / "x.png"), draw(tmp_path / "b" / "x.tif"),
             draw(tmp_path / "b" / "X.bmp"), draw(tmp_path / "b" / "y.bmp")]  # fmt: skip
    drawings = [path.name for path in name_drawings([*paths, paths[0]], tmp_path / "out")]
    assert drawings == ["x.png.png", "b-x.png.png", "x.tif.png", "X.bmp.png", "y.png", "a-x.png.png"]
    assert len(list(predict_files(paths, model, out=tmp_path / "out"))) == 5
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_nothing_is_overwritten_but_a_drawing(model: str, tmp_path: Path) -> None:
    image = draw(tmp_path / "x.png")
    content = image.read_bytes()
    with pytest.raises(ValueError, match=r"x\.png: the drawing would take the place of an image"):
        list(predict_files([image], model, out=tmp_path))
    other = draw(tmp_path / "out" / "x.png")
    with pytest.raises(ValueError, match=r"x\.png: exists and was not drawn by maskray"):
        list(predict_files([image], model, out=tmp_path / "out"))
    assert image.read_bytes() == other.read_bytes() == content
    other.unlink()
    for _ in range(2):  # the second time over the drawing of the first
        assert len(list(predict_files([image], model, out=tmp_path / "out"))) == 1
    assert other.read_bytes() != content
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "x.png").symlink_to(image)
    with pytest.raises(ValueError, match="would take the place of an image"):
        list(predict_files([image], model, out=tmp_path / "linked"))
    assert image.read_bytes() == content


def test_a_folder_stands_for_its_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [draw(tmp_path / "b.png"), draw(tmp_path / "a.JPEG")]
    draw(tmp_path / "._a.png")
    (tmp_path / "notes.txt").write_text("none")
    assert list_images([paths[0], tmp_path]) == [paths[0], paths[1], paths[0]]
    assert caplog.messages == [f"{tmp_path}: 1 hidden files are passed over"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images in this folder"):
        list_images([tmp_path / "empty"])


@given(st.lists(st.from_regex(r"[0-9]{1,25}|[a-z0-9٣]{1,5}", fullmatch=True), min_size=1))
def test_any_name_is_an_id(stems: list[str]) -> None:
    ids = image_ids([Path(f"{stem}.jpg") for stem in stems])
    assert len(set(ids)) == len(stems)
    assert all(0 <= number < 2**63 for number in ids)


def test_numbers_of_coco_are_kept() -> None:
    assert image_ids([Path("000000000285.jpg"), Path("7.png")]) == [285, 7]
    assert image_ids([Path("7.jpg"), Path("07.jpg")]) == [1, 2]
