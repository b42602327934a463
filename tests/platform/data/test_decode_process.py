"""Decoding in a process apart: the same pixels, and an end to what takes too long or too much."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from maskray.platform.data.decode import decode_image, image_size
from maskray.platform.data.decode_process import DecodeProcess

NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def scans():
    data = encode(Image.new("L", (4096, 4096)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 6000 + data[-2:]


@pytest.fixture
def start():
    started = []

    def start(*arguments):
        started.append(DecodeProcess(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_pixels_are_those_of_decoding_here(start, kind):
    process = start(100_000)
    for image in (Image.fromarray(NOISE), Image.fromarray(NOISE).rotate(90, expand=True)):
        data = encode(image, kind)
        np.testing.assert_array_equal(process.decode(data, 300), decode_image(data))


def test_errors_are_those_of_decoding_here(start):
    process = start(100)
    for data in (encode(Image.fromarray(NOISE), "PNG"), b"text", b"", encode(Image.fromarray(NOISE), "JPEG")[:300]):
        with pytest.raises(ValueError, match="cannot be decoded") as here:
            decode_image(data, 100)
        with pytest.raises(ValueError, match="cannot be decoded") as apart:
            process.decode(data, 300)
        assert str(apart.value) == str(here.value)


@pytest.mark.parametrize(("limit", "seconds"), [(0.3, 300), (300, 0.5)])
def test_image_that_takes_too_long_is_ended_and_the_next_is_decoded(start, scans, limit, seconds):
    """A progressive JPEG with 6,000 scans held a replica for 38 s."""
    process, data = start(20_000_000, limit), encode(Image.fromarray(NOISE), "PNG")
    np.testing.assert_array_equal(process.decode(data, 300), NOISE)
    with pytest.raises(ValueError, match="takes too much time or memory"):
        process.decode(scans, seconds)
    np.testing.assert_array_equal(process.decode(data, 300), NOISE)


def test_image_that_takes_too_much_memory_is_refused(start):
    """A tile of 9400 x 9400 pixels for an image of 16 x 16: 700 megabytes that the image itself does not tell of."""
    edge, packer = 9400, zlib.compressobj(1)
    begin = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = begin + again * 710
    bits = struct.pack("<4H", *[16] * 4)
    entries = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 4, 200), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 4)]
    entries += [(322, 4, 1, edge), (323, 4, 1, edge), (324, 4, 1, 208), (325, 4, 1, len(packed)), (338, 3, 1, 2)]
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    block += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = block.ljust(200, b"\0") + bits + packed
    assert image_size(data) == (16, 16)
    process = start(10_000)
    with pytest.raises(ValueError, match="cannot be decoded"):
        process.decode(data, 300)
    np.testing.assert_array_equal(process.decode(encode(Image.fromarray(NOISE), "PNG"), 300), NOISE)
