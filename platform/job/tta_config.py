"""Configuration of test-time augmentation: the views in which an image is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from maskray.model.config_base import Config

Edge = Annotated[int, Field(ge=32, le=4096)]


class TTAConfig(Config):
    """Sizes in which an image is looked at, and mirrored in each (paper, appendix B; "testing aug." of its tables).

    The cost grows with the pixels of all views: eighteen of 400 to 1200 have twenty times those of one of 800.
    """

    scales: tuple[Edge, ...] = Field(
        tuple(range(400, 1300, 100)), min_length=1, max_length=16, description="Shorter edges in pixels, each once."
    )
    longer_edge_max: Annotated[int, Field(ge=32, le=8192)] = Field(
        4000, description="Cap of the longer edge of a view in pixels."
    )
    flip: bool = Field(True, description="Whether each size is looked at mirrored too.")

    @property
    def num_views(self) -> int:
        """How often an image is looked at."""
        return len(self.scales) * (1 + self.flip)

    def count_pixels(self, width: int, height: int) -> int:
        """Pixels of all views together of an image of a size, without padding."""
        shorter, longer = sorted((max(width, 1), max(height, 1)))
        factors = [min(scale / shorter, self.longer_edge_max / longer) for scale in self.scales]
        return round(sum(factor**2 for factor in factors) * width * height * (1 + self.flip))

    @model_validator(mode="after")
    def _each_once(self) -> TTAConfig:
        if len(set(self.scales)) < len(self.scales):
            raise ValueError("scales: each size once")
        return self


def read_scales(scales: Iterable[int], name: str) -> TTAConfig:
    """The views of shorter edges in pixels; ValueError with the name of where they are from and what is wrong."""
    try:
        return TTAConfig(scales=tuple(scales))
    except ValidationError as error:
        place, reason = error.errors()[0]["loc"], error.errors()[0]["msg"].removeprefix("Value error, ")
        where = f"size {place[1] + 1}: " if len(place) > 1 and isinstance(place[1], int) else ""
        raise ValueError(f"{name}: {where}{reason}") from None
