"""Decoding and orientation of images."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from maskray.platform.data.decode import (
    DECODE_ERRORS,
    decode_image,
    decode_row,
    image_file_size,
    image_size,
    upright_pixels,
)

CORNERS = np.zeros((32, 48, 3), dtype=np.uint8)
CORNERS[:16, :16] = (255, 0, 0)  # red at the upper left
CORNERS[16:, 32:] = (0, 0, 255)  # blue at the lower right


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def oriented(orientation: int, format: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(Image.fromarray(CORNERS), format, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, CORNERS),
        (2, CORNERS[:, ::-1]),
        (3, CORNERS[::-1, ::-1]),
        (4, CORNERS[::-1]),
        (5, CORNERS.transpose(1, 0, 2)),
        (6, np.rot90(CORNERS, -1)),  # the camera was turned: shown a quarter turn clockwise
        (7, CORNERS[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(CORNERS)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_image(oriented(orientation)), expected)
    assert image_size(oriented(orientation)) == expected.shape[1::-1]
    np.testing.assert_array_equal(decode_image(oriented(orientation, "TIFF")), expected)  # once, and not twice
    for kind in ("PNG", "TIFF", "WEBP"):
        opened = Image.open(io.BytesIO(oriented(orientation, kind)))
        np.testing.assert_array_equal(upright_pixels(opened), decode_image(oriented(orientation, kind)))
    assert image_size(oriented(orientation, "TIFF")) == expected.shape[1::-1]


def test_annotated_size_decides_the_frame() -> None:
    data = oriented(6)
    assert decode_image(data, size=(32, 48)).shape == (48, 32, 3)
    np.testing.assert_array_equal(decode_image(data, size=(48, 32)), CORNERS)  # annotated in the stored frame
    with pytest.raises(ValueError, match=r"the file is 32x48 \(width x height\), the annotation file says 50x50"):
        decode_image(data, size=(50, 50))
    with pytest.raises(ValueError, match=r"image 7 \(a\.png\): .*says 50x50"):
        decode_row({"image": data, "width": 50, "height": 50, "image_id": 7, "file_name": "a.png"})


def test_damaged_exif_counts_as_none() -> None:
    data = encode(Image.fromarray(CORNERS), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert decode_image(data).shape == CORNERS.shape


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    gray = Image.fromarray(np.full((8, 9), 255, np.uint8)).convert(mode)
    decoded = decode_image(encode(gray, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"))
    assert decoded.dtype == np.uint8
    # JPEG and colour spaces round.
    np.testing.assert_allclose(
        decoded, np.full((8, 9, 3), 255), atol=2
    )  # of whole numbers from one colour space to another


def test_sixteen_bit_gray_keeps_its_range() -> None:
    wide = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(wide)))[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_an_error_wherever_it_is_cut(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encode(Image.fromarray(noise), format)
    assert decode_image(data).shape == (64, 64, 3)
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.98):
        with pytest.raises(ValueError, match="image cannot be decoded"):
            decode_image(data[: int(len(data) * share)])


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error(data: bytes) -> None:
    for head in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"BM", b"II*\0"):
        try:
            decoded = decode_image(head + data, max_pixels=10_000)
        except ValueError:
            continue
        assert decoded.size <= 30_000


def test_size_is_checked_before_decoding() -> None:
    data = encode(Image.new("RGB", (200, 100)))[:60]  # the header alone, so decoding would fail in another way
    with pytest.raises(ValueError, match="200x100 pixels are more than the 19999 allowed"):
        decode_image(data, max_pixels=19_999)


def test_other_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_image(encode(Image.new("RGB", (8, 8)), "PPM"))


def late(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks behind its pixels."""
    end = data.index(b"IEND") - 4
    added = b"".join(
        struct.pack(">I", len(text)) + kind + text + struct.pack(">I", zlib.crc32(kind + text)) for kind, text in chunks
    )
    return data[:end] + added + data[end:]


