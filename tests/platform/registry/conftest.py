"""A model folder without training, a job, and tracking objects on a file and on servers."""

import pytest
import torch
from torch import nn

from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.job.data_config import DataConfig, SyntheticSource
from maskray.platform.job.train_config import TrainConfig
from maskray.platform.registry.tracking import Tracking


@pytest.fixture(scope="session")
def job():
    source = SyntheticSource(num_images=4)
    return JobConfig(name="probe", data=DataConfig(train=source, val=source), train=TrainConfig(steps=10))


@pytest.fixture
def model_folder(tmp_path, spec):
    torch.manual_seed(0)
    return write_model_folder(tmp_path / "model", nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), spec)


@pytest.fixture(params=["sqlite_server", "postgres_server"])
def server(request, as_trainer):
    """Each server in turn, to whom the trainer is known."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite", "server"])
def tracking(request, tmp_path):
    """A tracking object on a fresh sqlite file, and one on the server with an experiment of its own."""
    if request.param == "sqlite":
        return Tracking(TrackingConfig(), tmp_path / "outputs")
    return request.getfixturevalue("on_sqlite")


@pytest.fixture
def on_server(server, tmp_path):
    """A tracking object on each server, with an experiment of its own."""
    return Tracking(TrackingConfig(uri=server.uri, experiment=f"probe-{tmp_path.name}"))


@pytest.fixture
def on_sqlite(sqlite_server, tmp_path, as_trainer):
    """A tracking object on the server that keeps its data in sqlite."""
    return Tracking(TrackingConfig(uri=sqlite_server.uri, experiment=f"probe-{tmp_path.name}"))
