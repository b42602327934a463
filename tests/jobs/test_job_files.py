"""Tests of jobs/: every file loads, fits the schema, can run, and says at its top what it is for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from maskray.model.config import ModelSpec
from maskray.platform.job.kinds import load_any, plan_any
from maskray.platform.job.load import load_job
from maskray.platform.job.schema import job_schema, schema_text

JOBS = Path(__file__).resolve().parents[2] / "jobs"
FILES = sorted(JOBS.rglob("*.yaml"))
ABLATIONS = ("2a", "2b", "2c", "2d", "2e", "3", "5", "6")


def test_there_are_jobs():
    assert {"demo.yaml", "mask_rcnn_r50_fpn_1x.yaml"} <= {path.name for path in FILES}


def test_every_key_has_a_description():
    spec = ModelSpec.model_json_schema()  # of model.json
    classes = job_schema()["$defs"] | spec.pop("$defs") | {"ModelSpec": spec}
    keys = {f"{name}.{key}": value for name, of in classes.items() for key, value in of.get("properties", {}).items()}
    assert len(keys) > 200
    assert [key for key, value in keys.items() if not value.get("description", "").strip()] == []
    assert {"ModelSpec.labels", "LabelMap.categories", "Category.name"} <= set(keys)


def test_a_description_is_read_without_the_key_above_it():
    """Completion in an editor, and a row found by searching, show it alone."""
    leaning = re.compile(r"The same\b|Of (those|these|the|one|all|each)\b|The choice that this block|Pixels\.$")
    classes = job_schema()["$defs"]
    keys = {f"{name}.{key}": value for name, of in classes.items() for key, value in of.get("properties", {}).items()}
    assert [key for key, value in keys.items() if leaning.match(value["description"])] == []


@pytest.mark.parametrize("table", ABLATIONS)
def test_an_ablation_has_a_full_size_and_a_small_file(table):
    """The small one takes no GPU and several seeds; both compare with the same table of the paper, where it can."""
    full, small = (load_any(JOBS / "ablations" / f"table_{table}{suffix}.yaml") for suffix in ("", "_small"))
    first = {sweep.name: plan_any(sweep).trials[0].job for sweep in (full, small)}
    assert first[full.name].resources.gpus_per_worker == 1
    assert first[full.name].data.train.kind == "coco"
    assert first[small.name].resources.gpus_per_worker == 0
    assert first[small.name].data.train.kind == "synthetic"
    assert len(small.seeds) >= 5
    assert full.table.paper == table
    assert full.table.findings
    assert small.table.findings


def test_schema_is_up_to_date():
    assert (JOBS / "schema.json").read_text(encoding="utf-8") == schema_text(), "run `make schema`"


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(job_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_job_loads_and_can_run(path):
    assert plan_any(load_any(path)).problems == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_job_fits_the_schema(path):
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(tree, job_schema())
    group = "table" if tree.get("kind") == "sweep" else "train"
    with pytest.raises(jsonschema.ValidationError, match="stepz"):
        jsonschema.validate({**tree, group: {**tree[group], "stepz": 1}}, job_schema())


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
    """The 1x schedule of the paper's code and of those whose metrics the file quotes."""
    train = load_job(JOBS / "mask_rcnn_r50_fpn_1x.yaml").train
    assert (train.steps, train.decay_at, train.decay) == (90000, (60000, 80000), 0.1)
    assert (train.images_per_batch, train.lr, train.momentum, train.weight_decay) == (16, 0.02, 0.9, 1e-4)
