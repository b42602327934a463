"""Size and cost from the markers alone: as Pillow tells the size, and at once for what is made to take long."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskray.platform.data.decode import image_size
from maskray.platform.data.image_header import MOST_SCANS, UnknownFormat, read_header

KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
NOISE = np.random.default_rng(0).integers(0, 256, (21, 34, 3)).astype(np.uint8)
IMAGE = Image.fromarray(NOISE)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010E], tags[0x0112] = "what is seen", orientation
    return tags


def variants() -> dict[str, bytes]:
    images = {f"{kind} {mode}": encode(IMAGE.convert(mode), kind) for kind in KINDS for mode in ("RGB", "L")}
    images |= {f"{kind} turned": encode(IMAGE, kind, exif=exif(6)) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}
    images |= {f"{kind} mirrored": encode(IMAGE, kind, exif=exif(2)) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}
    frames = {"save_all": True, "append_images": [IMAGE.rotate(90), IMAGE]}
    images |= {f"{kind} of frames": encode(IMAGE, kind, **frames) for kind in ("PNG", "WEBP", "GIF", "TIFF")}
    profile = bytes(200_000)
    return images | {
        "progressive": encode(IMAGE, "JPEG", progressive=True, comment=b"a" * 60_000, icc_profile=profile),
        "with restarts": encode(IMAGE, "JPEG", restart_marker_blocks=1),
        "CMYK": encode(IMAGE.convert("CMYK"), "JPEG"),
        "with a preview": encode(IMAGE, "MPO", **frames),
        "palette": encode(IMAGE.quantize(7), "PNG"),
        "16 bits": encode(Image.fromarray(NOISE[..., 0].astype(np.uint16)), "PNG"),
        "profile": encode(IMAGE, "PNG", icc_profile=profile),
        "lossless": encode(IMAGE.convert("RGBA"), "WEBP", lossless=True),
        "WEBP with a profile": encode(IMAGE, "WEBP", icc_profile=profile),
        "GIF with a comment": encode(IMAGE.quantize(7), "GIF", comment=b"a" * 1000),
        "1 bit": encode(IMAGE.convert("1"), "BMP"),
        "BMP of OS/2": b"BM" + struct.pack("<IIIIHHHH", 0, 0, 26, 12, 34, 21, 1, 24) + bytes(104 * 21),
        "big TIFF": encode(IMAGE, "TIFF", big_tiff=True),
        "packed TIFF": encode(IMAGE, "TIFF", compression="tiff_lzw"),
        "TIFF of another order": encode(Image.fromarray(NOISE[..., 0].astype(">u2")), "TIFF"),
    }


VARIANTS = variants()


@pytest.mark.parametrize("name", VARIANTS)
def test_size_is_that_of_pillow(name: str) -> None:
    header = read_header(VARIANTS[name])
    assert (header.width, header.height) == image_size(VARIANTS[name])
    with Image.open(io.BytesIO(VARIANTS[name])) as image:
        assert {"MPO": "JPEG"}.get(image.format or "", image.format) == header.format
    assert header.is_cheap == (header.format not in ("GIF", "TIFF"))


@given(st.sampled_from(sorted(VARIANTS)), st.data())
def test_damaged_files_are_value_errors(name: str, draw: st.DataObject) -> None:
    data = bytearray(VARIANTS[name])
    for _ in range(draw.draw(st.integers(0, 4))):
        data[draw.draw(st.integers(0, min(len(data) - 1, 300)))] = draw.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(data[: draw.draw(st.integers(0, len(data)))]))
    except ValueError:
        return
    assert header.width > 0 < header.height


@given(st.binary(max_size=100))
def test_what_begins_as_no_image_is_told_apart(data: bytes) -> None:
    with pytest.raises(UnknownFormat):
        read_header(b"P6" + data)


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def scans(number: int, pixels: int = 64) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encode(Image.new("L", (pixels, pixels)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (number - data.count(b"\xff\xda", 0, last)) + data[-2:]


def test_scans_of_a_progressive_image_are_bounded() -> None:
    """552 kilobytes with 6,000 scans held a replica for 38 s."""
    assert read_header(scans(MOST_SCANS)).is_cheap
    for number in (MOST_SCANS + 1, 6000):
        with pytest.raises(ValueError, match="more scans than the 100"):
            read_header(scans(number))


def test_scans_that_are_not_progressive_are_counted_where_one_has_not_all_components() -> None:
    data = encode(IMAGE, "JPEG")
    begin = data.index(b"\xff\xda")
    first = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(20)
    with pytest.raises(ValueError, match="more scans"):
        read_header(data[:begin] + first * 1000 + data[begin:])
    assert read_header(data[:-2] + data[begin:-2] * 1000 + data[-2:]).is_cheap, (
        "the second one is an error that is found at once"
    )


def test_scans_of_many_pixels_are_fewer() -> None:
    data = bytearray(scans(50))
    at = data.index(b"\xff\xc2") + 5
    data[at : at + 4] = struct.pack(">HH", 3000, 3000)
    assert not read_header(bytes(data)).is_cheap
    data[at : at + 4] = struct.pack(">HH", 5000, 5000)
    with pytest.raises(ValueError, match="fewer of many pixels"):
        read_header(bytes(data))


def test_previews_are_not_counted_as_scans() -> None:
    preview = segment(0xE1, b"x" + b"\xff\xda" * 30_000)
    for data in (encode(IMAGE, "JPEG"), encode(IMAGE, "JPEG", progressive=True)):
        assert read_header(data[:2] + preview + data[2:]).is_cheap
        assert read_header(data + b"\xff\xda" * 1000).is_cheap


def tags(*entries: tuple[int, int, int, int]) -> bytes:
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    return block + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


MANY_TAGS = tags(*((1000 + n, 7, 60_000, 8) for n in range(5000)))
PNG = encode(IMAGE, "PNG")
JPEG = encode(IMAGE, "JPEG")


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:2] + b"\xff\xfe\0\2" * 5_000_000 + JPEG[2:],
        JPEG[:2] + b"\xff\x02" * 10_000_000 + JPEG[2:],
        JPEG[:2] + b"\xff\xff" * 10_000_000,
        PNG[:33] + chunk(b"tEXt", b"a\0") * 1_400_000 + PNG[33:],
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"abcd\0\0\0\0" * 2_000_000,
        b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\1a\0" * 4_000_000,
        b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 10_000_000,
        MANY_TAGS,
    ],
)
def test_what_stands_before_the_pixels_is_bounded(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_header(data)


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:2] + segment(0xE1, b"Exif\0\0" + MANY_TAGS[:65_000]) + JPEG[2:],
        JPEG[:2] + segment(0xE2, b"MPF\0" + MANY_TAGS[:65_000]) + JPEG[2:],
        PNG[:33] + chunk(b"eXIf", MANY_TAGS) + PNG[33:],
        VARIANTS["1 bit"][:30] + struct.pack("<I", 1) + VARIANTS["1 bit"][34:],
    ],
)
def test_what_takes_long_to_open_or_decode_is_not_cheap(data: bytes) -> None:
    assert not read_header(data).is_cheap


@pytest.mark.parametrize(("kind", "most"), [("JPEG", (5000, 5000)), ("PNG", (4000, 3000)), ("WEBP", (4000, 3000))])
def test_images_of_cameras_are_cheap_and_larger_ones_are_not(kind: str, most: tuple[int, int]) -> None:
    assert read_header(encode(Image.new("L", most), kind)).is_cheap
    assert not read_header(encode(Image.new("L", (most[0] + 1, most[1])), kind)).is_cheap
