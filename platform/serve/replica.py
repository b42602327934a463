"""One copy of the model in a Ray Serve replica: gathers requests into batches and computes in a thread of its own."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from fastapi import FastAPI
from ray import serve

from maskray.platform.config import ServeConfig
from maskray.platform.data.predictor import Predictor
from maskray.platform.data.transforms import Pixels, decode_image
from maskray.platform.registry.folder import read_model_folder
from maskray.platform.serve.app import Prediction, ServedModel, build_app

STUCK_SECONDS = 300.0  # a batch that takes longer is taken for hung, and Serve replaces the replica


@serve.ingress()
class Replica:
    """Answers the routes of app.py with the model of a folder that every node sees at the same path."""

    def __init__(self, model_folder: str, config: ServeConfig, name: str, version: str) -> None:
        device = "cuda" if config.gpus_per_replica > 0 else "cpu"
        model, spec = read_model_folder(model_folder, device)
        self._predictor = Predictor(model, spec, device)
        self._config = config
        self._served = ServedModel(name, version, spec)
        threads = max(1, int(config.cpus_per_replica))
        # Computing outside the event loop lets health checks and refusals be answered meanwhile. The number of
        # threads that torch uses belongs to the thread that calls it.
        self._worker = ThreadPoolExecutor(1, "predict", initializer=torch.set_num_threads, initargs=(threads,))
        self._batch_began: float | None = None
        self._predict_batch.set_max_batch_size(config.max_batch_size)
        self._predict_batch.set_batch_wait_timeout_s(config.batch_wait_seconds)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes, built where the model is."""
        return build_app(self._served, self._config, self.predict)

    async def check_health(self) -> None:
        """Raise where the model hangs, so that Serve starts another replica."""
        if self._batch_began is not None and time.monotonic() - self._batch_began > STUCK_SECONDS:
            raise RuntimeError(f"a batch has been running for more than {STUCK_SECONDS:.0f} s")

    async def predict(self, data: bytes) -> Prediction:
        """Decode an encoded picture and find its objects, in a batch with others that wait; ValueError if broken."""
        began = time.perf_counter()
        outcome = await self._predict_batch(data)
        if isinstance(outcome, ValueError):
            raise outcome
        waited = time.perf_counter() - began - sum(outcome.seconds.values())
        return Prediction(outcome.image, outcome.results, {"wait": max(0.0, waited), **outcome.seconds})

    @serve.batch
    async def _predict_batch(self, pictures: list[bytes]) -> list[Prediction | ValueError]:
        self._batch_began = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._compute, pictures)
        finally:
            self._batch_began = None

    def _compute(self, pictures: list[bytes]) -> list[Prediction | ValueError]:
        """Predict a batch; a picture that cannot be decoded yields its error and leaves the others alone."""
        began = time.perf_counter()
        decoded = [self._decode(data) for data in pictures]
        whole = [image for image in decoded if not isinstance(image, ValueError)]
        ready = time.perf_counter()
        found = iter(self._predictor.predict(whole, range(len(whole))) if whole else [])
        seconds = {"decode": ready - began, "predict": time.perf_counter() - ready}
        return [
            image if isinstance(image, ValueError) else Prediction(image, next(found), seconds) for image in decoded
        ]

    def _decode(self, data: bytes) -> Pixels | ValueError:
        try:
            return decode_image(data, self._config.max_image_pixels)
        except ValueError as error:
            return error
