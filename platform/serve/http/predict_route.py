"""POST /v1/predict from the request to the answer: images in, checked, to the backend, and out in the form asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.body import Body, read_images
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.parameters import DEADLINE_HEADER, Options, read_options
from maskray.platform.serve.http.request_checks import RequestError, check_pixels, check_views
from maskray.platform.serve.http.request_log import note
from maskray.platform.serve.http.responses import BINARY_TYPE, FailedImage, Prediction, as_binary, as_json, as_json_list

SMALL_BYTES = 1 << 18


class Backend(Protocol):
    """What the routes ask for answers."""

    def predict(
        self, data: bytes, size: tuple[int, int], options: Options, seconds_left: float
    ) -> Awaitable[Prediction | FailedImage]:
        """The outcome for an encoded image of a (width, height)."""

    def describe(self) -> Awaitable[dict[str, Any]]:
        """Name, version, labels, masks, keypoints and spec of the model that answers."""

    def list_models(self) -> Awaitable[dict[str, Any]]:
        """Versions that are served, loaded or failed, and the alias that is followed."""


class PredictRoute:
    """Takes images from a request to the model and back, with no more at a time than there are places."""

    def __init__(self, config: ServeConfig, backend: Backend, server_metrics: ServerMetrics, places: Places) -> None:
        self._config = config
        self._backend = backend
        self._meters = server_metrics
        self._places = places
        self._parsing = asyncio.Lock()
        self._most_images = config.most_images

    async def __call__(self, request: Request) -> Response:
        """The answer; RequestError for what is refused, 408 and 504 past the deadline among it."""
        began = time.monotonic()
        options = read_options(request, {})
        self._places.check()
        seconds = self._deadline(options)
        body = await self._read(request, seconds)
        received = time.monotonic() - began
        options = read_options(request, body.options)
        if options.format == "png" and body.is_list:
            raise RequestError(422, "format png is for one image; ask for json or binary")
        seconds = self._deadline(options)
        with self._places.take(self._count_places(len(body.images), options)):
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + seconds - received):
                    outcomes = await self._predict(body, options, began + seconds)
            except TimeoutError:
                raise RequestError(504, f"the deadline of {seconds:g} s passed") from None
        note(request.scope, pictures=len(outcomes), bytes=sum(map(len, body.images)))
        answers = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
        if answers:
            note(request.scope, model=answers[0].model.version or answers[0].model.name)
        return self._respond(body, outcomes, options, received, time.monotonic() - began)

    async def _read(self, request: Request, seconds: float) -> Body:
        """The body, within the deadline."""
        most = self._config.max_request_bytes
        with self._places.arrive(most) as count:
            try:
                async with asyncio.timeout(seconds):
                    return await read_images(request, most, self._most_images, self._parsing, count)
            except TimeoutError:
                raise RequestError(408, f"the request did not arrive within {seconds:g} s") from None

    def _deadline(self, options: Options) -> float:
        """Seconds that a request has; it may ask for less than the server's, and not for more."""
        asked = options.deadline_seconds
        if asked is not None and asked > self._config.deadline_seconds:
            most = self._config.deadline_seconds
            raise RequestError(422, f"deadline_seconds, {DEADLINE_HEADER}: {asked:g} is more than the {most:g} allowed")
        return self._config.deadline_seconds if asked is None else asked

    def _count_places(self, images: int, options: Options) -> int:
        """Places that images take, with test-time augmentation one for each view; what can never be free is refused."""
        if not options.tta:
            return images
        if self._config.tta is None:
            raise RequestError(422, "tta: this server offers no test-time augmentation")
        views, most = self._config.tta.views.num_views, self._config.most_waiting
        if images * views > most:
            raise RequestError(413, f"{images} images of {views} views are more than the {most} places of the server")
        return images * views

    async def _predict(self, body: Body, options: Options, until: float) -> list[Prediction | FailedImage]:
        outcomes = await asyncio.gather(*(self._predict_one(data, options, until) for data in body.images))
        for outcome in outcomes:
            answered = isinstance(outcome, Prediction)
            version = outcome.model.version if isinstance(outcome, Prediction) else ""
            self._meters.images.record(version=version, outcome="found" if answered else "refused")
            if isinstance(outcome, Prediction):
                self._meters.batch_size.record(outcome.batch_size)
                for stage, seconds in outcome.seconds.items():
                    self._meters.stage_seconds.record(seconds, stage=stage)
        return outcomes

    async def _predict_one(self, data: bytes, options: Options, until: float) -> Prediction | FailedImage:
        try:
            most = self._config.max_image_pixels
            # A thread takes longer than the header of a small file, however it is made.
            small = len(data) <= SMALL_BYTES
            size = check_pixels(data, most) if small else await asyncio.to_thread(check_pixels, data, most)
            if options.tta and self._config.tta is not None:
                check_views(size, self._config.tta)
        except RequestError as error:
            return FailedImage(error.status, error.message)
        return await self._backend.predict(data, size, options, until - time.monotonic())

    def _respond(
        self, body: Body, outcomes: list[Prediction | FailedImage], options: Options, received: float, total: float
    ) -> Response:
        """One image: its answer or refusal. A list: an entry each; a refusal where every one is
        refused, or where the server failed on one."""
        first = outcomes[0]
        if all(isinstance(outcome, FailedImage) for outcome in outcomes) and isinstance(first, FailedImage):
            where = "image 0: " if body.is_list else ""
            raise RequestError(first.status, where + first.message)
        if any(isinstance(outcome, FailedImage) and outcome.status >= 500 for outcome in outcomes):
            worst = next(o for o in outcomes if isinstance(o, FailedImage) and o.status >= 500)
            raise RequestError(worst.status, worst.message)
        if options.format == "binary":
            return Response(as_binary(outcomes), media_type=BINARY_TYPE)
        if body.is_list:
            return JSONResponse(as_json_list(outcomes, total))
        assert isinstance(first, Prediction)
        if first.drawn is not None:
            return Response(first.drawn, media_type="image/png")
        return JSONResponse(as_json(first, {"receive": received, **first.seconds, "total": total}))
