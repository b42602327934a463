"""A small model that was never trained, a photograph, and a server on a cluster of this machine, started once."""

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from maskray.model.build import build_model
from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.registry.folder import write_model_folder

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


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
