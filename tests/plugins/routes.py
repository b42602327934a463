"""The routes of the server around something in place of the model, which may be slow, fail or refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.responses import ModelName, Prediction, choose


class Backend:
    """A model in place of the real one; `predict` gives COCO results or a Refusal for bytes."""

    def __init__(self, predict: Callable[[bytes], Awaitable[Any]]) -> None:
        self._predict = predict

    async def predict(self, data: bytes, size: tuple[int, int], options: Any, seconds_left: float) -> Any:
        outcome = await self._predict(data)
        if isinstance(outcome, list):
            outcome = Prediction(ModelName("shapes", "3"), *size, choose(outcome, options), {"predict": 0.1}, 1)
        return outcome

    async def describe(self) -> dict[str, Any]:
        return {"name": "shapes", "version": "3"}

    async def list_models(self) -> dict[str, Any]:
        return {"models": [], "follows": None}


def app_of(predict: Any, places: Places | None = None, **config: Any) -> FastAPI:
    """The routes around a backend, or around a coroutine as Backend takes it."""
    settings, server_metrics = ServeConfig(**config), ServerMetrics()
    backend = predict if hasattr(predict, "predict") else Backend(predict)
    return build_app(settings, backend, server_metrics, places or Places(settings.most_waiting, server_metrics))
