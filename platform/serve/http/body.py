"""The images of a request, in each of the forms that it may have: bare bytes, a form, or JSON with base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from maskray.platform.serve.http.parameters import NAMES
from maskray.platform.serve.http.request_checks import RequestError, once, read_body, too_large

FIELD = "image"
LIST_FIELD = "images"  # of a JSON body
FORM_BYTES = 10_000  # boundaries and headers around the images of a form, or the keys of a JSON body
BASE64_GROWTH = 4 / 3


@dataclass(frozen=True)
class Body:
    """Encoded images in the order of the request, the options beside them, and whether a list was asked for."""

    images: list[bytes]
    options: dict[str, Any] = field(default_factory=dict)
    is_list: bool = False


async def read_images(request: Request, max_bytes: int, max_images: int) -> Body:
    """Read the body of a request: bare bytes of an image, a form with fields `image`, or JSON with base64.

    Refused are more than max_bytes of images (413, by Content-Length or as they arrive) or more than max_images of
    them (413), a content type or encoding that is none of these (415), and what is broken, empty or unknown (422).
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise RequestError(415, f"content encoding {encoding}: send the body as it is, not compressed")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        form = await _parse_form(request, await read_body(request, max_bytes, max_bytes + FORM_BYTES), max_images)
        try:
            body = await _read_form(form)
        finally:
            await form.close()
    elif content_type == "application/json":
        text = await read_body(request, max_bytes, int(max_bytes * BASE64_GROWTH) + FORM_BYTES)
        body = await asyncio.to_thread(_read_json, text)
    elif content_type in ("", "application/octet-stream") or content_type.startswith("image/"):
        body = Body([await read_body(request, max_bytes, max_bytes)])
    else:
        raise RequestError(
            415, f"content type {content_type} is not an image: send image/*, JSON, or a form with {FIELD}"
        )
    if len(body.images) > max_images:
        raise RequestError(413, f"{len(body.images)} images are more than the {max_images} of a request")
    if sum(map(len, body.images)) > max_bytes:
        raise too_large(max_bytes)
    if not body.images or not all(body.images):
        raise RequestError(422, "the request holds no image" if not body.is_list else "an image of it is empty")
    return body


async def _parse_form(request: Request, body: bytes, max_images: int) -> FormData:
    parser = MultiPartParser(request.headers, once(body), max_files=max_images + 1, max_fields=len(NAMES) + 1)
    try:
        return await parser.parse()
    except (MultiPartException, KeyError) as error:
        if str(error).startswith("Too many files"):
            raise RequestError(413, f"more images than the {max_images} of a request") from None
        raise RequestError(422, f"the form cannot be read: {' '.join(str(error).split())}") from None


async def _read_form(form: FormData) -> Body:
    for name, value in form.multi_items():
        if name != FIELD:
            raise RequestError(
                422, f"the form has no file in a field named {FIELD} but {name!r}; options go into the query"
            )
        if not isinstance(value, UploadFile):
            raise RequestError(422, f"the field {FIELD} of the form is text; send a file (in curl: {FIELD}=@FILE)")
    files = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
    if not files:
        raise RequestError(422, f"the form has no file in a field named {FIELD}")
    images = [await file.read() for file in files]
    return Body(images, is_list=len(images) > 1)


def _read_json(text: bytes) -> Body:
    try:
        tree = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise RequestError(422, f"the body is not JSON: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(tree, dict):
        raise RequestError(422, f"the body is not a JSON object with {FIELD} or {LIST_FIELD}")
    known = (FIELD, LIST_FIELD, *NAMES)
    for name in tree:
        if name not in known:
            raise RequestError(422, f"unknown key {name[:100]!r}; there are {', '.join(known)}")
    options = {name: value for name, value in tree.items() if name in NAMES}
    if (FIELD in tree) == (LIST_FIELD in tree):
        raise RequestError(422, f"a JSON body has either {FIELD} or {LIST_FIELD}")
    if FIELD in tree:
        return Body([_decode(tree[FIELD], FIELD)], options)
    entries = tree[LIST_FIELD]
    if not isinstance(entries, list) or not entries:
        raise RequestError(422, f"{LIST_FIELD} is a list of at least one image")
    images = [_decode(entry, f"{LIST_FIELD}.{index}") for index, entry in enumerate(entries)]
    return Body(images, options, is_list=True)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in pairs:
        if name in tree:
            raise ValueError(f"key {name[:100]!r} stands twice")
        tree[name] = value
    return tree


def _decode(entry: Any, where: str) -> bytes:
    """The bytes of an image given as base64 text, or as an object with that text under `data`."""
    if isinstance(entry, dict):
        unknown = [name for name in entry if name != "data"]
        if unknown:
            raise RequestError(422, f"{where}: unknown key {unknown[0][:100]!r}; there is data")
        entry = entry.get("data")
    if not isinstance(entry, str):
        raise RequestError(422, f"{where}: an image is text in base64, or an object with such text under data")
    try:
        return base64.b64decode(entry, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(422, f"{where}: not base64") from None
