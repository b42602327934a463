"""Names of strangers: shown in a line, obeyed by no terminal, a formula of no spreadsheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.job.plain_text import (
    FORMULA_STARTS,
    LONGEST_NAME,
    csv_cell,
    one_line,
    shown_name,
    without_controls,
)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("cat", "cat"),
        ("Кошка", "Кошка"),
        ("=HYPERLINK(0)", "'=HYPERLINK(0)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("a\x1b[2Jb", "a?[2Jb"),
        ("a\u202eb\u2066c\u200f", "a?b?c?"),
        ("x" * 5000, "x" * (LONGEST_NAME - 3) + "..."),
        ("a\nb", "a b"),
    ],
)
def test_cells(name: str, cell: str) -> None:
    assert csv_cell(name) == cell


@given(st.text())
def test_any_text_is_plain(text: str) -> None:
    assert one_line(text).isprintable()
    assert len(shown_name(text)) <= LONGEST_NAME
    assert shown_name(text).isprintable()
    assert not csv_cell(text).startswith(FORMULA_STARTS)
    lines = without_controls(text).split("\n")
    assert len(lines) == text.count("\n") + 1
    assert all(line.replace("\t", "").isprintable() for line in lines)
