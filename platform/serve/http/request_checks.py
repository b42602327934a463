"""What a request may be: size of its body, kind and pixels of an image; and how one that is refused is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection

from fastapi import Request

from maskray.platform.data.decode import FORMATS
from maskray.platform.data.image_header import UnknownFormat, read_header
from maskray.platform.job.serve_config import ServeTTAConfig

RATE_BYTES, RATE_SECONDS = 10_000, 10.0  # of a body that arrives: so much in every such time
DRAIN_SECONDS = 10.0
DRAINED_BYTES = 64_000_000  # read and thrown away after a refusal, so that the client gets to read the answer

SLICE_BYTES = 1 << 18  # of a form, parsed in some milliseconds


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
            there = f"there are {', '.join(sorted(known))}" if known else "there are none here"
            raise RequestError(422, f"unknown parameter {name!r}; {there}")


def check_pixels(data: bytes, max_pixels: int) -> tuple[int, int]:
    """(width, height) as the header of an encoded image states them; nothing is decoded.

    Refused are more than max_pixels (413), what is no image (415), and a broken header or one that says that decoding
    takes more than any image needs that is none made to hurt (422).
    """
    try:
        header = read_header(data)
    except UnknownFormat:
        raise RequestError(415, f"not an image of a format known here: {', '.join(FORMATS)}") from None
    except ValueError as error:
        raise RequestError(422, str(error)) from None
    width, height = header.width, header.height
    if width * height > max_pixels:
        raise RequestError(413, f"the image has {width} x {height} pixels, more than the {max_pixels} allowed")
    return width, height


def check_views(size: tuple[int, int], config: ServeTTAConfig) -> None:
    """Refuse an image of a (width, height) whose views have more pixels together than allowed (413)."""
    pixels, most = config.views.count_pixels(*size), config.max_view_pixels
    if pixels > most:
        told = f"tta: the {config.views.num_views} views of a {size[0]} x {size[1]} image have {pixels} pixels"
        raise RequestError(413, f"{told}, more than the {most} allowed")


async def read_body(request: Request, count: Callable[[int], None], max_bytes: int, max_body_bytes: int) -> bytes:
    """The whole body; above max_body_bytes a refusal (413) that speaks of max_bytes, which the images may have.

    `count` is told of the bytes as they come, and may refuse more. A body that pauses, or comes slower than any line,
    is refused (408).
    """
    stated = request.headers.get("content-length", "0")
    stream = request.stream()
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > max_body_bytes):
        await _drain(stream)
        raise too_large(max_bytes)
    body = bytearray()
    while True:
        before = len(body)
        try:
            async with asyncio.timeout(RATE_SECONDS):
                while len(body) - before < RATE_BYTES:
                    chunk = await anext(stream, None)
                    if chunk is None:
                        return bytes(body)
                    body += chunk
                    count(len(chunk))
        except TimeoutError:
            rate = RATE_BYTES / RATE_SECONDS
            raise RequestError(408, f"the request came slower than {rate:g} bytes a second") from None
        if len(body) > max_body_bytes:
            await _drain(stream)
            raise too_large(max_bytes)


def too_large(max_bytes: int) -> RequestError:
    """The refusal of more bytes than allowed."""
    return RequestError(413, f"the image is larger than the {max_bytes} bytes allowed")


def too_many(max_images: int) -> RequestError:
    """The refusal of more images than allowed."""
    return RequestError(413, f"more images than the {max_images} of a request")


async def in_slices(body: bytes) -> AsyncGenerator[bytes, None]:
    """A body that is there already, as a stream that lets others work in between."""
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]
        await asyncio.sleep(0)


async def _drain(stream: AsyncGenerator[bytes, None]) -> None:
    """Throw away what still arrives: a client that is cut off while it sends sees a broken pipe and no reason."""
    read = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in stream:
                read += len(chunk)
                if read > DRAINED_BYTES:
                    return
