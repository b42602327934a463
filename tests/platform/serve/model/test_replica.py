"""How a replica and the follower take versions that cannot be loaded or fetched; the rest is tested on a server."""

import asyncio
import errno
from types import SimpleNamespace

import pytest

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

    def load(folder, model, device):
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
