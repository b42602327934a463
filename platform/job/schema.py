"""The JSON schema of job files, generated from the configuration, for editors that complete and check while typing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Union

from pydantic import TypeAdapter

from maskray.platform.job.kinds import KINDS
from maskray.platform.job.load import DEFAULT_KIND


def job_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a job file; unknown keys are refused, defaults and descriptions are included."""
    configs: Any = Union[tuple(kind.config for kind in KINDS.values())]  # noqa: UP007 (of a number that is not known)
    schema = TypeAdapter[Any](configs).json_schema()
    del schema["anyOf"]
    # A validator that tries each kind in turn would say of any mistake only that no kind fits.
    chosen: dict[str, Any] = {"$ref": _reference(DEFAULT_KIND)}
    for name in [name for name in KINDS if name != DEFAULT_KIND]:
        condition = {"properties": {"kind": {"const": name}}, "required": ["kind"]}
        chosen = {"if": condition, "then": {"$ref": _reference(name)}, "else": chosen}
    schema |= chosen
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "maskray job"}


def _reference(kind: str) -> str:
    return f"#/$defs/{KINDS[kind].config.__name__}"


def schema_text() -> str:
    """The schema as the text of jobs/schema.json."""
    return json.dumps(job_schema(), indent=1, ensure_ascii=False) + "\n"


def write_schema(path: str | Path) -> None:
    """Write the schema to a file; the folder must exist."""
    Path(path).write_text(schema_text(), encoding="utf-8")
