"""Codes and their verdicts: told in the documentation, in lines that no value can break."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.data.formats.problem import LONGEST_MESSAGE, VERDICTS, Problem, count_codes, refusal, shown

ROOT = Path(__file__).resolve().parents[4]


def test_every_code_is_documented_with_its_verdict() -> None:
    table: dict[str, str] = {}
    for line in (ROOT / "docs/reading-data.md").read_text("utf-8").splitlines():
        codes, verdict = re.findall(r"`(\w+)`", line.split("|")[1]) if line.startswith("| `") else [], line.split("|")
        table |= {code: verdict[2].strip() for code in codes}
    assert table == VERDICTS


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=30))
def test_any_value_is_shown_in_one_short_line(value: Any) -> None:
    assert shown(value).isprintable()
    assert len(shown(value)) <= LONGEST_MESSAGE


def test_deep_and_long_values_are_cut() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert len(shown(deep)) < 40
    assert len(shown("x" * 10**6)) <= 80
    assert len(shown(list(range(10**6)))) < 80
    assert Problem("bad_bbox", "a\nb\x1b[31m", 1, 2).line == "image 1, annotation 2: a b?[31m"


@pytest.mark.parametrize(
    ("number", "most", "refused"), [(1, 0.01, False), (2, 0.01, True), (2, 2, False), (1, 0, True)]
)
def test_dropped_annotations_are_refused_beyond_the_budget(number: int, most: float, refused: bool) -> None:
    problems = [Problem("bad_bbox", "wrong", 1, index) for index in range(number)]
    assert (refusal("f.json", problems, 10, most) is not None) == refused


def test_what_is_refused_comes_first_and_is_counted() -> None:
    problems = [Problem("bad_bbox", "wrong", 1, 1), Problem("huge_id", "too big", 2), Problem("no_images", "none")]
    assert refusal("f.json", problems, 1, 5) == "f.json: image 2: too big (and 1 more mistakes of this weight)"
    assert list(count_codes(problems)) == ["bad_bbox", "huge_id", "no_images"]
