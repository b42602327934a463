"""Text from elsewhere (names of classes, values of files) as it may be shown: one line, bounded, nothing to obey."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

LONGEST_MESSAGE = 240
LONGEST_NAME = 80
# A cell that begins so is a formula to programs of spreadsheets.
FORMULA_STARTS = ("=", "+", "-", "@")
_SHORT = Repr()
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = 6
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """A JSON value as one line of bounded length, whatever it holds."""
    return one_line(_SHORT.repr(value))


def one_line(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Text from elsewhere as one line of bounded length, without what a terminal would obey."""
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(character if character.isprintable() else "?" for character in line[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def without_controls(text: str) -> str:
    """The lines of a text as they are, without what a terminal would obey."""
    if text.isprintable():
        return text
    return "\n".join("".join(x if x.isprintable() or x == "\t" else "?" for x in line) for line in text.split("\n"))


def shown_name(name: str) -> str:
    """The name of a class or a keypoint for terminals, logs, tags and tables."""
    return one_line(name, LONGEST_NAME)


def csv_cell(text: str) -> str:
    """Text as a cell of CSV: shown as shown_name has it, with ' before what a spreadsheet would take for a formula."""
    cell = shown_name(text)
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell
