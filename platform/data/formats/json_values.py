"""Single JSON values as what they mean: ids, whole numbers, finite numbers, yes or no."""

from __future__ import annotations

from typing import Any

LARGEST_ID = 2**63 - 1
WHOLE_FLOATS = 2.0**53  # beyond it a float no longer tells one whole number from the next
FARTHEST_PIXEL = 1e6  # no image has as many on a side; operators count in 32 bits
_NUMBERS = {int, float}


def read_id(value: Any) -> tuple[int | None, str | None]:
    """An id and the code of what was odd about it: a whole number, also as float or as decimal text; else None.

    An id beyond 64 bits is returned with the code huge_id, so that it can be named.
    """
    kind = type(value)
    if kind is int:
        return value, None if -LARGEST_ID - 1 <= value <= LARGEST_ID else "huge_id"
    if kind is float and value.is_integer() and abs(value) < WHOLE_FLOATS:
        return int(value), "id_as_float"
    if kind is str and 0 < len(value) <= 24 and value.isascii() and value.removeprefix("-").isdigit():
        number = int(value)
        if str(number) == value:
            return number, "id_as_text" if -LARGEST_ID - 1 <= number <= LARGEST_ID else "huge_id"
    return None, None


def read_whole(value: Any) -> int | None:
    """A whole number, also written as float; None for anything else."""
    kind = type(value)
    if kind is int:
        return value
    return int(value) if kind is float and value.is_integer() and abs(value) < WHOLE_FLOATS else None


def read_flag(value: Any) -> int | None:
    """0 or 1 of what says no or yes: a number, true, false, "0", "1", "true", "false", null; None for anything else."""
    if value is None:
        return 0
    if isinstance(value, bool | int | float) and value in (0, 1):
        return int(value)
    return {"0": 0, "1": 1, "false": 0, "true": 1}.get(value.lower()) if isinstance(value, str) else None


def is_whole(value: Any) -> bool:
    """Whether a JSON value is a whole number, written as one; true and false are not."""
    return type(value) is int


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    # of NaN every comparison is false
    return type(value) in _NUMBERS and abs(value) < float("inf")


def is_pixels(value: Any) -> bool:
    """Whether a JSON value is a list of finite numbers, none farther from 0 than any pixel of an image."""
    if type(value) is not list or not set(map(type, value)) <= _NUMBERS:
        return False
    # the sum is NaN where one is, and min and max would overlook it
    return not value or (
        min(value) >= -FARTHEST_PIXEL and max(value) <= FARTHEST_PIXEL and (total := sum(value)) == total
    )
