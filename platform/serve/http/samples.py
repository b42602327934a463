"""Images that the page offers to those who have none at hand: of a folder, or scenes that maskray draws itself."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI
from fastapi import Path as PathParameter
from fastapi.responses import Response
from PIL import Image

from maskray.platform.data.decode import decode_image, image_size
from maskray.platform.data.synthetic.scene import draw_scene
from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.http.request_checks import RequestError

KINDS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}  # browsers show these
MOST_SAMPLES = 24
PREVIEW_EDGE = 320  # pixels of the longer edge
QUALITY = 90
# Seed, height and width in pixels of the scenes that are drawn; thrice the size of those of the demo.
SCENES = ((6, 576, 768), (20, 576, 768), (19, 576, 768), (16, 576, 768), (27, 768, 576), (34, 480, 960))
SCENE_SCALE = 3.0
SCENE_OBJECTS = 8
SampleName = Annotated[str, PathParameter(description="As /v1/samples lists it.")]


@dataclass(frozen=True)
class Sample:
    """An image on offer: its name in URLs, what people call it, size in pixels, media type, and its encoded bytes."""

    name: str
    title: str
    width: int
    height: int
    media_type: str
    read: Callable[[], bytes]


def list_samples(config: ServeConfig) -> list[Sample]:
    """The first 24 images of the folder serve.samples by name; without a folder the scenes that are drawn.

    Raises ValueError for a folder that is missing or has no image, and for an image whose header cannot be read or
    says that the server would refuse it.
    """
    if config.samples is None:
        return [_scene(number, *scene) for number, scene in enumerate(SCENES, start=1)]
    folder = Path(config.samples)
    if not folder.is_dir():
        raise ValueError(f"serve.samples: {folder} is no folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS and path.is_file())
    if not paths:
        raise ValueError(f"serve.samples: no image in {folder} ({', '.join(KINDS)})")
    return [_image(path, config) for path in paths[:MOST_SAMPLES]]


def locate_samples(config: ServeConfig) -> ServeConfig:
    """The same with the folder of samples from the root, as replicas run elsewhere; ValueError as in list_samples."""
    list_samples(config)
    if config.samples is None:
        return config
    return config.model_copy(update={"samples": str(Path(config.samples).absolute())})


def add_samples(app: FastAPI, config: ServeConfig) -> None:
    """Let an application list its samples and hand them out, whole or small; errors as above."""
    samples = {sample.name: sample for sample in list_samples(config)}

    def find(name: str) -> Sample:
        if name not in samples:
            raise RequestError(404, f"no sample is called {name!r}; GET /v1/samples lists them")
        return samples[name]

    @app.get("/v1/samples")
    def samples_on_offer() -> dict[str, Any]:
        """Images to try the model with; each lies at /v1/samples/NAME, a small one at /v1/samples/NAME/preview."""
        keys = ("name", "title", "width", "height")
        return {"samples": [{key: getattr(sample, key) for key in keys} for sample in samples.values()]}

    missing: dict[int | str, dict[str, Any]] = {404: {"description": "No sample has this name."}}

    @app.get("/v1/samples/{name}", responses=missing, response_class=Response)
    def sample_image(name: SampleName) -> Response:
        """One of the samples, as it would be sent to /v1/predict."""
        sample = find(name)
        return Response(sample.read(), media_type=sample.media_type)

    one_at_a_time = threading.Lock()  # a large one takes hundreds of megabytes, and a page asks for all at once

    @cache
    def shrink(name: str) -> bytes:
        sample = find(name)
        with one_at_a_time:
            try:
                image = Image.fromarray(decode_image(sample.read()))
            except ValueError as error:
                raise RequestError(422, f"sample {name!r}: {error}") from None
        image.thumbnail((PREVIEW_EDGE, PREVIEW_EDGE), Image.Resampling.LANCZOS)
        return _encode(image)

    broken: dict[int | str, dict[str, Any]] = {422: {"description": "The sample cannot be decoded."}}

    @app.get("/v1/samples/{name}/preview", responses=missing | broken, response_class=Response)
    def sample_preview(name: SampleName) -> Response:
        """One of the samples, small."""
        return Response(shrink(name), media_type="image/jpeg")


def _scene(number: int, seed: int, height: int, width: int) -> Sample:
    # Drawn when it is asked for: a server that nobody looks at starts no later for it.
    read = partial(_draw, seed, height, width)
    return Sample(f"scene-{number}.jpg", f"Drawn scene {number}", width, height, "image/jpeg", read)


@cache
def _draw(seed: int, height: int, width: int) -> bytes:
    generator = np.random.default_rng([7, seed])
    image, _ = draw_scene(height, width, SCENE_OBJECTS, generator, scale=SCENE_SCALE)
    return _encode(Image.fromarray(image))


def _image(path: Path, config: ServeConfig) -> Sample:
    num_bytes = path.stat().st_size
    if num_bytes > config.max_request_bytes:
        raise ValueError(f"serve.samples: {path} has {num_bytes} bytes, more than serve.max_request_bytes")
    try:
        width, height = image_size(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"serve.samples: {path}: {error}") from None
    if width * height > config.max_image_pixels:
        raise ValueError(f"serve.samples: {path} has {width} x {height} pixels, more than serve.max_image_pixels")
    return Sample(path.name, path.stem, width, height, KINDS[path.suffix.lower()], path.read_bytes)


def _encode(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
