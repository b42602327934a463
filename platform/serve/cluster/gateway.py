"""The way in, a Ray Serve replica without a model: answers HTTP, and asks the replicas of the model for predictions.

A model replica may die with images in it. Their bytes are still here, and finding objects changes nothing, so each
goes to another replica. That is why HTTP is not answered where the model is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.machine.memory import keep_memory_flat
from maskray.platform.serve.cluster.listening import take_over_port
from maskray.platform.serve.cluster.ray_environment import listens_itself
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.parameters import Options
from maskray.platform.serve.http.request_log import open_log
from maskray.platform.serve.http.responses import FailedImage
from maskray.platform.serve.model.direct_line import DirectLines, LineBroken, NoLine, folder_of_lines

MOST_TRIES = 4  # an image that was in that many replicas when they died is taken for the reason
PAUSE_SECONDS = 0.1
REMEMBERED_SECONDS = 1.0  # so that those who watch /v1/models do not keep the replicas from predictions

logger = logging.getLogger(__name__)


@serve.ingress()
class Gateway:
    """Answers the routes of app.py."""

    def __init__(self, model: DeploymentHandle, alias_watcher: DeploymentHandle | None, config: ServeConfig) -> None:
        # By value: over gRPC, and not as actor calls whose arguments and results are objects of the cluster.
        self._model = model.options(_by_reference=False)
        self._alias_watcher = alias_watcher
        self._config = config
        self._meters = ServerMetrics(to_ray=True)
        self._places = Places(config.most_waiting, self._meters)
        self._lines = DirectLines(folder) if (folder := folder_of_lines(config)) else None
        self._described: tuple[float, dict[str, Any]] = (0.0, {})
        open_log(config.log_file)
        keep_memory_flat()
        if listens_itself(config):
            take_over_port(config.port)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes, with this gateway behind them."""
        return build_app(self._config, self, self._meters, self._places)

    async def drain(self) -> int:
        """Take no more images, and say how many are still in work or waiting."""
        self._places.draining = True
        return self._places.taken

    async def process_id(self) -> int:
        """The process of this gateway on its machine."""
        return os.getpid()

    async def predict(self, data: bytes, size: tuple[int, int], options: Options, seconds_left: float) -> Any:
        """The outcome of an image from whichever replica, from another where that one dies."""
        until = time.monotonic() + seconds_left
        for tries in range(1, MOST_TRIES + 1):
            try:
                return await self._ask_replica(data, size, options, until - time.monotonic())
            except (RayActorError, LineBroken) as error:
                logger.warning("a replica died with an image in it, try %d: %s", tries, type(error).__name__)
                self._meters.retries.record()
                await asyncio.sleep(PAUSE_SECONDS)
            except (BackPressureError, DeploymentUnavailableError) as error:
                logger.warning("the replicas take nothing: %s", error)
                return FailedImage(503, "the server is busy, try again in a moment")
        return FailedImage(500, f"{MOST_TRIES} replicas died with this image in them")

    async def _ask_replica(self, *question: Any) -> Any:
        """What a replica says, asked directly where that can be done, and by way of Serve else."""
        if self._lines is not None:
            with contextlib.suppress(NoLine):
                return await self._lines.ask(*question)
        response = self._model.predict.remote(*question)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def describe(self) -> dict[str, Any]:
        """What a replica says of its model, not older than a second."""
        read_at, described = self._described
        if not described or time.monotonic() - read_at > REMEMBERED_SECONDS:
            described = await self._model.describe.remote()
            self._described = (time.monotonic(), described)
        return described

    async def list_models(self) -> dict[str, Any]:
        """Versions that are served, loaded or failed; for a model that follows no alias the one there is."""
        if self._alias_watcher is not None:
            status: dict[str, Any] = await self._alias_watcher.status.remote()
            return status
        described = await self.describe()
        entry = {"name": described["name"], "version": described["version"], "state": "serving", "error": None}
        return {"models": [entry], "follows": None}
