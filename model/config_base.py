"""What every configuration is made of: the frozen base, and the kinds of numbers and norms that many of them name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
# A description of a model may come from anywhere: what is far beyond any network is refused before it is built.
Layers = Annotated[int, Field(ge=1, le=256)]
Channels = Annotated[int, Field(ge=1, le=16_384)]
GridSide = Annotated[int, Field(ge=1, le=256)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
EdgePixels = Annotated[int, Field(ge=1, le=100_000)]
HeadNorm = Literal["none", "batch_norm", "sync_batch_norm", "group_norm"]


def _check_letters(name: str) -> str:
    if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError("a name holds NUL, or half a letter of UTF-16")
    return name


Name = Annotated[str, Field(max_length=10_000), AfterValidator(_check_letters)]


class Config(BaseModel):
    """Base of every configuration: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
