"""The process that asks the registry where an alias points, fetches and checks the version, and tells the replicas."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

from maskray.platform.job.config import TrackingConfig
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.registry.models import resolve_model, version_of_alias
from maskray.platform.registry.tracking import Tracking
from maskray.platform.serve.model.rollout import Report, Rollout, Target

RETRY_SECONDS = 60.0  # after a version could not be fetched

logger = logging.getLogger(__name__)


class AliasWatcher:
    """Follows models:/NAME@alias; a registry that is away, or a version that is broken, leaves what is served alone.

    It may be killed: the one in its place asks the registry and the replicas, and until it knows, each replica keeps
    what it has.
    """

    async def __init__(self, name: str, alias: str, tracking_uri: str, first: Target, config: ServeConfig) -> None:  # type: ignore[misc]  # Serve awaits it
        self._name = name
        self._alias = alias
        self._tracking = Tracking(TrackingConfig(uri=tracking_uri))
        self._rollout = Rollout(first)
        self._knows = False
        self._pointed_at = ""
        self._registry_error = ""
        self._fetch_again = 0.0
        self._task = asyncio.create_task(self._watch(config.poll_alias_seconds))

    async def report(self, report: Report) -> tuple[Target | None, list[str]]:
        """What a replica shall serve, none while the registry has not been heard; and failures it may forget."""
        target = self._rollout.report(report)
        forgotten = [version for version in report.failed if version not in self._rollout.failed]
        return (target if self._knows else None), forgotten

    async def status(self) -> dict[str, Any]:
        """The part of GET /v1/models that is known here, as JSON values."""
        counts = self._rollout.versions()
        states = dict.fromkeys(counts, "serving")
        if self._rollout.wanted not in counts:
            states[self._rollout.wanted] = "loading"
        states |= {version: "failed" for version in self._rollout.failed if version not in counts}
        return {
            "models": [
                {
                    "name": self._name,
                    "version": version,
                    "state": states[version],
                    "replicas": counts.get(version, 0),
                    "error": self._rollout.failed.get(version),
                }
                for version in sorted(states, key=int, reverse=True)
            ],
            "follows": {
                "alias": self._alias,
                "version": self._pointed_at or None,
                "registry_error": self._registry_error or None,
            },
        }

    async def process_id(self) -> int:
        """The process of this follower on its machine."""
        return os.getpid()

    async def _watch(self, seconds: float) -> None:
        while True:
            try:
                version = await asyncio.to_thread(version_of_alias, self._tracking, self._name, self._alias)
                self._registry_error = ""
                await self._aim(version)
                self._knows = True
            except Exception as error:
                if str(error) != self._registry_error:
                    logger.error("models:/%s@%s: %s; what is served goes on", self._name, self._alias, error)
                self._registry_error = str(error)
            await asyncio.sleep(seconds)

    async def _aim(self, version: str) -> None:
        """Make the version that the alias points at the one that is wanted, if it is another and can be fetched."""
        if version != self._pointed_at:
            self._rollout.forget()
            self._fetch_again = 0.0
            self._pointed_at = version
        again = self._fetch_again and time.monotonic() >= self._fetch_again
        if version == self._rollout.wanted or (version in self._rollout.failed and not again):
            return
        if version == self._rollout.good.version:
            self._rollout.offer(self._rollout.good)
            return
        try:
            folder = await asyncio.to_thread(resolve_model, f"models:/{self._name}/{version}", self._tracking)
        except (OSError, ValueError) as error:  # a full disk too, or a cache that cannot be written
            logger.error("%s version %s cannot be fetched: %s", self._name, version, error)
            self._rollout.fail(version, str(error))
            self._fetch_again = time.monotonic() + RETRY_SECONDS
            return
        self._fetch_again = 0.0
        self._rollout.failed.pop(version, None)
        self._rollout.offer(Target(self._name, version, folder))
