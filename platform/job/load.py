"""Job files: YAML to a frozen configuration, with errors that name the dotted key; imports neither torch nor Ray."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from maskray.platform.job.config import GateConfig, JobConfig
from maskray.platform.job.plain_text import one_line, shown
from maskray.platform.job.yaml_tree import find_comment, load_yaml

DEFAULT_KIND = "train"
Described = TypeVar("Described", bound=BaseModel)
Overrides = Sequence[str] | Mapping[str, Any]  # a.b=c, values in YAML; or values by dotted key
NAMED_BY_SWEEP = ("name", "output", "seed")
LONGEST_LINE = 2000  # of a mistake; the names of all keys may stand in it


def load_kind(path: str | Path, kinds: Mapping[str, type[Described]], overrides: Overrides = ()) -> Described:
    """Read a job file of one of several kinds and apply overrides: `a.b=c`, with values in YAML, or values by key.

    Where the configuration has a key `base` and the file gives a path for it, that job file is read into it. Raises
    ValueError with one line per mistake: the dotted key, what is wrong, and the valid names of an unknown key.
    """
    path = Path(path)
    tree = _read_tree(path)
    try:
        return read_kind(tree, kinds, overrides, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_kind(
    tree: Mapping[str, Any],
    kinds: Mapping[str, type[Described]],
    overrides: Overrides = (),
    folder: Path = Path(),
) -> Described:
    """The same of the keys and values of a job file, whose `base` is a path from `folder`; they stay as they are."""
    tree = dict(tree)
    config = _kind_of(tree, kinds)
    if config is not None and "base" in config.model_fields and isinstance(tree.get("base"), str):
        base = _read_tree(folder / tree["base"])
        tree["base"] = {key: value for key, value in base.items() if key not in NAMED_BY_SWEEP}
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            set_key(tree, key, value)
    else:
        for override in overrides:
            apply_override(tree, override)
    config = _kind_of(tree, kinds)
    if config is None:
        name = tree.get("kind", DEFAULT_KIND)
        if len(kinds) == 1:
            raise ValueError(f"kind is {name}; this takes a job of kind {next(iter(kinds))}")
        raise ValueError(f"kind: {name!r} is none of {', '.join(kinds)}")
    return validate_tree(config, tree)


def load_job(path: str | Path, overrides: Overrides = ()) -> JobConfig:
    """The same where the file must be of kind train."""
    return load_kind(path, {DEFAULT_KIND: JobConfig}, overrides)


def _kind_of(tree: Mapping[str, Any], kinds: Mapping[str, type[Described]]) -> type[Described] | None:
    """The configuration of the kind that a file names; None where it names none of them, or no text."""
    name = tree.get("kind", DEFAULT_KIND)
    return kinds.get(name) if isinstance(name, str) else None


def load_gate(path: str | Path) -> GateConfig:
    """Read a gate file, which holds the keys of tracking.gate; errors as load_kind."""
    tree = _read_tree(Path(path), "gate file")
    try:
        return validate_tree(GateConfig, tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_job(text: str, overrides: Sequence[str] = ()) -> JobConfig:
    """A job of kind train from YAML text."""
    tree = parse_tree(text)
    for override in overrides:
        apply_override(tree, override)
    return validate_tree(JobConfig, tree)


def validate_tree(kind: type[Described], tree: dict[str, Any]) -> Described:
    """The configuration that nested keys and values describe; ValueError with one line per mistake."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join(one_line(_describe(item, kind), LONGEST_LINE) for item in error.errors())) from None


def dump_job(job: BaseModel) -> str:
    """The resolved job as YAML that load_kind reads back to the same configuration."""
    return yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def public_job(job: BaseModel) -> str:
    """The same without user and password in URIs of databases, for all who may read a run or a report."""
    return yaml.safe_dump(_without_passwords(job.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def public_uri(uri: str) -> str:
    """A URI without user and password; a sqlite file's has none, and may have an @ in its path."""
    scheme, separator, rest = uri.partition("://")
    return uri if not separator or scheme.startswith("sqlite") else f"{scheme}://{rest.rpartition('@')[2]}"


def _without_passwords(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {
        key: public_uri(value) if key == "uri" and isinstance(value, str) else _without_passwords(value)
        for key, value in tree.items()
    }


def _read_tree(path: Path, what: str = "job file") -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such {what}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as text: {error}") from None
    try:
        return parse_tree(text, what)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_tree(text: str, what: str = "job file") -> dict[str, Any]:
    """Keys and values of YAML text; ValueError where it is none."""
    tree = load_yaml(text)
    if not isinstance(tree, dict):
        raise ValueError(f"a {what} holds keys and values at its top level")
    return tree


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Change one key of nested keys and values by `a.b=value`; ValueError where it is written otherwise."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"--set {override!r}: write it as a.b=value")
    try:
        parsed = load_yaml(value)
        comment = find_comment(value)
    except ValueError:
        raise ValueError(f"--set {override!r}: {value!r} is not a YAML value") from None
    if comment is not None:
        raise ValueError(
            f"--set {override!r}: {comment!r} is a comment in YAML and would be lost; give the value quotes of its own"
        )
    try:
        set_key(tree, key.strip(), parsed)
    except ValueError as error:
        raise ValueError(f"--set {override!r}: {error}") from None


def set_key(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested keys and values, making the groups it stands in; changes only what it must."""
    *parents, last = key.split(".")
    node = tree
    for depth, parent in enumerate(parents):
        child = node.get(parent)
        if child is not None and not isinstance(child, dict):
            raise ValueError(f"{'.'.join(parents[: depth + 1])} is a value, not a group of keys")
        child = node[parent] = dict(child or {})  # a copy: the tree may share its groups with another
        node = child
    node[last] = value


def _describe(item: Any, kind: type[BaseModel]) -> str:
    """One line for one mistake that pydantic found."""
    kinds = ("synthetic", "coco", "files", "shards", "images", "hard", "soft", "sgd", "adamw")
    location = [part for part in item["loc"] if part not in kinds]
    dotted = ".".join(str(part) for part in location) or "the job"
    if item["type"] == "extra_forbidden":
        valid = _valid_names(item["loc"][:-1], kind)
        close = difflib.get_close_matches(str(location[-1]), valid, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{dotted}: unknown key; {hint}valid here: {', '.join(valid)}"
    if item["type"] == "missing":
        return f"{dotted}: missing"
    message = item["msg"].removeprefix("Value error, ")
    value = item.get("input")
    got = f" (got {shown(value)})" if isinstance(value, str | int | float | bool | list) or value is None else ""
    return f"{dotted}: {message}{got}"


def _valid_names(location: tuple[Any, ...], kind: type[BaseModel]) -> list[str]:
    """Field names of the configuration class that stands at a location of the job."""
    current: Any = kind
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        candidates = [current, *_flatten(current)]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        tagged = [m for m in models if part in _tags(m)]
        current = tagged[0] if tagged else (models[0] if len(models) == 1 else current)
    return sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _tags(model: type[BaseModel]) -> list[Any]:
    """What tells a configuration from the others of its union: the value that its kind or name can only have."""
    fields = [model.model_fields[key] for key in ("kind", "name") if key in model.model_fields]
    return [value for field in fields for value in typing.get_args(field.annotation)]


def _flatten(annotation: Any) -> list[Any]:
    """The member types of a union, through Annotated."""
    members: list[Any] = []
    for argument in typing.get_args(annotation):
        members.append(argument)
        members.extend(_flatten(argument))
    return members
