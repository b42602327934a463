"""How errors are answered: JSON {"error": one line}; what is our own mistake goes to the log and not to the client."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from maskray.platform.serve.http.request_checks import RequestError
from maskray.platform.serve.http.request_log import CLOSED_BY_CLIENT, note

logger = logging.getLogger(__name__)


def handle_errors(app: FastAPI, retry_seconds: Callable[[], int] = lambda: 1) -> None:
    """Let an application answer every error so; where it is busy, with the seconds after which to come back."""

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        note(request.scope, error=error.message)
        headers = {"Retry-After": str(retry_seconds())} if error.status == 503 else None
        return JSONResponse({"error": error.message}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse({"error": message}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLOSED_BY_CLIENT)  # for the log alone: nobody is there to read it

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        logger.error("request %s failed", request.scope.get("maskray.id", ""), exc_info=error)
        return JSONResponse({"error": "the server failed on this request; its log says why"}, 500)
