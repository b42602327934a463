"""The HTTP interface: routes and limits around a backend that predicts; it knows nothing of Ray."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.middleware.cors import CORSMiddleware

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.api_keys import KeyRing
from maskray.platform.serve.http.auth import KeyCheck, Places
from maskray.platform.serve.http.error_handlers import handle_errors
from maskray.platform.serve.http.methods import Methods
from maskray.platform.serve.http.metrics import ServerMetrics
from maskray.platform.serve.http.openapi_examples import (
    MODELS_RESPONSES,
    PREDICT_RESPONSES,
    describe_errors,
    predict_body,
)
from maskray.platform.serve.http.origin_check import OriginCheck, own_hosts
from maskray.platform.serve.http.predict_route import Backend, PredictRoute
from maskray.platform.serve.http.request_checks import check_query
from maskray.platform.serve.http.request_log import RequestLog
from maskray.platform.serve.http.samples import add_samples
from maskray.platform.serve.web.page import add_page, page_settings

ROUTES = ("/", "/healthz", "/metrics", "/openapi.json", "/v1/model", "/v1/models", "/v1/predict")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_app(config: ServeConfig, backend: Backend, server_metrics: ServerMetrics, places: Places) -> FastAPI:
    """The routes around a backend."""
    app = FastAPI(title="maskray", docs_url=None, redoc_url=None)  # those two pages load scripts from elsewhere
    handle_errors(app, lambda: places.retry_seconds)
    add_page(app, config)
    add_samples(app, config)
    _add_state(app, config, backend, server_metrics, places)
    body = predict_body(config)
    _add_prediction(app, PredictRoute(config, backend, server_metrics, places), body)
    describe_errors(app)
    # From the inside outwards: the last one added sees a request first.
    app.add_middleware(Methods)
    if config.api_keys_file is not None:
        app.add_middleware(KeyCheck, ring=KeyRing(config.api_keys_file))
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID", "X-Request-Deadline"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(OriginCheck, hosts=own_hosts(config), origins=config.cors_origins)
    app.add_middleware(RequestLog, server_metrics=server_metrics, routes=ROUTES)
    return app


def _add_state(
    app: FastAPI, config: ServeConfig, backend: Backend, server_metrics: ServerMetrics, places: Places
) -> None:
    """Routes that tell how the server is."""
    limits = {
        "max_request_bytes": config.max_request_bytes,
        "max_image_pixels": config.max_image_pixels,
        "max_images_per_request": config.most_images,
        "deadline_seconds": config.deadline_seconds,
    }
    if config.tta is not None:
        limits |= {"tta_views": config.tta.views.num_views, "max_view_pixels": config.tta.max_view_pixels}

    @app.get(
        "/healthz",
        responses={
            503: {
                "description": "It is full for the moment (its status is busy) or ending (draining): no image is taken."
            }
        },
    )
    async def healthz() -> JSONResponse:
        """Whether the server takes images: one that is sent now."""
        status = "draining" if places.draining else "busy" if places.is_full else "ok"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @app.get("/v1/model")
    async def describe() -> dict[str, Any]:
        """The model that answers: name, version, labels, limits, the page's settings, and its whole description."""
        return {**await backend.describe(), "limits": limits, "page": page_settings(config)}

    @app.get("/v1/models", responses=MODELS_RESPONSES)
    async def list_models(request: Request) -> dict[str, Any]:
        """Versions that are served, being loaded or failed, with the reason; and the alias that is followed."""
        check_query(request, ())
        return await backend.list_models()

    @app.get("/metrics", response_class=Response, responses={200: {"content": {METRICS_TYPE: {}}}})
    async def metrics() -> Response:
        """Counts, durations and queue of this process for Prometheus."""
        return Response(server_metrics.text(), media_type=METRICS_TYPE)


def _add_prediction(app: FastAPI, answer: PredictRoute, body: dict[str, Any]) -> None:
    @app.post("/v1/predict", response_class=JSONResponse, responses=PREDICT_RESPONSES, openapi_extra=body)
    async def predict(request: Request) -> Response:
        """Objects in one image or several: the body is an image, a form with fields `image`, or JSON."""
        return await answer(request)
