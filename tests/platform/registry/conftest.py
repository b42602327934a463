"""A model folder without training, a job, and an MLflow server that is started once."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch
from torch import nn

from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.config import DataConfig, JobConfig, SyntheticSource, TrackingConfig, TrainConfig
from maskray.platform.registry.folder import write_model_folder
from maskray.platform.registry.tracking import Tracking


@pytest.fixture(scope="session")
def spec():
    labels = LabelMap(categories=(Category(id=1, name="circle"), Category(id=7, name="square")))
    return ModelSpec(model=ModelConfig(), input=InputConfig(), labels=labels)


@pytest.fixture(scope="session")
def job():
    source = SyntheticSource(num_images=4)
    return JobConfig(name="probe", data=DataConfig(train=source, val=source), train=TrainConfig(steps=10))


@pytest.fixture
def model_folder(tmp_path, spec):
    torch.manual_seed(0)
    return write_model_folder(tmp_path / "model", nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), spec)


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory):
    """A real tracking server on a free port, stopped by its process id."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "store"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (folder / "log").open("wb")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.25)
        else:
            pytest.fail((folder / "log").read_text())
        yield uri
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


@pytest.fixture(params=["sqlite", "server"])
def tracking(request, tmp_path):
    """A tracking object on a fresh sqlite file, and one on the server with an experiment of its own."""
    if request.param == "sqlite":
        return Tracking(TrackingConfig(), tmp_path / "outputs")
    uri = request.getfixturevalue("server_uri")
    return Tracking(TrackingConfig(uri=uri, experiment=f"probe-{tmp_path.name}"))
