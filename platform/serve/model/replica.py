"""One copy of the model in a Ray Serve replica: batches what comes, computes in a thread, and changes to new versions.

A new version is loaded beside the old one, which answers meanwhile, and takes its place between two batches. So a
change needs no room for another replica, drops nothing, and a version that cannot be loaded changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from ray import serve
from ray.serve.handle import DeploymentHandle

from maskray.platform.data.decode import Pixels, decode_image
from maskray.platform.inference.engine import engine_of
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.machine.memory import keep_memory_flat
from maskray.platform.serve.http.parameters import Options
from maskray.platform.serve.http.responses import FailedImage, ModelName, Prediction
from maskray.platform.serve.model.batching import Batcher, DeadlinePassed
from maskray.platform.serve.model.costly_images import CannotDecode, CostlyImages
from maskray.platform.serve.model.direct_line import folder_of_lines, listen
from maskray.platform.serve.model.loaded_model import Found, LoadedModel, Task, load_model
from maskray.platform.serve.model.rollout import Report, Target

STUCK_SECONDS = 300.0  # a batch that takes longer is taken for hung, and Serve replaces the replica
REPORT_SECONDS = 1.0
LOAD_AGAIN_SECONDS = 60.0  # after a version could not be loaded here that others serve
AHEAD_PIXELS = 2_000_000  # of an image that is decoded while it waits: of all that may wait some 200 MB
ANSWER_SECONDS = 20.0  # in which the follower has to answer a replica that starts

logger = logging.getLogger(__name__)


class Replica:
    """Finds objects with the model of a folder that every node sees at the same path, or what a follower names."""

    async def __init__(self, first: Target, config: ServeConfig, alias_watcher: DeploymentHandle | None) -> None:  # type: ignore[misc]  # Serve awaits it
        self._config = config
        self._device = "cuda" if config.gpus_per_replica > 0 else "cpu"
        threads = self._threads = max(1, int(config.cpus_per_replica))
        # Computing outside the event loop lets health checks and refusals be answered meanwhile. The number of
        # threads that torch uses belongs to the thread that calls it.
        self._worker = ThreadPoolExecutor(1, "predict", initializer=torch.set_num_threads, initargs=(threads,))
        self._loader = ThreadPoolExecutor(1, "load", initializer=torch.set_num_threads, initargs=(1,))
        self._decoder = ThreadPoolExecutor(1, "decode")
        self._batcher = Batcher(self._compute, self._worker, config.max_batch_size, config.batch_wait_seconds)
        self._costly_images = CostlyImages(
            config.max_image_pixels, max(config.most_images, config.most_waiting // config.most_replicas // 2)
        )
        self._alias_watcher = alias_watcher
        self._id = serve.get_replica_context().replica_id.unique_id
        self._failed: dict[str, str] = {}
        self._again: dict[str, float] = {}
        self._loading: asyncio.Task[None] | None = None
        target = await self._ask_alias_watcher(None) or first
        self._loaded = await self._load(target)
        self._target = target
        keep_memory_flat()
        folder = folder_of_lines(config)
        self._line = await listen(folder, self._id, self.predict) if folder else None
        if alias_watcher is not None:
            self._following = asyncio.create_task(self._follow())

    async def predict(self, data: bytes, size: tuple[int, int], options: Options, seconds_left: float) -> Any:
        """An Answer for an encoded image whose header states a (width, height), or a Refusal; 504 past its time."""
        began = time.perf_counter()
        # One of many views takes as long as many others: it is in no batch with them.
        group = object() if options.tta else self._loaded.padded_size(size)
        try:
            image, decode_seconds = await self._costly_images.decode(data, seconds_left)
            if image is None and self._batcher.is_busy and size[0] * size[1] <= AHEAD_PIXELS:
                image, decode_seconds = await self._decode_ahead(data)
            left = seconds_left - (time.perf_counter() - began)
            loaded, outcome = await self._batcher.submit(Task(data, size, options, image), group, left)
        except DeadlinePassed:
            return FailedImage(504, "the deadline passed before the image was begun")
        except CannotDecode as refusal:
            return refusal.outcome
        if isinstance(outcome, FailedImage):
            return outcome
        stages = outcome.answer.seconds | {"decode": outcome.answer.seconds["decode"] + decode_seconds}
        waited = time.perf_counter() - began - sum(stages.values())
        seconds = {"wait": max(0.0, waited), **stages}
        drawn = None
        if options.format == "png":
            start = time.perf_counter()
            drawn = await asyncio.to_thread(loaded.draw, outcome)
            seconds["draw"] = time.perf_counter() - start
        answer: Prediction = replace(outcome.answer, seconds=seconds, drawn=drawn)
        return answer if drawn is None else replace(answer, detections=[])

    async def _decode_ahead(self, data: bytes) -> tuple[Pixels, float]:
        """The pixels of a small image and the seconds that it took, while the model computes others."""
        began = time.perf_counter()
        decode = partial(decode_image, data, self._config.max_image_pixels)
        try:
            image = await asyncio.get_running_loop().run_in_executor(self._decoder, decode)
        except ValueError as error:
            raise CannotDecode(422, str(error)) from None
        return image, time.perf_counter() - began

    async def describe(self) -> dict[str, Any]:
        """Name, version and description of the model that answers here, as JSON values."""
        spec = self._loaded.spec
        return {
            "name": self._loaded.model.name,
            "version": self._loaded.model.version,
            "labels": [category.model_dump(exclude_defaults=True) for category in spec.labels.categories],
            "masks": spec.model.masks,
            "keypoints": spec.model.keypoints,
            "spec": spec.model_dump(mode="json"),
        }

    async def process_id(self) -> int:
        """The process of this replica on its machine, for those who look after it or try what its death does."""
        return os.getpid()

    async def check_health(self) -> None:
        """Raise where the model hangs, so that Serve starts another replica."""
        if self._batcher.running_seconds > STUCK_SECONDS:
            raise RuntimeError(f"a batch has been running for more than {STUCK_SECONDS:.0f} s")

    def _compute(self, tasks: list[Task]) -> list[tuple[LoadedModel, Found | FailedImage]]:
        loaded = self._loaded
        return [(loaded, outcome) for outcome in loaded.find(tasks, self._config.max_image_pixels)]

    async def _load(self, target: Target) -> LoadedModel:
        name, config = ModelName(target.name, target.version), self._config
        tta = None if config.tta is None else config.tta.views
        load = partial(load_model, target.folder, name, self._device, engine_of(config), self._threads, tta)
        return await asyncio.get_running_loop().run_in_executor(self._loader, load)

    async def _follow(self) -> None:
        """Report to the follower every second, and load what it names in a task of its own."""
        while True:
            target = await self._ask_alias_watcher(self._target)
            if target is not None and self._loading is None and self._may_load(target.version):
                self._loading = asyncio.create_task(self._change(target))
            await asyncio.sleep(REPORT_SECONDS)

    def _may_load(self, version: str) -> bool:
        """Whether a version is another one that has not failed here, or a while ago."""
        if version == self._target.version or version in self._failed:
            return False
        return time.monotonic() >= self._again.get(version, 0.0)

    async def _change(self, target: Target) -> None:
        try:
            self._loaded = await self._load(target)
            self._target = target
            logger.warning("%s version %s answers now", target.name, target.version)
            await self._ask_alias_watcher(target)  # at once: who starts now shall begin with this version
        except Exception as error:
            self._failed[target.version] = str(error)
            self._again[target.version] = time.monotonic() + LOAD_AGAIN_SECONDS
            logger.exception("version %s cannot be loaded, %s goes on", target.version, self._target.version)
        finally:
            self._loading = None

    async def _ask_alias_watcher(self, serves: Target | None) -> Target | None:
        """What this replica shall serve; none where nobody knows, and the present version goes on."""
        if self._alias_watcher is None:
            return None
        report = Report(self._id, serves, dict(self._failed))
        try:
            target, forgotten = await asyncio.wait_for(self._alias_watcher.report.remote(report), ANSWER_SECONDS)
        except Exception:  # it is being replaced: what is served does not depend on it
            logger.exception("the follower does not answer; the present version goes on")
            return None
        for failed in forgotten:
            self._failed.pop(failed, None)
        return target
