"""A small model that was never trained, an image, and a server on a cluster of this machine, started once."""

import asyncio
import io
import os

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from routes import app_of

from maskray.model.build_model import build_model
from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.serve.cluster.ray_environment import (
    FRONT_DOOR,
    MEMORY,
    MESSAGE_BYTES,
    OWN_PORT,
    PORTS,
    PRIORITY,
    QUICK_HOPS,
)
from maskray.platform.serve.http.connection import MOST_OF_CLIENT
from maskray.platform.serve.model.direct_line import FOLDER

SINGLE = (MOST_OF_CLIENT, MESSAGE_BYTES, FOLDER)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def forget_hops():
    """Takes the settings of Serve's processes out of the environment, and with a MonkeyPatch puts them back."""

    def forget(patch):
        for name in (*QUICK_HOPS, *OWN_PORT, *FRONT_DOOR, *MEMORY, *PRIORITY, *PORTS, *SINGLE):
            patch.setenv(name, "")  # noted, and so taken away at the end where it was not set
            patch.delenv(name)

    return forget


@pytest.fixture(scope="session")
def spec():
    model = ModelConfig(
        backbone=BackboneConfig(name="resnet18", norm="group_norm", freeze_stages=0, fpn_channels=16),
        box_head={"hidden_channels": 16},
        mask_head={"channels": 16, "num_convs": 1},
        rpn={"pre_nms_top_n_test": 100, "post_nms_top_n_test": 50},
        inference={"score_threshold": 0.0, "detections_per_image": 20},
    )
    labels = LabelMap(categories=(Category(id=1, name="circle"), Category(id=7, name="square")))
    return ModelSpec(model=model, input=InputConfig(shorter_edge=128, longer_edge_max=192), labels=labels)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, spec):
    torch.manual_seed(0)
    model = build_model(spec.model, spec.input, spec.labels.num_classes)
    return str(write_model_folder(tmp_path_factory.mktemp("serve") / "shapes", model, spec))


@pytest.fixture(scope="module")
def server(request, ray_cluster, model_folder):
    """A real server on a free port, of the CONFIG of the file that asks for it: one start for the whole file."""
    from maskray.platform.serve.cluster.deploy import deploy

    server = deploy(model_folder, request.module.CONFIG, version="3")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=600) as client:
        yield client


@pytest.fixture(scope="session")
def pixels():
    rows, columns = np.mgrid[:120, :160]
    image = np.stack([rows * 2, columns, (rows * columns) % 256], axis=-1).astype(np.uint8)
    image[30:80, 40:110] = (220, 40, 30)
    return image


@pytest.fixture(scope="session")
def png(pixels):
    return encode(pixels, "PNG")


@pytest.fixture(scope="session")
def jpeg(pixels):
    return encode(pixels, "JPEG")


def encode(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def client_of():
    """Opens a client of what app_of builds."""

    def open_client(*arguments, **config):
        transport = httpx.ASGITransport(app_of(*arguments, **config), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")

    return open_client


@pytest.fixture(scope="session")
def ask(client_of):
    """Sends requests, each a dict of arguments of httpx, one after the other to one such client."""

    def send(predict, *requests, **config):
        async def scenario():
            async with client_of(predict, **config) as client:
                return [await client.request(**{"method": "POST", "url": "/v1/predict"} | r) for r in requests]

        return asyncio.run(scenario())

    return send
