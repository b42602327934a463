"""What a request may be: size of the body, kind of content, pixels of the picture, names of the query."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection

from fastapi import Request
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from maskray.platform.data.transforms import FORMATS, image_size

FIELD = "image"
MULTIPART_BYTES = 10_000  # boundaries and headers around the picture in a form
DRAINED_BYTES = 64_000_000  # read and thrown away after a refusal, so that the client gets to read the answer


class RequestError(Exception):
    """A request that is refused, with its HTTP status and one line for the person who sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check_query(request: Request, known: Collection[str]) -> None:
    """Refuse a query with a name that means nothing here (422): it would be ignored in silence."""
    for name in request.query_params:
        if name not in known:
            raise RequestError(422, f"unknown parameter {name!r}; there are {', '.join(sorted(known))}")


async def read_picture(request: Request, max_bytes: int) -> bytes:
    """The encoded picture of a request: its body, or the field `image` of a multipart form.

    Refused are a body above max_bytes (413, by Content-Length or as it arrives), content that says it is no picture
    (415), a form without the field, and a missing picture (422).
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        body = await _read_body(request, max_bytes, max_bytes + MULTIPART_BYTES)
        data = await _read_field(request, body)
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
    elif content_type in ("", "application/octet-stream") or content_type.startswith("image/"):
        data = await _read_body(request, max_bytes, max_bytes)
    else:
        raise RequestError(415, f"content type {content_type} is not a picture: send image/*, or a form with {FIELD}")
    if not data:
        raise RequestError(422, "the request holds no picture")
    return data


def check_pixels(data: bytes, max_pixels: int) -> tuple[int, int]:
    """(width, height) as the header of an encoded picture states them; nothing is decoded.

    Refused are more than max_pixels (413), what is no picture (415) and a broken header (422).
    """
    try:
        width, height = image_size(data)
    except ValueError as error:
        if isinstance(error.__context__, UnidentifiedImageError):
            raise RequestError(415, f"not a picture of a format known here: {', '.join(FORMATS)}") from None
        status = 413 if isinstance(error.__context__, Image.DecompressionBombError) else 422
        raise RequestError(status, str(error)) from None
    if width * height > max_pixels:
        raise RequestError(413, f"the picture has {width} x {height} pixels, more than the {max_pixels} allowed")
    return width, height


async def _read_body(request: Request, max_bytes: int, max_body_bytes: int) -> bytes:
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > max_body_bytes:
        await _drain(request.stream())
        raise _too_large(max_bytes)
    body = bytearray()
    stream = request.stream()
    async for chunk in stream:
        body += chunk
        if len(body) > max_body_bytes:
            await _drain(stream)
            raise _too_large(max_bytes)
    return bytes(body)


async def _drain(stream: AsyncGenerator[bytes, None]) -> None:
    """Throw away what still arrives: a client that is cut off while it sends sees a broken pipe and no reason."""
    read = 0
    async for chunk in stream:
        read += len(chunk)
        if read > DRAINED_BYTES:
            return


async def _read_field(request: Request, body: bytes) -> bytes:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, once(), max_files=1, max_fields=10).parse()
    except (MultiPartException, KeyError) as error:
        raise RequestError(422, f"the form cannot be read: {' '.join(str(error).split())}") from None
    field = form.get(FIELD)
    if not isinstance(field, UploadFile):
        raise RequestError(422, f"the form has no file in a field named {FIELD}")
    try:
        return await field.read()
    finally:
        await form.close()


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(413, f"the picture is larger than the {max_bytes} bytes allowed")
