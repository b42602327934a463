"""Tables by category hold names of strangers as plain cells."""

from __future__ import annotations

import csv
import io

from maskray.model.config import Category, LabelMap
from maskray.platform.evaluation.tables import per_class_csv, per_class_markdown

NAMES = ("cat", '=HYPERLINK("http://host")', "a|b\x1b[2J", "y" * 5000, "Кошка")


def test_names_are_no_formula_and_no_escape_sequence() -> None:
    labels = LabelMap(categories=tuple(Category(id=k, name=name) for k, name in enumerate(NAMES)))
    cells = [row["name"] for row in csv.DictReader(io.StringIO(per_class_csv([], labels)))]
    assert cells == ["cat", '\'=HYPERLINK("http://host")', "a|b?[2J", "y" * 77 + "...", "Кошка"]
    lines = per_class_markdown([], labels).splitlines()[2:]
    assert len(lines) == len(NAMES)
    assert lines[2] == "| 2 | a\\|b?[2J | 0 |"
    assert all(line.isprintable() for line in lines)
