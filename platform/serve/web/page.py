"""The page's files, as the server hands them out, and what a browser may do with them."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

WEB = Path(__file__).parent
SCRIPTS = "app coco colors jobs masks notices panel samples server shapes skeletons stage worker"
PAGE_FILES = {"/": "index.html", "/style.css": "style.css", "/icon.svg": "icon.svg"} | {
    f"/{name}.js": f"{name}.js" for name in SCRIPTS.split()
}
# The page loads nothing from elsewhere, and nobody may frame it.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "Cache-Control": "no-cache",  # files of one version belong together
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_page(app: FastAPI) -> None:
    """Let an application answer / and the files that it names; they are the same for everybody and need no key."""
    for path, name in PAGE_FILES.items():

        async def page(name: str = name) -> FileResponse:
            return FileResponse(WEB / name, headers=HEADERS)

        app.add_api_route(path, page, methods=["GET"], include_in_schema=False, response_model=None)
