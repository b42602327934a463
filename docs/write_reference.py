"""Writes the pages of docs/reference from the code that they are about.

    python docs/write_reference.py

They are never edited by hand; a test fails where one differs from what this program makes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cli_reference
import config_reference
import http_reference

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_reference.write_page,
    "config.md": config_reference.write_page,
    "http.md": http_reference.write_page,
}
FOLDER = Path(__file__).resolve().parent / "reference"


def pages() -> dict[str, str]:
    """The text of every page, by its file name."""
    return {name: write() for name, write in PAGES.items()}


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
