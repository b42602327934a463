"""Text from elsewhere on a terminal: neither markup of rich nor anything that the terminal would obey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape as escape_markup

from maskray.platform.job.plain_text import without_controls

if TYPE_CHECKING:
    from rich.console import Console


def escape(text: str) -> str:
    """A text as it stands, to be printed by rich: no markup, no escape sequence, no letters that turn the others."""
    return escape_markup(without_controls(text))


def tell(console: Console, line: str) -> None:
    """Print one line as it stands."""
    console.print(escape(line), soft_wrap=True)
