"""Jobs in Python are checked and run as by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from maskray import api
from maskray.platform.cli.main import app
from maskray.platform.job.config import JobConfig

SOURCE = {"kind": "synthetic", "num_images": 40}


def tree(**more: Any) -> dict[str, Any]:
    data = {"train": SOURCE, "val": SOURCE}
    return {"name": "a", "data": data, "train": {"steps": 30, "images_per_batch": 8}, **more}


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(tree(output=str(tmp_path))))
    return path


def test_a_check_is_that_of_the_command(job_file: Path) -> None:
    printed = CliRunner().invoke(app, ["check", str(job_file), "--json", "--set", "train.steps=70"])
    checked = api.check_job(job_file, ["train.steps=70"])
    assert json.loads(printed.stdout) == json.loads(json.dumps(checked.as_dict()))
    assert (checked.plan.steps, checked.problems) == (70, ())


def test_a_dictionary_is_a_job(job_file: Path) -> None:
    job = tree(output=str(job_file.parent))
    before = json.dumps(job)
    by_key = api.check_job(job, {"train.steps": 70, "tracking.register_as": "shapes"})
    assert by_key.as_dict() == api.check_job(job_file, ["train.steps=70", "tracking.register_as=shapes"]).as_dict()
    assert isinstance(by_key.job, JobConfig)
    assert by_key.job.tracking.register_as == "shapes"
    assert json.dumps(job) == before


def test_mistakes_are_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.stepps: unknown key; did you mean steps\?"):
        api.check_job(tree(), {"train.stepps": 1})
    with pytest.raises(ValueError, match="train is a value, not a group"):
        api.check_job({"train": 3}, {"train.steps": 1})
    with pytest.raises(ValueError, match="no such job file"):
        api.check_job(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="kind: 'foo' is none of train, sweep, distill"):
        api.check_job({"kind": "foo"})


def test_what_cannot_run_is_not_begun(tmp_path: Path) -> None:
    """And nothing heavy is loaded to find that out."""
    job = tree(output=str(tmp_path), train={"steps": 30, "images_per_batch": 64})
    assert api.check_job(job).problems == ("train.images_per_batch 64 is more than the 40 images",)
    code = f"""
import sys
from maskray import api
try:
    api.run_job({job!r})
except ValueError as error:
    print(error)
print(*(name for name in ("torch", "ray", "mlflow") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.stdout == "train.images_per_batch 64 is more than the 40 images\n\n", done.stderr
    assert list(tmp_path.iterdir()) == []
