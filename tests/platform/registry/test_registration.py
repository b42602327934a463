"""Registration by processes that are killed at each step of their talk with the server, and what a version carries."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job.config import TrackingConfig
from maskray.platform.job.data_config import CocoSource, DataConfig, FilesSource, ShardSource, SyntheticSource
from maskray.platform.job.load import public_job
from maskray.platform.registry.description import describe_version
from maskray.platform.registry.models import list_models, resolve_model
from maskray.platform.registry.registration import Evidence, evaluation_set_name, register_model
from maskray.platform.registry.tracking import Tracking

# Registers the same model of the same run again and again. Each time it is killed one event later: before a part of a
# request is sent, before its answer is awaited, after the answer came. Ends when a registration came to its end, and
# prints the versions that were to be seen after each.
REGISTER_AND_DIE = """
import http.client, json, os, signal, sys
import requests
from maskray.platform.job.config import TrackingConfig
from maskray.platform.registry.models import resolve_model
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import Tracking

uri, experiment, run_id, name, folder, cache, stride = sys.argv[1:]
tracking = Tracking(TrackingConfig(uri=uri, experiment=experiment))
client = tracking.client


def register(last_event):
    events = 0

    def dying(function, after=False):
        def call(*arguments, **keywords):
            nonlocal events
            result = function(*arguments, **keywords) if after else None
            events += 1
            if events == last_event:
                os.kill(os.getpid(), signal.SIGKILL)
            return result if after else function(*arguments, **keywords)

        return call

    connection = http.client.HTTPConnection
    connection.send, connection.getresponse = dying(connection.send), dying(connection.getresponse)
    requests.Session.send = dying(requests.Session.send, after=True)
    register_model(tracking, run_id, name, folder, {"segm/AP": 0.5})


event, finished, whole = 1, False, None
while not finished:
    child = os.fork()
    if child == 0:
        try:
            register(event)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    finished = status == 0
    versions = [found.version for found in client.search_model_versions(f"name='{name}'")]
    if versions and not whole:
        whole = resolve_model(f"models:/{name}/{versions[0]}", tracking, cache)  # raises where a file is missing
    print(json.dumps([event, versions]), flush=True)
    event += int(stride)
"""


@pytest.mark.slow
def test_process_killed_all_along_leaves_no_half_version_and_no_second_one(on_server, server, spec, job, tmp_path):
    folder = write_model_folder(tmp_path / "model", nn.Conv2d(3, 512, 3), spec)
    name, run_id = f"m-{tmp_path.name}", on_server.start_run(job, {})
    stride = "3" if "sqlite" in server.database else "9"
    cache = tmp_path / "cache"
    arguments = [server.uri, on_server.config.experiment, run_id, name, str(folder), str(cache), stride]
    done = subprocess.run(
        [sys.executable, "-c", REGISTER_AND_DIE, *arguments], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line)[1] for line in done.stdout.splitlines()]
    assert len(seen) > 5, "it was killed several times"
    assert seen[0] == []
    assert [str(version) for version in seen[-1]] == ["1"]
    assert max(map(len, seen)) == 1
    cached = Path(resolve_model(f"models:/{name}/1", on_server, cache))
    tags = on_server.client.get_model_version(name, "1").tags
    digests = {key.removeprefix("sha256_"): value for key, value in tags.items() if key.startswith("sha256_")}
    assert digests.keys() >= {"model.safetensors", "model.json", "metrics.json", "labels.json"}
    for file, digest in digests.items():
        assert hashlib.sha256((cached / file).read_bytes()).hexdigest() == digest
    points = on_server.client.get_metric_history(run_id, "registered/segm/AP")
    assert [point.value for point in points] == [0.5]


def test_another_model_or_another_run_is_another_version(on_sqlite, job, spec, tmp_path):
    name = f"m-{tmp_path.name}"
    torch.manual_seed(0)
    folders = [write_model_folder(tmp_path / f"model-{number}", nn.Conv2d(3, 2, 3), spec) for number in range(2)]
    runs = [on_sqlite.start_run(job, {}) for _ in range(2)]
    made = [register_model(on_sqlite, run, name, folder, {}) for run in runs for folder in (*folders, folders[0])]
    assert made == ["1", "2", "1", "3", "4", "3"]
    assert len([version for version in list_models(on_sqlite) if version["name"] == name]) == 4


def test_a_logged_model_has_its_run_and_its_metrics_on_the_data(job, model_folder, tmp_path):
    tracking = Tracking(TrackingConfig(), tmp_path)
    run_id = tracking.start_run(job, {"val": "5" * 64})
    evidence, metrics = Evidence(digests={"val": "5" * 64}), {"bbox/AP": 0.5, "bbox/APs": -1.0, "segm/AP": float("nan")}
    for _ in range(2):  # once more says nothing twice
        version = register_model(tracking, run_id, "linked", model_folder, metrics, evidence)
    client = tracking.client
    model_id = client.get_model_version("linked", version).tags["logged_model"]
    found = [
        (one.key, one.value, one.dataset_name, one.dataset_digest) for one in client.get_logged_model(model_id).metrics
    ]
    assert found == [("bbox/AP", 0.5, "val", "5" * 36)]
    run = client.get_run(run_id)
    assert [one.model_id for one in run.outputs.model_outputs] == [model_id]
    assert run.data.metrics["bbox/AP"] == 0.5
    assert [one.dataset.digest for one in run.inputs.dataset_inputs] == ["5" * 36]


def test_report_that_is_not_there_is_told_before_the_server_hears_of_it(on_sqlite, job, model_folder, tmp_path):
    name = f"m-{tmp_path.name}"
    evidence = Evidence(public_job(job), report=tmp_path / "absent.html")
    with pytest.raises(ValueError, match=r"absent\.html: no report"):
        register_model(on_sqlite, on_sqlite.start_run(job, {}), name, model_folder, {}, evidence)
    with pytest.raises(ValueError, match="permission denied, or not found"):
        describe_version(on_sqlite, f"models:/{name}/1")


def test_evaluation_set_is_named_by_its_source(job):
    names = {
        CocoSource(annotations="/data/annotations/instances_val2017.json", images="x"): "instances_val2017",
        ShardSource(path="s3://bucket/coco/val/"): "val",
        ShardSource(path="shards/v1.5"): "v1.5",
        FilesSource(path="/data/leaves/", split="val"): "leaves-val",
        FilesSource(path="cvat/annotations.xml"): "annotations.xml",
        SyntheticSource(num_images=60, seed=2): "synthetic-60-seed2",
        SyntheticSource(scene="street", num_images=6): "synthetic-street-6-seed0",
    }
    for source, name in names.items():
        data = DataConfig(train=source, val=source)
        assert evaluation_set_name(data.val) == name
