"""The JSON schema of job files, generated from the configuration, for editors that complete and check while typing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from maskray.platform.job.load import AnyJob


def job_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a job file; unknown keys are refused, defaults and descriptions are included."""
    schema = TypeAdapter(AnyJob).json_schema()
    del schema["anyOf"]
    # A validator that tries each kind in turn would say of any mistake only that no kind fits.
    schema["if"] = {"properties": {"kind": {"const": "sweep"}}, "required": ["kind"]}
    schema |= {"then": {"$ref": "#/$defs/SweepConfig"}, "else": {"$ref": "#/$defs/JobConfig"}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "maskray job"}


def schema_text() -> str:
    """The schema as the text of jobs/schema.json."""
    return json.dumps(job_schema(), indent=1, ensure_ascii=False) + "\n"


def write_schema(path: str | Path) -> None:
    """Write the schema to a file; the folder must exist."""
    Path(path).write_text(schema_text(), encoding="utf-8")
