"""Test-time augmentation through the real server: the same answer as of `maskray predict --tta`, beside plain ones."""

import pytest

from maskray.platform.cli.tta import read_tta
from maskray.platform.inference.image_files import predict_files
from maskray.platform.job.serve_config import ServeConfig

CONFIG = ServeConfig.model_validate({"port": 0, "tta": {"views": {"scales": [96, 128]}, "max_view_pixels": 200_000}})
HEADERS = {"Content-Type": "image/png"}


def test_a_request_has_the_answer_of_predict(client, model_folder, png, tmp_path):
    (tmp_path / "a.png").write_bytes(png)
    (expected,) = predict_files([tmp_path / "a.png"], model_folder, tta=read_tta("96,128"))
    (plain,) = predict_files([tmp_path / "a.png"], model_folder)
    answers = [
        client.post("/v1/predict", params=params, content=png, headers=HEADERS) for params in ({"tta": "true"}, {})
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    for answer, prediction in zip(answers, (expected, plain), strict=True):
        found = answer.json()["detections"]
        assert len(found) == len(prediction.results)
        for ours, theirs in zip(found, prediction.results, strict=True):
            assert ours["category_id"] == theirs["category_id"]
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)
            assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=0.01)
            assert ours["segmentation"]["size"] == theirs["segmentation"]["size"]
    assert answers[0].json()["detections"] != answers[1].json()["detections"]


def test_an_image_beyond_the_limit_of_views_is_refused(client, pixels):
    import io

    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.tile(pixels[:40], (1, 4, 1))).save(file, "PNG")  # 640 x 40: views of 2048 x 128 and 1536 x 96
    answer = client.post("/v1/predict", params={"tta": "true"}, content=file.getvalue(), headers=HEADERS)
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("tta: the 4 views of a 640 x 40 image have ")
    assert client.post("/v1/predict", content=file.getvalue(), headers=HEADERS).status_code == 200
