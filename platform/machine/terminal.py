"""Text from elsewhere on a terminal: neither markup of rich nor anything that the terminal would obey."""

from __future__ import annotations

from rich.markup import escape as escape_markup

from maskray.platform.job.plain_text import without_controls


def escape(text: str) -> str:
    """A text as it stands, to be printed by rich: no markup, no escape sequence, no letters that turn the others."""
    return escape_markup(without_controls(text))
