"""Tests of jobs/: every file loads, fits the schema, can run, and says at its top what it is for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from maskray.platform.load import load_job
from maskray.platform.plan import plan_job
from maskray.platform.schema import job_schema, schema_text

JOBS = Path(__file__).resolve().parents[2] / "jobs"
FILES = sorted(JOBS.rglob("*.yaml"))


def test_there_are_jobs():
    assert {"demo.yaml", "mask_rcnn_r50_fpn_1x.yaml"} <= {path.name for path in FILES}


def test_schema_is_up_to_date():
    assert (JOBS / "schema.json").read_text(encoding="utf-8") == schema_text(), "run `make schema`"


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(job_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_job_loads_and_can_run(path):
    assert plan_job(load_job(path)).problems == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_job_fits_the_schema(path):
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(tree, job_schema())
    with pytest.raises(jsonschema.ValidationError, match="stepz"):
        jsonschema.validate({**tree, "train": {**tree["train"], "stepz": 1}}, job_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_top_comment(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", lines[0])
    assert schema is not None
    assert json.loads((path.parent / schema[1]).read_text())["title"] == "maskray job"
    comment = "\n".join(line for line in lines[: lines.index(next(x for x in lines if x and x[0] != "#"))])
    for word in ("Goal", "Hardware", "Hours", "Command"):
        assert re.search(rf"\b{word}\b", comment), f"its top comment does not say {word.lower()}"
    assert f"jobs/{path.relative_to(JOBS)}" in comment, "the command names another file"


def test_schedule_of_the_published_job():
    """The 1x schedule of the paper's code and of those whose figures the file quotes."""
    train = load_job(JOBS / "mask_rcnn_r50_fpn_1x.yaml").train
    assert (train.steps, train.decay_at, train.decay) == (90000, (60000, 80000), 0.1)
    assert (train.images_per_batch, train.lr, train.momentum, train.weight_decay) == (16, 0.02, 0.9, 1e-4)
