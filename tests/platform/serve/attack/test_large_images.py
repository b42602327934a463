"""Images and answers of many megabytes pass between the gateway and the model, whoever started the cluster."""

import io

import numpy as np
import pytest
from PIL import Image

from maskray.platform.job.serve_config import ServeConfig

pytestmark = pytest.mark.slow
CONFIG = ServeConfig(port=0)
JPEG = {"Content-Type": "image/jpeg"}


def noise(width, height):
    """A JPEG of pixels that have nothing to do with one another: about 1.6 bytes each, and 2.5 as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=90)
    return file.getvalue()


def image_of(num_bytes):
    """A JPEG of exactly so many bytes, all but a few per cent of them pixels."""
    width = 2000
    row_bytes = len(noise(width, 128)) / 128
    data = noise(width, int(0.98 * num_bytes / row_bytes))
    assert 0.95 * num_bytes < len(data) <= num_bytes
    return data + bytes(num_bytes - len(data))  # after the end of the image, where every decoder stops


@pytest.mark.parametrize("num_bytes", [1_000_000, 4_100_000, 4_300_000, 8_000_000, 19_900_000, 20_000_000])
def test_images_of_every_size_allowed_are_answered(client, num_bytes):
    answer = client.post("/v1/predict", content=image_of(num_bytes), headers=JPEG)
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"]["width"] == 2000


def test_sixteen_images_of_a_request_are_answered(client):
    images = [image_of(1_200_000)] * (CONFIG.max_images_per_request - 1)
    images.append(image_of(4_500_000 // 3))
    answer = client.post("/v1/predict", files=[("image", (f"{i}.jpg", data)) for i, data in enumerate(images)])
    assert answer.status_code == 200, answer.text
    assert answer.json()["errors"] == 0
    assert len(answer.json()["results"]) == 16


def test_drawn_image_of_thirty_megabytes_is_answered(client):
    answer = client.post("/v1/predict", content=noise(4400, 3000), headers=JPEG, params={"format": "png"})
    assert answer.status_code == 200, answer.text
    assert len(answer.content) > 30_000_000
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert drawn.size == (4400, 3000)
