"""The page's files, as the server hands them out, and what a browser may do with them."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from maskray.platform.job.serve_config import ServeConfig

WEB = Path(__file__).parent
KINDS = (".css", ".js", ".svg")
PAGE_FILES = {"/": "index.html"} | {f"/{one.name}": one.name for one in sorted(WEB.iterdir()) if one.suffix in KINDS}
HEADERS = {
    "Cache-Control": "no-cache",  # files of one version belong together
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_page(app: FastAPI, config: ServeConfig) -> None:
    """Let an application answer / and the files that it names; they are the same for everybody and need no key."""
    headers = HEADERS | {"Content-Security-Policy": page_policy(config)}
    for path, name in PAGE_FILES.items():

        async def page(name: str = name) -> FileResponse:
            return FileResponse(WEB / name, headers=headers)

        app.add_api_route(path, page, methods=["GET"], include_in_schema=False, response_model=None)


def page_policy(config: ServeConfig) -> str:
    """What a browser lets the page do: it loads nothing from elsewhere, and nobody may frame it.

    It asks its own server, that of compare_with, and with page_image_addresses anybody, for images to read as data.
    """
    asked = ["'self'"]
    asked += [config.compare_with] if config.compare_with else []
    asked += ["http:", "https:"] if config.page_image_addresses else []
    return (
        f"default-src 'self'; connect-src {' '.join(asked)}; img-src 'self' blob: data:; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page_settings(config: ServeConfig) -> dict[str, object]:
    """What the page has to know of the server's settings."""
    return {"compare_with": config.compare_with, "image_addresses": config.page_image_addresses}
