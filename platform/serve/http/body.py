"""The images of a request, in each of the forms that it may have: bare bytes, a form, or JSON with base64."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from maskray.platform.serve.http.json_body import FIELD, JsonImages
from maskray.platform.serve.http.parameters import NAMES
from maskray.platform.serve.http.request_checks import RequestError, in_slices, read_body, too_large, too_many

FORM_BYTES = 10_000  # boundaries and headers around the images of a form, or the keys of a JSON body
BASE64_GROWTH = 4 / 3


@dataclass(frozen=True)
class Body:
    """Encoded images in the order of the request, the options beside them, and whether a list was asked for."""

    images: list[bytes]
    options: dict[str, Any] = field(default_factory=dict)
    is_list: bool = False


async def read_images(
    request: Request, max_bytes: int, max_images: int, parsing: asyncio.Lock, count: Callable[[int], None]
) -> Body:
    """Read the body of a request: bare bytes of an image, a form with fields `image`, or JSON with base64.

    Refused are more than max_bytes of images (413, by Content-Length or as they arrive) or more than max_images of
    them (413), a body that comes too slowly (408), a content type or encoding that is none of these (415), and what is
    broken, empty or unknown (422). `count` is told of bytes as they come; `parsing` lets one JSON body be parsed at a
    time.
    """
    read = partial(read_body, request, count)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise RequestError(415, f"content encoding {encoding}: send the body as it is, not compressed")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        form = await _parse_form(request, await read(max_bytes, max_bytes + FORM_BYTES), max_images)
        try:
            body = await _read_form(form)
        finally:
            await form.close()
    elif content_type == "application/json":
        text = await read(max_bytes, int(max_bytes * BASE64_GROWTH) + FORM_BYTES)
        async with parsing:  # one at a time: the text, its images and what lies between are there at once
            found = await asyncio.to_thread(JsonImages, text, max_bytes, max_images)
        body = Body(found.images, found.options, found.is_list)
    elif content_type in ("", "application/octet-stream") or content_type.startswith("image/"):
        body = Body([await read(max_bytes, max_bytes)])
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
    parser = MultiPartParser(request.headers, in_slices(body), max_files=max_images + 1, max_fields=len(NAMES) + 1)
    try:
        return await parser.parse()
    except (MultiPartException, KeyError) as error:
        if str(error).startswith("Too many files"):
            raise too_many(max_images) from None
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
