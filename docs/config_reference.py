"""Makes docs/reference/config.md: every key of a job file, from the schema of jobs; write_reference.py writes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from schema_words import cell, default_text, slug, type_text

from maskray.model.config import ModelConfig, ModelSpec
from maskray.platform.job.kinds import KINDS
from maskray.platform.job.schema import job_schema

TOP = """# Every key of a job

*Written by `python docs/write_reference.py` from the classes of `platform/job` and `model`.*

A job is a YAML file of the keys below. `maskray check JOB.yaml` reads it and says what is wrong with it, and
`--set train.steps=100` changes one key. A key in a part of the job is written with dots: `train.steps`
is the key `steps` of [train](#train). A key that is not listed is an error.
"""
COMMON = """## Defaults that other keys choose

Some keys of `model` have another default where one of these is set. What you write yourself stays.

| where | key | default |
|---|---|---|
"""
SPEC = """## Keys of model.json

Not a job: the file beside the weights of a model that says all that is needed to build it again.
"""
# Of the kinds and names that choose between blocks: these are taken where nothing is said. Any other has to be said.
UNSAID = {"train", "hard", "sgd"}
CHOICES: tuple[dict[str, Any], ...] = (
    {"backbone": {"features": "c4"}},
    {"backbone": {"features": "c5"}},
    {"backbone": {"features": "dc5"}},
    {"backbone": {"name": "timm:convnext_tiny"}},
    {"keypoints": True},
)


def write_page() -> str:
    """The whole page."""
    classes = job_schema()["$defs"]
    tops = {kind.config.__name__: f"Kind {name}" for name, kind in KINDS.items()}
    spec = ModelSpec.model_json_schema()
    spec_classes = spec.pop("$defs") | {"ModelSpec": spec}
    blocks = find_blocks(classes, list(tops))
    headings = tops | {name: _heading(places, classes[name]) for name, places in blocks.items()}
    own = {"ModelSpec": ["model.json"]} | find_blocks(spec_classes, ["ModelSpec"], "model.json: ")
    own = {name: places for name, places in own.items() if name not in headings}
    all_headings = headings | {name: places[0] for name, places in own.items()}
    parts = [TOP, *(_contents(headings))]
    for name, heading in headings.items():
        parts.append(_section(heading, classes[name], blocks.get(name, []), all_headings))
    parts.append(COMMON + "\n".join(_chosen_defaults()) + "\n")
    parts.append(SPEC)
    for name in own:
        parts.append(_section(all_headings[name], spec_classes[name], [], all_headings))
    return "\n".join(parts)


def find_blocks(classes: dict[str, Any], tops: list[str], prefix: str = "") -> dict[str, list[str]]:
    """The classes that keys lead to, in reading order, each with the dotted keys where it stands."""
    blocks: dict[str, list[str]] = {}

    def walk(name: str, place: str) -> None:
        for key, schema in classes[name].get("properties", {}).items():
            for inner in references(schema):
                places = blocks.setdefault(inner, [])
                here = f"{place}{key}"
                if here not in places:
                    places.append(here)
                walk(inner, f"{here}.")

    for top in tops:
        walk(top, prefix)
    return blocks


def references(schema: Any) -> Iterator[str]:
    """Names of the classes that a schema mentions, as they come."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield _name_of(schema["$ref"])
        for key, value in schema.items():
            if key != "discriminator":  # which names them a second time
                yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def _name_of(reference: str) -> str:
    return reference.rpartition("/")[2]


def _heading(places: list[str], schema: dict[str, Any]) -> str:
    """The first place of a class, and which of the classes it is where there is a choice."""
    for key in ("kind", "name"):
        const = schema.get("properties", {}).get(key, {}).get("const")
        if const is not None:
            return f"{places[0]} ({key}: {const})"
    return places[0]


def _contents(headings: dict[str, str]) -> list[str]:
    links = [f"[{heading}](#{slug(heading)})" for heading in headings.values()]
    return [f"Sections: {', '.join(links)}.\n"]


def _section(heading: str, schema: dict[str, Any], places: list[str], headings: dict[str, str]) -> str:
    def link(reference: str) -> str:
        target = headings[_name_of(reference)]
        _, _, choice = target.partition(" (")  # of several: which of them says enough
        return f"[{choice.removesuffix(')') or target}](#{slug(target)})"

    lines = [f"## {heading}", "", inspect.cleandoc(schema["description"])]
    if len(places) > 1:
        lines += ["", f"The same keys stand at {', '.join(f'`{place}`' for place in places[1:])}."]
    lines += ["", "| key | type and range | default | what it is |", "|---|---|---|---|"]
    for key, value in schema["properties"].items():
        needed = key in schema.get("required", ()) or _is_said(key, value)
        kind, default = type_text(value, link), default_text(value, needed)
        lines.append(f"| `{key}` | {cell(kind)} | {cell(default)} | {cell(value['description'])} |")
    return "\n".join(lines) + "\n"


def _is_said(key: str, schema: dict[str, Any]) -> bool:
    """Whether a key chooses a block that is not taken without it, whatever default the block itself has."""
    return key in ("kind", "name") and "const" in schema and schema["const"] not in UNSAID


def _chosen_defaults() -> Iterator[str]:
    """Rows of the keys whose default differs from that of a model of which nothing is said."""
    plain = _leaves(ModelConfig().model_dump())
    for choice in CHOICES:
        said = _leaves(choice)
        ((key, value),) = said.items()
        words = "true" if value is True else value.partition(":")[0] + ":..." if ":" in value else value
        for name, default in _leaves(ModelConfig.model_validate(choice).model_dump()).items():
            if name not in said and default != plain[name]:
                yield f"| `model.{key}: {words}` | `model.{name}` | `{default}` |"


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of a tree by their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
