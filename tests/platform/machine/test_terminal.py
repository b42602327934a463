"""What rich prints of a name of a stranger is the name, and nothing that is obeyed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from maskray.platform.machine.terminal import escape


@pytest.mark.parametrize(
    ("text", "printed"),
    [("[red]cat[/]", "[red]cat[/]"), ("a\x1b[2Jb\x07", "a?[2Jb?"), ("a\u202eb", "a?b"), ("Кошка\n猫", "Кошка\n猫")],
)
def test_a_text_is_printed_as_it_stands(text: str, printed: str) -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system=None, highlight=False).print(escape(text), soft_wrap=True)
    assert stream.getvalue() == printed + "\n"
