"""A small model that finds something without training, and drawn data that it can be asked about."""

from __future__ import annotations

from pathlib import Path

import pytest
from separable_model import SMALL_MASKS, separable_model

from maskray import api
from maskray.platform.data.synthetic.dataset import SyntheticPaths, synthesize
from maskray.platform.files.model_folder import write_model_folder

CLASSES = ("circle", "square", "triangle", "star")


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """The model is small."""


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> SyntheticPaths:
    """Six images of four classes, and their annotations."""
    return synthesize(tmp_path_factory.mktemp("drawn"), 6, 1, 64, 96, 3, classes=CLASSES)


@pytest.fixture(scope="session")
def data(drawn: SyntheticPaths) -> api.Data:
    return api.read_data(drawn.annotations, images=drawn.images)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, data: api.Data) -> Path:
    """A model of the classes of the data."""
    network, spec = separable_model(SMALL_MASKS)
    spec = spec.model_copy(update={"labels": data.images[0].labels})
    return write_model_folder(tmp_path_factory.mktemp("models") / "small", network, spec)


@pytest.fixture(scope="session")
def model(folder: Path) -> api.Model:
    return api.load_model(folder)
