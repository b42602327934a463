"""The check after training: it passes for what the model finds, and fails for anything else."""

import pytest
import torch
from PIL import Image

from maskray.platform.data.decode import decode_row
from maskray.platform.data.formats.coco import read_dataset
from maskray.platform.data.row_reader import RowReader
from maskray.platform.data.shards import write_shards
from maskray.platform.data.synthetic.dataset import synthesize
from maskray.platform.files.model_folder import read_model_folder, write_model_folder
from maskray.platform.inference.predictor import Predictor
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.cluster.server_check import check_server, compare_detections

FOUND = {"category_id": 7, "score": 0.8, "bbox": [10.0, 20.0, 30.0, 40.0]}


def test_alike_detections_pass_in_any_order():
    other = {"category_id": 1, "score": 0.6, "bbox": [0.0, 0.0, 9.0, 9.0]}
    nearly = {**FOUND, "score": 0.805, "bbox": [10.5, 20.0, 29.5, 40.0]}
    compare_detections([other, nearly], [FOUND, other], "image 3")
    with pytest.raises(ValueError, match="category 7"):
        compare_detections([other], [FOUND, other], "image 3")


def test_detections_at_the_edge_of_the_threshold_are_not_asked_for():
    compare_detections([], [{**FOUND, "score": 0.09}], "image 3")
    with pytest.raises(ValueError, match=r"score 0\.100"):
        compare_detections([], [{**FOUND, "score": 0.1}], "image 3")


@pytest.mark.parametrize("change", [{"category_id": 1}, {"score": 0.78}, {"bbox": [12.0, 20.0, 30.0, 40.0]}])
def test_detection_that_is_not_served_is_named(change):
    with pytest.raises(ValueError, match=r"image 3: evaluation found category 7 with score 0\.800 at 10,20 30x40"):
        compare_detections([{**FOUND, **change}], [FOUND], "image 3")


@pytest.mark.usefixtures("ray_cluster")
def test_served_model_finds_what_evaluation_found(tmp_path, model_folder, monkeypatch):
    for name, value in {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": "", "grpc_proxy": ""}.items():
        monkeypatch.setenv(name, value)  # a proxy at which nobody listens is not asked
    paths = synthesize(tmp_path / "pictures", 3, seed=1, height=96, width=128, split="val")
    manifest = write_shards(read_dataset(paths.annotations, paths.images), paths.images, tmp_path / "shards")
    model, spec = read_model_folder(model_folder)
    predictor, reader = Predictor(model, spec), RowReader(manifest)
    rows = [reader.read(index) for index in range(3)]
    found = predictor.predict([decode_row(row) for row in rows], [row["image_id"] for row in rows])
    results = [result for image in found for result in image]
    assert any(result["score"] >= 0.1 for result in found[0])

    picture = check_server(model_folder, ServeConfig(), manifest, results, tmp_path / "served.png")
    with Image.open(picture) as image:
        assert image.size == (128, 96)

    folder = write_model_folder(tmp_path / "other", _changed(model), spec)
    with pytest.raises(ValueError, match="evaluation found category"):
        check_server(str(folder), ServeConfig(), manifest, results, tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def _changed(model):
    """The same model, but surer of its first class."""
    with torch.no_grad():
        model.roi_heads.box_head.classifier.bias[0] += 2.0
    return model
