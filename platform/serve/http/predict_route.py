"""POST /v1/predict from the request to the answer: pictures in, checked, to the backend, and out in the form asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.body import Body, read_pictures
from maskray.platform.serve.http.metrics import Meters
from maskray.platform.serve.http.parameters import DEADLINE_HEADER, Options, read_options
from maskray.platform.serve.http.request_checks import RequestError, check_pixels
from maskray.platform.serve.http.request_log import note
from maskray.platform.serve.http.responses import BINARY_TYPE, Answer, Refusal, as_binary, as_json, as_json_list


class Backend(Protocol):
    """What the routes ask for answers."""

    def predict(
        self, data: bytes, size: tuple[int, int], options: Options, seconds_left: float
    ) -> Awaitable[Answer | Refusal]:
        """The outcome for an encoded picture of a (width, height)."""

    def describe(self) -> Awaitable[dict[str, Any]]:
        """Name, version, labels, masks, keypoints and spec of the model that answers."""

    def list_models(self) -> Awaitable[dict[str, Any]]:
        """Versions that are served, loaded or failed, and the alias that is followed."""


class Answerer:
    """Takes pictures from a request to the model and back, with no more at a time than there are places."""

    def __init__(self, config: ServeConfig, backend: Backend, meters: Meters, places: Places) -> None:
        self._config = config
        self._backend = backend
        self._meters = meters
        self._places = places
        self._most_images = min(config.max_images_per_request, config.most_waiting)

    async def __call__(self, request: Request) -> Response:
        """The answer; RequestError for what is refused, 408 and 504 past the deadline among it."""
        began = time.monotonic()
        options = read_options(request, {})
        with self._places.take(1):
            seconds = self._deadline(options)
            try:
                async with asyncio.timeout(seconds):
                    body = await read_pictures(request, self._config.max_request_bytes, self._most_images)
            except TimeoutError:
                raise RequestError(408, f"the request did not arrive within {seconds:g} s") from None
            received = time.monotonic() - began
            options = read_options(request, body.options)
            if options.format == "png" and body.is_list:
                raise RequestError(422, "format png is for one picture; ask for json or binary")
            seconds = self._deadline(options)
            with self._places.take(len(body.pictures) - 1):
                try:
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + seconds - received):
                        outcomes = await self._predict(body, options, began + seconds)
                except TimeoutError:
                    raise RequestError(504, f"the deadline of {seconds:g} s passed") from None
        note(request.scope, pictures=len(outcomes), bytes=sum(map(len, body.pictures)))
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        if answers:
            note(request.scope, model=answers[0].model.version or answers[0].model.name)
        return self._respond(body, outcomes, options, received, time.monotonic() - began)

    def _deadline(self, options: Options) -> float:
        """Seconds that a request has; it may ask for less than the server's, and not for more."""
        asked = options.deadline_seconds
        if asked is not None and asked > self._config.deadline_seconds:
            most = self._config.deadline_seconds
            raise RequestError(422, f"deadline_seconds, {DEADLINE_HEADER}: {asked:g} is more than the {most:g} allowed")
        return self._config.deadline_seconds if asked is None else asked

    async def _predict(self, body: Body, options: Options, until: float) -> list[Answer | Refusal]:
        outcomes = await asyncio.gather(*(self._predict_one(data, options, until) for data in body.pictures))
        for outcome in outcomes:
            answered = isinstance(outcome, Answer)
            version = outcome.model.version if isinstance(outcome, Answer) else ""
            self._meters.pictures.record(version=version, outcome="found" if answered else "refused")
            if isinstance(outcome, Answer):
                self._meters.batch_size.record(outcome.batch_size)
                for stage, seconds in outcome.seconds.items():
                    self._meters.stage_seconds.record(seconds, stage=stage)
        return outcomes

    async def _predict_one(self, data: bytes, options: Options, until: float) -> Answer | Refusal:
        try:
            size = await asyncio.to_thread(check_pixels, data, self._config.max_image_pixels)
        except RequestError as error:
            return Refusal(error.status, error.message)
        return await self._backend.predict(data, size, options, until - time.monotonic())

    def _respond(
        self, body: Body, outcomes: list[Answer | Refusal], options: Options, received: float, total: float
    ) -> Response:
        """One picture: its answer or refusal. A list: an entry each; a refusal where every one is
        refused, or where the server failed on one."""
        first = outcomes[0]
        if all(isinstance(outcome, Refusal) for outcome in outcomes) and isinstance(first, Refusal):
            where = "picture 0: " if body.is_list else ""
            raise RequestError(first.status, where + first.message)
        if any(isinstance(outcome, Refusal) and outcome.status >= 500 for outcome in outcomes):
            worst = next(o for o in outcomes if isinstance(o, Refusal) and o.status >= 500)
            raise RequestError(worst.status, worst.message)
        if options.format == "binary":
            return Response(as_binary(outcomes), media_type=BINARY_TYPE)
        if body.is_list:
            return JSONResponse(as_json_list(outcomes, total))
        assert isinstance(first, Answer)
        if first.drawn is not None:
            return Response(first.drawn, media_type="image/png")
        return JSONResponse(as_json(first, {"receive": received, **first.seconds, "total": total}))
