"""What the HTML pages of maskray share: one style, one way to render a template, images as part of the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PAGE_STYLE = Path(__file__).with_name("page.css")
SMALL_EDGE, LARGE_EDGE = 400, 960  # pixels; smaller images are enlarged before drawing, larger ones reduced after


def page_environment(*folders: Path) -> jinja2.Environment:
    """Templates of these folders, and page.css; what they are given is escaped, what they are not given an error."""
    loader = jinja2.FileSystemLoader([*folders, PAGE_STYLE.parent])
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def drawing_scale(image: NDArray[np.uint8]) -> int:
    """How many times a small image is enlarged before it is drawn on, so that labels can be read."""
    return max(1, round(SMALL_EDGE / min(image.shape[:2])))


def data_uri(image: NDArray[np.uint8]) -> str:
    """An (H, W, 3) image as a JPEG inside the page, its longer edge at most 960 pixels."""
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail((LARGE_EDGE, LARGE_EDGE))
    stream = io.BytesIO()
    thumbnail.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
