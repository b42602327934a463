"""What --tta takes, and what is refused, each in one line."""

from __future__ import annotations

import pytest

from maskray.platform.cli.tta import read_tta


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("640", (640,)),
        ("640,800,960", (640, 800, 960)),
        ("400:100:1200", (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)),
        ("400:300:900", (400, 700)),
    ],
)
def test_sizes_are_named_one_by_one_or_as_a_range(text: str, scales: tuple[int, ...]) -> None:
    tta = read_tta(text)
    assert tta is not None
    assert (tta.scales, tta.flip) == (scales, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "--tta 0: size 1: Input should be greater than or equal to 32"),
        ("800,10000", "--tta 800,10000: size 2: Input should be less than or equal to 4096"),
        ("800,800", "^--tta 800,800: scales: each size once"),
        ("400:1:4000", "at most 16"),
        ("400:0:800", "neither sizes as 640,800 nor"),
        ("400:-100:1200", "neither sizes as 640,800 nor"),
        ("1200:100:400", "neither sizes as 640,800 nor"),
        ("400:1:99999999999", "at most 16"),
        ("400:100", "neither sizes as 640,800 nor"),
        ("", "neither sizes as 640,800 nor"),
        ("large", "neither sizes as 640,800 nor"),
        ("1e3", "neither sizes as 640,800 nor"),
    ],
)
def test_what_cannot_be_a_size_is_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tta(text)


def test_nothing_asked_is_nothing_done() -> None:
    assert read_tta(None) is None
