"""Images and masks of a few pixels, for the readers of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImage = Callable[..., Path]


@pytest.fixture
def make_image() -> MakeImage:
    """Write an image file of a width and a height in pixels."""

    def make(path: Path, width: int = 20, height: int = 10) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)
        return path

    return make


@pytest.fixture(scope="session")
def in_a_line() -> Callable[[], AbstractContextManager[None]]:
    """What is done in it ends as it should, or in a ValueError of one line."""

    @contextmanager
    def watch() -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if "\n" in str(error):
                pytest.fail(f"several lines: {error}")

    return watch


@pytest.fixture(scope="session")
def garbage_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all examples of a test, with an image a.png of 20 x 10 pixels."""
    folder = tmp_path_factory.mktemp("garbage")
    Image.new("RGB", (20, 10)).save(folder / "a.png")
    return folder
