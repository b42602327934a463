"""How a replica and the follower take versions that cannot be loaded or fetched; the rest is tested on a server."""

import asyncio
import errno
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from maskray.model.build_model import build_model
from maskray.model.config import ModelSpec
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.inference import openvino_network
from maskray.platform.inference.engine import open_predictor
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.cluster import alias_watcher
from maskray.platform.serve.cluster.alias_watcher import AliasWatcher
from maskray.platform.serve.model import replica
from maskray.platform.serve.model.replica import Replica
from maskray.platform.serve.model.rollout import Target

NUM_REPORTS = 40
ONE, TWO = Target("shapes", "1", "/models/1"), Target("shapes", "2", "/models/2")


class SaysTwo:
    """A follower to whom other replicas report that they serve version 2, so a failure here is none of the version."""

    def __init__(self):
        self.reports = []
        self.report = SimpleNamespace(remote=self._report)

    async def _report(self, report):
        self.reports.append(report)
        return (TWO if report.serves else None), list(report.failed)


@pytest.mark.parametrize(("again_seconds", "fewest", "most"), [(60.0, 1, 1), (0.05, 3, NUM_REPORTS)])
def test_version_that_cannot_be_loaded_here_alone_is_tried_again_after_a_while(
    monkeypatch, again_seconds, fewest, most
):
    tried = []

    def load(folder, model, *settings):
        if folder == TWO.folder:
            tried.append(model)
            raise OSError(errno.ESTALE, "stale file handle")
        return "one"

    context = SimpleNamespace(replica_id=SimpleNamespace(unique_id="a"))
    monkeypatch.setattr(replica.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(replica, "load_model", load)
    monkeypatch.setattr(replica, "REPORT_SECONDS", 0.01)
    monkeypatch.setattr(replica, "LOAD_AGAIN_SECONDS", again_seconds)

    async def run():
        there, one = SaysTwo(), Replica.__new__(Replica)
        await one.__init__(ONE, ServeConfig(), there)
        async with asyncio.timeout(300):
            while len(there.reports) < NUM_REPORTS:
                await asyncio.sleep(0.01)
        one._following.cancel()
        return one

    one = asyncio.run(run())
    assert fewest <= len(tried) <= most
    assert (one._loaded, one._target) == ("one", ONE)


@pytest.mark.slow
def test_a_version_that_is_followed_is_converted_before_it_answers(monkeypatch, tmp_path):
    """By a runtime of its own, for the replica's threads; what is found is what torch finds."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    tree = {
        "model": {
            "backbone": {"name": "resnet18", "stem_channels": 16, "res2_channels": 16, "fpn_channels": 16},
            "box_head": {"hidden_channels": 16},
            "mask_head": {"channels": 16, "num_convs": 1},
            "inference": {"score_threshold": 0.0, "detections_per_image": 5},
        },
        "input": {"shorter_edge": 64},
        "labels": {"categories": [{"id": 1, "name": "a"}]},
    }
    spec = ModelSpec.model_validate(tree)
    targets = [Target("shapes", version, str(tmp_path / version)) for version in ("1", "2")]
    for seed, target in enumerate(targets):
        torch.manual_seed(seed)
        write_model_folder(target.folder, build_model(spec.model, spec.input, 1), spec)
    threads = []
    convert = openvino_network.convert
    monkeypatch.setattr(
        openvino_network,
        "convert",
        lambda model, number, *rest: threads.append(number) or convert(model, number, *rest),
    )
    context = SimpleNamespace(replica_id=SimpleNamespace(unique_id="a"))
    monkeypatch.setattr(replica.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(replica, "REPORT_SECONDS", 0.01)

    async def run():
        there, one = SaysTwo(), Replica.__new__(Replica)
        there.report = SimpleNamespace(remote=report_of(targets[1]))
        await one.__init__(targets[0], ServeConfig(runtime="openvino", cpus_per_replica=2), there)
        async with asyncio.timeout(300):
            while one._target != targets[1]:
                await asyncio.sleep(0.01)
        one._following.cancel()
        return one

    one = asyncio.run(run())
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    (found,) = one._loaded._predictor.predict([image], [1])
    (expected,) = open_predictor(targets[1].folder).predict([image], [1])
    assert threads == [2, 2]
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected):
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-3)
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=0.05)


def report_of(target):
    async def report(said):
        return (target if said.serves else None), []

    return report


def test_version_that_cannot_be_stored_is_told_as_failed(monkeypatch):
    def fetch(uri, tracking):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(alias_watcher, "Tracking", lambda config: None)
    monkeypatch.setattr(alias_watcher, "version_of_alias", lambda *given: "2")
    monkeypatch.setattr(alias_watcher, "resolve_model", fetch)

    async def run():
        one = AliasWatcher.__new__(AliasWatcher)
        await one.__init__("shapes", "champion", "sqlite:///none.db", ONE, ServeConfig(poll_alias_seconds=0.01))
        async with asyncio.timeout(300):
            while "failed" not in {entry["state"] for entry in (await one.status())["models"]}:
                await asyncio.sleep(0.01)
        one._task.cancel()
        return await one.status()

    status = asyncio.run(run())
    (failed,) = [entry for entry in status["models"] if entry["state"] == "failed"]
    assert failed["version"] == "2"
    assert "no space left on device" in failed["error"]
    assert status["follows"]["registry_error"] is None, "the registry has answered"