EXIF = Image.Exif()
EXIF[0x0112] = 6
PLAIN = encode(Image.fromarray(CORNERS))
PROFILE = b"\nexif\n      26\n" + EXIF.tobytes().hex().encode()
XMP = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    "data",
    [
        late(PLAIN, (b"eXIf", EXIF.tobytes())),
        late(PLAIN, (b"tEXt", b"Raw profile type exif\0" + PROFILE)),
        late(PLAIN, (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PROFILE))),
        late(PLAIN, (b"iTXt", XMP)),
        late(oriented(6), (b"tEXt", b"a\0b")),
    ],
)
def test_orientation_behind_the_pixels_counts(data: bytes, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x0112] == 6, "as Pillow sees it"
    np.testing.assert_array_equal(decode_image(data), np.rot90(CORNERS, -1))
    np.testing.assert_array_equal(upright_pixels(Image.open(io.BytesIO(data))), np.rot90(CORNERS, -1))
    assert image_size(data) == (32, 48)
    (tmp_path / "a.png").write_bytes(data)
    assert image_file_size(tmp_path / "a.png") == (32, 48)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_size_is_told_without_a_pixel(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.7 megabytes of PNG were decoded to 13300 x 13300 pixels for their orientation, before anybody saw the size."""
    data = encode(Image.fromarray(CORNERS), kind)
    (tmp_path / "a").write_bytes(data)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert image_size(data) == image_file_size(tmp_path / "a") == (48, 32)


def jpegs() -> list[bytes]:
    """A picture by every way of subsampling and coding that Pillow writes."""
    noise = np.random.default_rng(2).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    picture = Image.fromarray(noise).resize((61, 47), Image.Resampling.BICUBIC)
    ways = itertools.product((30, 95), (0, 1, 2), (False, True), (0, 1))
    found = [
        encode(picture, "JPEG", quality=quality, subsampling=chroma, progressive=progressive, restart_marker_rows=rows)
        for quality, chroma, progressive, rows in ways
    ]
    found += [encode(picture.convert(mode), "JPEG", progressive=True) for mode in ("L", "CMYK")]
    return [*found, encode(picture, "JPEG", keep_rgb=True)]


def by_pillow(data: bytes) -> np.ndarray | None:
    """The pixels of a JPEG by Pillow alone, or None where that refuses it."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    except DECODE_ERRORS:
        return None


def assert_as_pillow(data: bytes) -> None:
    expected = by_pillow(data)
    if expected is None:
        with pytest.raises(ValueError, match="image cannot be decoded"):
            decode_image(data)
    else:
        np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize("data", jpegs())
def test_jpeg_pixels_are_those_of_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_as_pillow(data)
    if b"Adobe" not in data or Image.open(io.BytesIO(data)).mode != "CMYK":
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded by Pillow"))
        assert decode_image(data).shape == (47, 61, 3)


@settings(max_examples=1000)
@given(st.sampled_from(jpegs()), st.data())
def test_damaged_jpegs_end_as_by_pillow(data: bytes, draw: st.DataObject) -> None:
    """Cut short, bytes changed, bytes taken out and bytes put in, in the header and in the pixels."""
    at = draw.draw(st.integers(0, len(data) - 1))
    instead = draw.draw(st.binary(max_size=6))
    end = draw.draw(st.sampled_from([at, at + len(instead), at + 9, len(data)]))
    damaged = data[:at] + instead + data[end:]
    try:
        large = np.prod(image_size(damaged)) > 1_000_000  # a changed size; for the time it takes, not for what is found
    except ValueError:
        large = False
    if not large:
        assert_as_pillow(damaged)


def test_photographs_are_decoded_as_by_pillow(coco_sample: Path) -> None:
    for path in sorted((coco_sample / "val2017").glob("*.jpg"))[:12]:
        assert_as_pillow(path.read_bytes())
