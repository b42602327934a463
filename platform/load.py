"""Job files: YAML text to a frozen JobConfig, with errors that name the dotted key; imports neither torch nor Ray."""

from __future__ import annotations

import difflib
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from maskray.platform.config import JobConfig


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice (YAML would keep the last in silence)."""


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ValueError(f"line {key_node.start_mark.line + 1}: key {key!r} is not text")
        if key in seen:
            raise ValueError(f"line {key_node.start_mark.line + 1}: key {key!r} stands twice")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def load_job(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> JobConfig:
    """Read a job file and apply `a.b=c` overrides, whose values are YAML too.

    Raises ValueError with one line per mistake: the dotted key, what is wrong, and the valid names of an unknown key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such job file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as text: {error}") from None
    try:
        return parse_job(text, overrides)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_job(text: str, overrides: list[str] | tuple[str, ...] = ()) -> JobConfig:
    """The same from YAML text."""
    try:
        tree = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ValueError("a job file holds keys and values at its top level")
    for override in overrides:
        _apply_override(tree, override)
    try:
        return JobConfig.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join(_describe(item) for item in error.errors())) from None


def dump_job(job: JobConfig) -> str:
    """The resolved job as YAML that load_job reads back to the same configuration."""
    return yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"--set {override!r}: write it as a.b=value")
    try:
        parsed = yaml.load(value, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError):
        raise ValueError(f"--set {override!r}: {value!r} is not a YAML value") from None
    *parents, last = key.strip().split(".")
    node = tree
    for depth, parent in enumerate(parents):
        child = node.get(parent)
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ValueError(f"--set {override!r}: {'.'.join(parents[: depth + 1])} is a value, not a group of keys")
        node = child
    node[last] = parsed


def _describe(item: Any) -> str:
    """One line for one mistake that pydantic found."""
    location = [part for part in item["loc"] if part not in ("synthetic", "coco", "shards")]
    dotted = ".".join(str(part) for part in location) or "the job"
    if item["type"] == "extra_forbidden":
        valid = _valid_names(item["loc"][:-1])
        close = difflib.get_close_matches(str(location[-1]), valid, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{dotted}: unknown key; {hint}valid here: {', '.join(valid)}"
    if item["type"] == "missing":
        return f"{dotted}: missing"
    message = item["msg"].removeprefix("Value error, ")
    value = item.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool | list) or value is None else ""
    return f"{dotted}: {message}{shown}"


def _valid_names(location: tuple[Any, ...]) -> list[str]:
    """Field names of the configuration class that stands at a location of the job."""
    current: Any = JobConfig
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        candidates = [current, *_flatten(current)]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        tagged = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        current = tagged[0] if tagged else (models[0] if len(models) == 1 else current)
    return sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _flatten(annotation: Any) -> list[Any]:
    """The member types of a union, through Annotated."""
    members: list[Any] = []
    for argument in typing.get_args(annotation):
        members.append(argument)
        members.extend(_flatten(argument))
    return members
