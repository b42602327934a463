"""Tests of docs/reference: each page is what the code makes of it, and whole."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pydantic
import pytest
import typer

from maskray.model.config import ModelSpec
from maskray.platform.cli.main import app
from maskray.platform.job.config import JobConfig
from maskray.platform.job.schema import job_schema
from maskray.platform.job.serve_config import ServeConfig, ServeTTAConfig
from maskray.platform.serve.http.app import build_app
from maskray.platform.serve.http.auth import Places
from maskray.platform.serve.http.metrics import ServerMetrics

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
NAMES = ("cli.md", "config.md", "http.md")


@cache
def made() -> dict[str, str]:
    """The pages as the program would write them now."""
    code = "import json, write_reference; print(json.dumps(write_reference.pages()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "docs", timeout=600)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def slugs(text: str) -> list[str]:
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_that_of_the_code(name):
    assert page(name) == made()[name], "run python docs/write_reference.py"


def test_no_page_is_left_over():
    assert {path.name for path in REFERENCE.iterdir()} == set(NAMES) == set(made())


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_heading(name):
    anchors = slugs(page(name))
    assert len(set(anchors)) == len(anchors), "two headings have one anchor"
    assert set(re.findall(r"\]\(#([^)]*)\)", page(name))) <= set(anchors)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_table_have_the_cells_of_its_heading(name):
    width = 0
    for line in page(name).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not cells or not width or cells == width, line
        width = cells


def test_every_key_of_a_job_and_of_a_model_is_in_the_table():
    spec = ModelSpec.model_json_schema()
    classes = job_schema()["$defs"] | spec.pop("$defs") | {"ModelSpec": spec}
    rows = re.findall(r"^\| `(\w+)` \|.* \| (.*) \|$", page("config.md"), flags=re.MULTILINE)
    keys = [(key, of["description"]) for value in classes.values() for key, of in value["properties"].items()]
    assert sorted(rows) == sorted((key, text.replace("|", "\\|")) for key, text in keys)


def test_what_is_needed_is_refused_where_it_is_missing():
    """Kinds too, of which a class says a default that a choice between classes does not take."""
    drawn = {"kind": "synthetic", "num_images": 1}
    job = {"name": "a", "data": {"train": drawn, "val": drawn}, "train": {"steps": 1}}
    assert JobConfig.model_validate(job).kind == "train"
    assert JobConfig.model_validate(job | {"model": {"inference": {"nms": {}}}}).model.inference.nms.name == "hard"
    job["train"] = {"steps": 1, "optimizer": {}}
    assert JobConfig.model_validate(job).train.optimizer.name == "sgd"
    job["data"] = {"train": {"num_images": 1}, "val": drawn}
    with pytest.raises(pydantic.ValidationError, match=r"data\.train"):
        JobConfig.model_validate(job)
    assert "| `kind` | `synthetic` | needed |" in page("config.md")
    assert page("config.md").count("| `kind` | `train` | `train` |") == 1


def commands(command: Any, name: str = "maskray") -> dict[str, Any]:
    """Every command by its whole name."""
    found: dict[str, Any] = {}
    for word, part in getattr(command, "commands", {}).items():
        found |= commands(part, f"{name} {word}")
    return found or {name: command}


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_it_takes(name):
    """Arguments are read, options and their values too; nothing is run."""
    text, _, example = (COMMANDS[name].help or "").partition("\n\nExample: ")
    assert text.strip(), "what does it do?"
    assert example.startswith(name), "a docstring ends with a paragraph that begins with Example:"
    assert "\n" not in example
    words = shlex.split(example.removeprefix(name))
    COMMANDS[name].make_context(name, words)
    assert f"    {example}\n" in page("cli.md")


def test_an_example_of_what_a_command_does_not_take_fails():
    with pytest.raises(Exception, match="--unknown"):
        COMMANDS["maskray run"].make_context("maskray run", ["job.yaml", "--unknown"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_has_help_and_a_row(name):
    section = page("cli.md").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for param in COMMANDS[name].params:
        assert param.help, param.name
        names = param.opts if param.param_type_name == "option" else [param.metavar or param.name.upper()]
        assert re.search(rf"^\| `{re.escape(names[0])}[ `]", section, flags=re.MULTILINE), names


def test_every_path_parameter_and_status_of_the_server_is_there():
    config, metrics = ServeConfig(tta=ServeTTAConfig()), ServerMetrics()
    tree = build_app(config, None, metrics, Places(config.most_waiting, metrics)).openapi()
    text = page("http.md")
    assert "POST /v1/predict" in text
    errors = text.partition("\n## Errors\n")[2]
    for path, methods in tree["paths"].items():
        for method, operation in methods.items():
            section = text.partition(f"\n## {method.upper()} {path}\n")[2].partition("\n## ")[0]
            assert operation["description"] in section
            assert all(f"| `{one['name']}` | {one['in']} |" in section for one in operation.get("parameters", ()))
            assert all(f"| `{kind}` |" in section for kind in operation.get("requestBody", {}).get("content", {}))
            for status, one in operation["responses"].items():
                means = "" if status == "200" else one["description"]
                assert re.search(rf"^\| {status} \| {re.escape(means)}", section + errors, flags=re.MULTILINE), status
