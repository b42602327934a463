"""Published metrics to print beside measured ones; they are never returned as measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper: metrics by name (segm/AP50, ...) as fractions; what it leaves out is absent."""

    table: str
    title: str
    row: str
    metrics: dict[str, float]


def read_paper_row(name: str) -> PaperRow:
    """The published row named as table/row, e.g. 2a/R50-FPN; ValueError listing the valid names where there is none."""
    tables = _read_tables()
    table, slash, row = name.partition("/")
    if not slash or table not in tables:
        raise ValueError(f"evaluation.paper_row {name!r}: write table/row; the tables are {', '.join(tables)}")
    entry = tables[table]
    if row not in entry["rows"]:
        raise ValueError(f"evaluation.paper_row {name!r}: the rows of table {table} are {', '.join(entry['rows'])}")
    published = zip(entry["columns"], entry["rows"][row], strict=True)
    metrics = {column: percent / 100 for column, percent in published if percent is not None}
    return PaperRow(table, entry["title"], row, metrics)


def read_paper_table(table: str) -> dict[str, PaperRow]:
    """The rows of a published table by name, e.g. of 2c; ValueError listing the tables where there is none."""
    tables = _read_tables()
    if table not in tables:
        raise ValueError(f"table {table!r} is none of the paper's: {', '.join(tables)}")
    return {row: read_paper_row(f"{table}/{row}") for row in tables[table]["rows"]}


def _read_tables() -> dict[str, Any]:
    # By path: importlib.resources does not find the files of a package without __init__.py installed editable.
    tables: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8"))
    return tables
