"""Tests of how errors are told."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from maskray.platform.cli.errors import IN_CLUSTER_JOB, describe, root_cause, tell_error


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


def told(error: Exception, verbose: bool = False) -> list[str]:
    stream = io.StringIO()
    tell_error(raised(error), verbose, stream)
    return stream.getvalue().splitlines()


def test_value_error_is_its_message():
    assert told(ValueError("train.steps: missing")) == ["error: train.steps: missing"]


def test_file_error_names_the_file_first(tmp_path):
    with pytest.raises(OSError, match="none") as caught:
        (tmp_path / "none").read_text()
    assert describe(caught.value) == f"{tmp_path / 'none'}: no such file or directory"


def test_unexpected_error_keeps_its_traceback(monkeypatch):
    monkeypatch.delenv(IN_CLUSTER_JOB, raising=False)
    first, second = told(KeyError("boxes"))
    assert first == "error: KeyError: 'boxes'"
    path = Path(re.search(r"the traceback is in (\S+)$", second)[1])
    text = path.read_text()
    path.unlink()
    assert text.startswith("Traceback")
    assert text.endswith("KeyError: 'boxes'\n")


def test_log_of_a_cluster_job_holds_the_traceback(monkeypatch):
    monkeypatch.setenv(IN_CLUSTER_JOB, "{}")
    lines = told(KeyError("boxes"))
    assert lines[0] == "error: KeyError: 'boxes'"
    assert lines[1].startswith("Traceback")
    assert told(ValueError("train.steps: missing")) == ["error: train.steps: missing"]


def test_verbose_shows_the_traceback_first():
    lines = told(ValueError("train.steps: missing"), verbose=True)
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "error: train.steps: missing"


def test_layers_of_ray_are_taken_off():
    from ray.exceptions import RayTaskError
    from ray.train import WorkerGroupError

    inner = ValueError("image 7 cannot be read")
    task = RayTaskError("read", "Traceback ...", inner)
    assert root_cause(task) is inner
    assert root_cause(task.as_instanceof_cause()) is inner
    group = WorkerGroupError("a worker failed", {1: task})
    assert told(group) == ["error: image 7 cannot be read"]


def test_no_cause_no_circle():
    error = ValueError("a")
    error.cause = error
    assert root_cause(error) is error
