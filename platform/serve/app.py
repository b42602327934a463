"""The HTTP interface: routes, answers and errors; it knows nothing of Ray, only a function that predicts."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray
from PIL import Image
from starlette.exceptions import HTTPException

from maskray.model.config import ModelSpec
from maskray.platform.config import ServeConfig
from maskray.platform.drawing import draw_detections
from maskray.platform.serve.page import add_page
from maskray.platform.serve.requests import RequestError, check_pixels, check_query, read_picture
from maskray.platform.serve.samples import add_samples

DRAWN_SCORE = 0.5  # least score of what is drawn into a picture when the request names none
QUEUED_BATCHES = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """COCO results of one picture, best first, with the pixels (H, W, 3) uint8 they were found in, and seconds."""

    image: NDArray[np.uint8]
    results: list[dict[str, Any]]
    seconds: dict[str, float]


@dataclass(frozen=True)
class ServedModel:
    """Which model answers: a name and version for people, and its description."""

    name: str
    version: str
    spec: ModelSpec


PredictFunction = Callable[[bytes], Awaitable[Prediction]]


def most_waiting(config: ServeConfig) -> int:
    """Predictions that one replica holds at a time, in work or waiting; the next one is told to come back."""
    return QUEUED_BATCHES * config.max_batch_size


def build_app(served: ServedModel, config: ServeConfig, predict: PredictFunction) -> FastAPI:
    """The routes around a predict function, which takes an encoded picture and raises ValueError if it is broken."""
    app = FastAPI(title="maskray", docs_url=None, redoc_url=None)  # those two pages load scripts from elsewhere
    _handle_errors(app)
    add_page(app)
    add_samples(app, config)
    answer = _Answerer(served, config, predict)
    model = _describe_model(served, config)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the replica answers."""
        return {"status": "ok"}

    @app.get("/v1/model")
    async def describe() -> dict[str, Any]:
        """The model that answers: name, version, labels, limits and its whole description."""
        return model

    @app.post("/v1/predict")
    async def predict_picture(
        request: Request,
        score_threshold: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
        format: Annotated[Literal["json", "png"], Query()] = "json",
    ) -> Response:
        """Objects in the picture that the body is: as JSON in COCO's words, or drawn on it as PNG."""
        check_query(request, ("format", "score_threshold"))
        return await answer(request, score_threshold, format)

    return app


class _Answerer:
    """Takes a picture from a request to the model and back, with no more at a time than memory holds."""

    def __init__(self, served: ServedModel, config: ServeConfig, predict: PredictFunction) -> None:
        self._served = served
        self._config = config
        self._predict = predict
        self._names = {category.id: category.name for category in served.spec.labels.categories}
        self._active = 0

    async def __call__(self, request: Request, score_threshold: float | None, format: str) -> Response:
        if self._active >= most_waiting(self._config):
            raise RequestError(503, "the server is busy, try again in a moment")
        self._active += 1
        try:
            return await self._answer(request, score_threshold, format)
        finally:
            self._active -= 1

    async def _answer(self, request: Request, score_threshold: float | None, format: str) -> Response:
        began = time.perf_counter()
        data = await read_picture(request, self._config.max_request_bytes)
        check_pixels(data, self._config.max_image_pixels)
        received = time.perf_counter()
        try:
            prediction = await self._predict(data)
        except ValueError as error:
            raise RequestError(422, str(error)) from None
        least = score_threshold if score_threshold is not None else (DRAWN_SCORE if format == "png" else 0.0)
        results = [result for result in prediction.results if result["score"] >= least]
        if format == "png":
            return Response(await asyncio.to_thread(self._draw, prediction.image, results), media_type="image/png")
        height, width = prediction.image.shape[:2]
        seconds = {"receive": received - began, **prediction.seconds, "total": time.perf_counter() - began}
        return JSONResponse(
            {
                "model": {"name": self._served.name, "version": self._served.version},
                "image": {"width": width, "height": height},
                "detections": [self._name(result) for result in results],
                "seconds": {key: round(value, 4) for key, value in seconds.items()},
            }
        )

    def _name(self, result: dict[str, Any]) -> dict[str, Any]:
        """A COCO result with the name of its category and without the image id, which one picture does not need."""
        category_id = result["category_id"]
        rest = {key: value for key, value in result.items() if key not in ("image_id", "category_id")}
        return {"category_id": category_id, "category": self._names[category_id], **rest}

    def _draw(self, image: NDArray[np.uint8], results: list[dict[str, Any]]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(draw_detections(image, results, self._served.spec.labels, 0.0)).save(file, format="PNG")
        return file.getvalue()


def _describe_model(served: ServedModel, config: ServeConfig) -> dict[str, Any]:
    spec = served.spec
    return {
        "name": served.name,
        "version": served.version,
        "labels": [category.model_dump(exclude_defaults=True) for category in spec.labels.categories],
        "masks": spec.model.masks,
        "keypoints": spec.model.keypoints,
        "limits": {"max_request_bytes": config.max_request_bytes, "max_image_pixels": config.max_image_pixels},
        "spec": spec.model_dump(mode="json"),
    }


def _handle_errors(app: FastAPI) -> None:
    """Every error is JSON {"error": one line}; what is our own mistake goes to the log and not to the client."""

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": error.message}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"parameter {first['loc'][-1]}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse({"error": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"error": "the server failed on this request; its log says why"}, 500)
