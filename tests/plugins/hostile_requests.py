"""What a server on the open network is sent: by people, by programs and by those who want it to fail."""

from __future__ import annotations

import base64
import io
import random
import socket
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image

BUSY = frozenset({503, 504})  # documented: the queue is full, the time was over
OPAQUE = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
OTHER_SITE = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}


@dataclass(frozen=True)
class Request:
    """Arguments of httpx and the statuses that they earn; `is_image` where being busy is an answer too."""

    kind: str
    earned: frozenset[int]
    arguments: dict[str, Any] = field(repr=False)
    is_image: bool = True

    @property
    def allowed(self) -> frozenset[int]:
        return self.earned | BUSY if self.is_image else self.earned


def requests_of(images: list[bytes]) -> list[Request]:
    """A mix of which half are the images as they are, and half everything else."""
    good = [Request("image", frozenset({200}), sent(data)) for data in images]
    others = [*unusual(images[0]), *hostile(images[0]), *mutated(images[0], 20)]
    return [request for number, other in enumerate(others) for request in (good[number % len(good)], other)]


def sent(data: bytes, **more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "/v1/predict", "content": data, "headers": OPAQUE} | more


def unusual(image: bytes) -> list[Request]:
    """What clients send that mean well."""
    text = base64.b64encode(image).decode()
    ok = frozenset({200})
    return [
        Request("drawn", ok, sent(image, params={"format": "png"})),
        Request("tensors", ok, sent(image, params={"format": "binary"})),
        Request("list, one broken", ok, {"method": "POST", "url": "/v1/predict", "json": {"images": [text, "AAAA"]}}),
        Request("form", ok, {"method": "POST", "url": "/v1/predict", "files": {"image": image}}),
        Request("noise", ok, sent(encode(noise(1500, 1000), "JPEG"))),
        Request("large PNG", ok, sent(encode(np.zeros((2000, 3000, 3), np.uint8), "PNG"))),
        Request("cut off", frozenset({422}), sent(image[: len(image) // 2])),
        Request("text", frozenset({415}), sent(b"just some text")),
        Request("empty", frozenset({422}), sent(b"")),
        Request("too large", frozenset({413}), sent(bytes(21_000_000))),
        Request("unknown option", frozenset({422}), sent(image, params={"threshold": 1})),
        Request("no such path", frozenset({404}), {"method": "GET", "url": "/v2/predict"}, is_image=False),
        Request("page", ok, {"method": "GET", "url": "/"}, is_image=False),
        Request("model", ok, {"method": "GET", "url": "/v1/model"}),
        Request("metrics", ok, {"method": "GET", "url": "/metrics"}, is_image=False),
        Request("head", ok, {"method": "HEAD", "url": "/"}, is_image=False),
        Request("options", frozenset({204}), {"method": "OPTIONS", "url": "/v1/predict"}, is_image=False),
    ]


def hostile(image: bytes) -> list[Request]:
    """What costs a careless server its memory, its time or its answer."""
    objects = b'{"images":[' + b"{}," * 400_000 + b"{}]}"
    scans = encode(noise(64, 64), "JPEG", progressive=True)
    end = scans.rindex(b"\xff\xda")
    refused = frozenset({422})
    return [
        Request("bomb", frozenset({413}), sent(png_of(13_300, 13_300))),
        Request("lying PNG", refused, sent(png_of(4000, 4000)[:1000])),
        Request("many scans", refused, sent(scans[:-2] + (scans[end:-2] * 6000)[:600_000] + b"\xff\xd9")),
        Request("many objects", refused, sent(objects, headers=JSON)),
        Request("deep JSON", refused, sent(b"[" * 1_000_000, headers=JSON)),
        Request("bad JSON", refused, sent(b"{", headers=JSON)),
        Request("odd id", frozenset({200}), sent(image, headers=OPAQUE | {"X-Request-ID": b"\xff\xfe"})),
        Request("other host", frozenset({400, 403, 421}), sent(image, headers=OPAQUE | {"Host": "rebound.example"})),
        Request("other site", frozenset({403}), sent(image, headers=OPAQUE | OTHER_SITE)),
    ]


def mutated(image: bytes, number: int) -> list[Request]:
    """The image with a few bytes changed: it is answered or refused."""
    generator = random.Random(0)
    found = []
    for _ in range(number):
        data = bytearray(image)
        for _ in range(generator.choice((1, 4, 32))):
            data[generator.randrange(len(data))] = generator.randrange(256)
        found.append(Request("mutated", frozenset({200, 413, 415, 422}), sent(bytes(data))))
    return found


def slow_body(url: str, seconds: float, key: str = "") -> int | None:
    """The status that a body earns of which a byte comes each second; None where the connection ends without one."""
    place = httpx.URL(url)
    with socket.create_connection((place.host, place.port), timeout=1.0) as client:
        client.sendall(
            f"POST /v1/predict HTTP/1.1\r\nHost: {place.host}\r\nContent-Length: 100000\r\n"
            f"Content-Type: image/jpeg\r\nAuthorization: {key}\r\n\r\n".encode()
        )
        for _ in range(int(seconds)):
            try:
                client.sendall(b"\xff")
                answer = client.recv(100)
            except TimeoutError:
                continue
            return int(answer.split()[1]) if answer else None
    return 0


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encode(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel, packed a thousand times smaller than it is."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
