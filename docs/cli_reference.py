"""Makes docs/reference/cli.md: every command with its arguments and options; write_reference.py writes it."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from schema_words import cell, slug, value_text

from maskray.platform.cli.main import app
from maskray.platform.cli.main import main as run_main

TOP = """# Every command

*Written by `python docs/write_reference.py` from the programs of `platform/cli`.*

`maskray COMMAND --help` prints the same. In a usage, `[X]` may be left out and `X...` is one or more.
`--verbose` may stand anywhere: it shows the traceback of an error.

Exit codes are {exit_codes}.
"""
WORDS = {int: "whole number", float: "number", str: "text", Path: "path", bool: "flag"}


def write_page() -> str:
    """The whole page."""
    commands = dict(find_commands(typer.main.get_command(app)))
    codes = inspect.cleandoc(run_main.__doc__ or "").partition("exit code: ")[2].rstrip(".")
    rows = ["| command | what it does |", "|---|---|"]
    for name, command in commands.items():
        rows.append(f"| [{name}](#{slug(name)}) | {cell(_help_of(command)[0].splitlines()[0])} |")
    parts = [TOP.format(exit_codes=codes), "\n".join(rows) + "\n"]
    return "\n".join(parts + [_section(name, command) for name, command in commands.items()])


def find_commands(command: Any, name: str = "maskray") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its whole name, in the order of the help."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, part in inner.items():
        yield from find_commands(part, f"{name} {word}")


def _help_of(command: Any) -> tuple[str, str]:
    """What a command says of itself, and its example."""
    text, _, example = (command.help or "").partition("Example: ")
    return text.strip(), example.strip()


def _section(name: str, command: Any) -> str:
    hints = get_type_hints(command.callback, include_extras=True)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    text, example = _help_of(command)
    words = [name, *(_usage_of(one) for one in arguments)]
    words += [f"{one.opts[0]} {_placeholder(one)}" for one in options if one.required]
    lines = [f"## {name}", "", f"    {' '.join([*words, '[OPTIONS]' if options else '']).rstrip()}", "", text, ""]
    lines += ["Example:", "", f"    {example}", ""]
    for title, params in (("argument", arguments), ("option", options)):
        if params:
            lines += [f"| {title} | type and range | default | what it is |", "|---|---|---|---|"]
            lines += [f"| {' | '.join(_cells(one, hints[one.name]))} |" for one in params] + [""]
    return "\n".join(lines)


def _cells(param: Any, hint: Any) -> Iterator[str]:
    """Name, type, default and help of an argument or option."""
    value, info = _without_annotation(hint)
    words = _type_words(value, info.min, info.max)
    names = [_placeholder(param)] if param.param_type_name == "argument" else [*param.opts, *param.secondary_opts]
    takes_value = param.param_type_name == "option" and words != "flag" and param.metavar
    shown = " or ".join(f"`{name}{f' {param.metavar}' if takes_value else ''}`" for name in names)
    default = param.default.value if isinstance(param.default, Enum) else param.default
    yield cell(shown)
    yield cell(words)
    yield "needed" if param.required else "" if default in (None, "") else cell(f"`{_default_words(default)}`")
    env = f" Taken from the environment variable {param.envvar} too." if param.envvar else ""
    yield cell((param.help or "") + env)


def _default_words(default: Any) -> str:
    return str(default) if isinstance(default, Path) else value_text(default)


def _usage_of(argument: Any) -> str:
    name = _placeholder(argument)
    return name if argument.required else f"[{name}]"


def _placeholder(param: Any) -> str:
    """What stands in a usage for a value."""
    return str(param.metavar or str(param.name).upper().replace("_", "-"))


def _without_annotation(hint: Any) -> tuple[Any, Any]:
    """The type of a parameter, none left out, and what typer is told of it."""
    assert get_origin(hint) is Annotated, hint
    value, info = get_args(hint)
    if get_origin(value) in (Union, types.UnionType):
        (value,) = [one for one in get_args(value) if one is not type(None)]
    return value, info


def _type_words(value: Any, least: float | None, most: float | None) -> str:
    """A type and its range in words."""
    if get_origin(value) is list:
        return f"{_type_words(get_args(value)[0], least, most)}; several"
    if get_origin(value) is tuple:
        return f"{len(get_args(value))} of: {_type_words(get_args(value)[0], least, most)}"
    if get_origin(value) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(value))
    if issubclass(value, Enum):
        return ", ".join(f"`{one.value}`" for one in value)
    words = WORDS[value]
    if least is None and most is None:
        return words
    if least is None or most is None:
        return f"{words}, at most {most:g}" if least is None else f"{words}, {least:g} or more"
    return f"{words}, {least:g} to {most:g}"
