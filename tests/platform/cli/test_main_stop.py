"""A run as a scheduler has it: stopped, tried again, started twice at once, finished; whole processes with Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskray.platform.train.checkpoint import newest_checkpoint, step_of
from maskray.platform.train.run_files import RunFiles

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PROGRAM = [sys.executable, "-m", "maskray.platform.cli.main", "run"]
PATIENCE_SECONDS = 900
SOURCE = {"kind": "synthetic", "num_images": 8, "seed": 1, "height": 64, "width": 96, "max_objects": 3}
JOB: dict[str, Any] = {
    "name": "stopped",
    "data": {"train": SOURCE, "val": SOURCE},
    "input": {"shorter_edge": 64, "longer_edge_max": 96},
    "model": {
        "backbone": {"name": "resnet18", "norm": "group_norm", "freeze_stages": 0, "fpn_channels": 32},
        "rpn": {"samples_per_image": 32, "pre_nms_top_n_train": 50, "post_nms_top_n_train": 20},
        "box_head": {"hidden_channels": 32, "samples_per_image": 16},
        "mask_head": {"channels": 16, "num_convs": 1},
        "anchors": {"sizes": [8, 16, 32, 64, 128]},
    },
    "train": {"steps": 5000, "images_per_batch": 2, "checkpoint_every": 5000, "log_every": 1, "warmup_steps": 0},
    "resources": {"num_workers": 2, "local_cpus": 4},
}


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({**JOB, "output": str(tmp_path / "runs")}))
    return path


@pytest.fixture
def record(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path / "runs" / "stopped")


@pytest.fixture
def begin(job_file: Path) -> Iterator[Any]:
    """Starts `maskray run` of the job with more options; killed at the end, if it still is there."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*options: str, cluster: str | None = None) -> subprocess.Popen[str]:
        hears = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
        process = subprocess.Popen(
            [*PROGRAM, str(job_file), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"} | ({"RAY_ADDRESS": cluster} if cluster else {}),
            preexec_fn=hears,
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out, errors


def wait_for_steps(record: RunFiles, least: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (record.newest_metrics() or {"step": 0})["step"] < least:
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_scheduler_stops_a_run_and_tries_again_until_it_is_finished(
    ray_cluster: None, begin: Any, record: RunFiles, job_file: Path
) -> None:
    """SIGTERM ended it with -6, a C++ stack and no checkpoint; two resumes at once both trained.

    The first run starts a cluster of its own, the others join that of the tests.
    """
    import ray

    joined = ray.get_runtime_context().gcs_address
    first = begin("--resume-if-started")
    wait_for_steps(record, 3, first)
    code, out, errors = ended(begin("--resume", cluster=joined))
    assert (code, errors.count("\n")) == (1, 1), out + errors
    assert f"held by process {first.pid} on " in errors
    first.send_signal(signal.SIGTERM)
    code, out, errors = ended(first)
    newest, _ = newest_checkpoint(record.checkpoints)
    assert newest is not None, out + errors
    step = step_of(newest)
    assert [line["step"] for line in record.history()] == list(range(1, step + 1))
    command = f"maskray run {job_file} --resume"
    assert (code, errors) == (
        75, f"stopped by SIGTERM after step {step}, whose checkpoint is written; go on with: {command}\n"
    )  # fmt: skip

    second = begin("--resume-if-started", cluster=joined)
    wait_for_steps(record, step + 2, second)
    second.send_signal(signal.SIGINT)
    code, out, errors = ended(second)
    assert code == 130, out + errors
    assert "stopped by SIGINT after step " in errors

    last = (newest_checkpoint(record.checkpoints)[0] or newest).name.removeprefix("step-")
    steps = f"train.steps={int(last) + 2}"
    code, out, errors = ended(begin("--resume-if-started", "--set", steps, cluster=joined))
    assert code == 0, out + errors
    assert [line["step"] for line in record.history() if "loss" in line] == list(range(1, int(last) + 3))
    assert json.loads((record.folder / "run.json").read_text())["finished"]
    code, out, errors = ended(begin("--resume-if-started", "--set", steps, cluster=joined))
    assert (code, out, errors) == (0, "stopped is finished already: nothing to do\n", "")
