"""Which images are decoded apart, and that those wait for one another and for nobody else."""

import asyncio
import io
import threading

import numpy as np
import pytest
from PIL import Image

from maskray.platform.data.decode import decode_image
from maskray.platform.serve.model.batching import DeadlinePassed
from maskray.platform.serve.model.costly_images import CannotDecode, CostlyImages


def encode(kind, size=(40, 30)):
    file = io.BytesIO()
    Image.effect_noise(size, 90).save(file, kind)
    return file.getvalue()


def decode(*images, seconds=300.0, most=16):
    async def run():
        costly = CostlyImages(1_000_000, most)
        tasks = [costly.decode(data, seconds) for data in images]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        costly._process.close()
        return outcomes

    return asyncio.run(run())


def test_images_of_cameras_are_left_to_the_batch_and_others_are_decoded():
    gif = encode("GIF")
    *left, (pixels, seconds) = decode(encode("JPEG"), encode("PNG"), encode("WEBP"), gif)
    assert left == [(None, 0.0)] * 3
    np.testing.assert_array_equal(pixels, decode_image(gif))
    assert seconds > 0


def test_refusals_say_why():
    broken, large, text = decode(encode("GIF")[:-200], encode("GIF", (1001, 1000)), b"text")
    for error, reason in ((broken, "truncated"), (large, "1001x1000 pixels are more"), (text, "not of a format")):
        assert isinstance(error, CannotDecode)
        assert error.outcome.status == 422
        assert reason in error.outcome.message


def test_only_so_many_wait(monkeypatch):
    first, second, third, jpeg = decode(encode("GIF"), encode("GIF"), encode("GIF"), encode("JPEG"), most=2)
    assert first[0] is not None
    assert second[0] is not None
    assert isinstance(third, CannotDecode)
    assert third.outcome.status == 503
    assert jpeg == (None, 0.0)


def test_image_whose_deadline_passes_while_another_is_decoded_is_not_begun(monkeypatch):
    go, begun = threading.Event(), []

    async def run():
        costly = CostlyImages(1_000_000, 16)
        monkeypatch.setattr(costly._process, "decode", lambda data, left: begun.append(left) or go.wait(300))
        first = asyncio.create_task(costly.decode(encode("GIF"), 300))
        second = asyncio.create_task(costly.decode(encode("GIF"), 0.01))
        assert await costly.decode(encode("JPEG"), 0.01) == (None, 0.0)
        await asyncio.sleep(0.1)
        go.set()
        await first
        with pytest.raises(DeadlinePassed):
            await second

    asyncio.run(run())
    assert len(begun) == 1
