"""Tests of the command line as a user has it: processes, their output, their exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from maskray.platform.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = [sys.executable, "-m", "maskray.platform.cli.main"]
COMMANDS = ("run", "check", "submit", "evaluate", "compare", "predict", "benchmark", "serve", "schema", "doctor",
            "data validate", "data shard", "data synthesize", "data convert", "data split", "data merge", "data show",
            "models list", "models promote", "models import", "models export",
            "keys add", "keys list", "keys remove")  # fmt: skip


def maskray(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "120", "RAY_AUTH_MODE": "disabled", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, cwd=folder)


def maskray_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported already what takes seconds; for what a process adds, see above."""
    outputs, code = (io.StringIO(), io.StringIO()), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(outputs[0]), redirect_stderr(outputs[1]):
        patch.setenv("COLUMNS", "120")
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code or 0
    return subprocess.CompletedProcess(arguments, code, outputs[0].getvalue(), outputs[1].getvalue())


def one_line_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.fixture
def job_file(tmp_path):
    source = {"kind": "synthetic", "num_images": 40}
    tree = {"name": "a", "data": {"train": source, "val": source}, "train": {"steps": 30, "images_per_batch": 8}}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command):
    done = (maskray_here if command else maskray)(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: maskray {command}".strip() in done.stdout
    if not command:
        assert [name for name in COMMANDS if not re.search(rf"^│ {name.split()[0]}\s", done.stdout, re.M)] == []


def test_usage_error_is_exit_code_two():
    for arguments in (("chek",), ("evaluate",), ("check", "job.yaml", "--no-such"), ("predict", "a.jpg")):
        done = maskray(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_check_shows_the_arithmetic(job_file):
    done = maskray("check", job_file, "--set", "train.base_lr=0.01", folder=job_file.parent)
    assert done.returncode == 0, done.stderr
    assert "8 images = 2 workers x 4 images" in done.stdout
    assert "0.01 x 8 / 16 = 0.005" in done.stdout
    assert "epochs: 6" in done.stdout
    assert "2 workers x 1 + 1 for Ray Data = 3 of 4" in done.stdout
    assert "this job can run" in done.stdout


def test_check_json_holds_plan_and_resolved_job(job_file):
    tree = json.loads(maskray("check", job_file, "--json", "--set", "seed=5").stdout)
    assert tree["job"]["seed"] == 5
    assert tree["job"]["model"]["rpn"]["nms_iou"] == 0.7
    assert tree["plan"]["images_per_worker"] == 4
    assert tree["plan"]["problems"] == []


def test_check_refuses_what_would_hang(job_file):
    done = maskray("check", job_file, "--set", "resources.local_cpus=2")
    assert done.returncode == 1
    assert re.search(r"wrong: resources.local_cpus 2 is too few.* 3 = 2 workers x 1 CPU \+ 1 for Ray Data", done.stdout)


def test_check_is_quick_and_light(job_file):
    heavy = ("torch", "ray", "mlflow", "pandas", "numpy", "pyarrow")
    code = (
        "import sys; from maskray.platform.cli.main import main\n"
        f"try: main(['check', {str(job_file)!r}])\n"
        f"finally: print('loaded:', *[n for n in {heavy} if n in sys.modules]); print(len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    found, number = done.stdout.splitlines()[-2:]
    assert found == "loaded:", done.stderr
    assert int(number) < 1000, "modules, which is where the time goes: a quarter of a second for some 700"


def test_every_mistake_of_a_job_is_a_line(job_file):
    done = maskray("run", job_file, "--set", "train.stepz=1", "--set", "seed=-1", "--set", "model.masks=maybe")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 3
    assert "train.stepz: unknown key; did you mean steps?" in done.stderr
    assert "Traceback" not in done.stderr


def test_verbose_is_valid_anywhere(tmp_path):
    missing = tmp_path / "none.yaml"
    assert one_line_error(maskray("check", missing)) == f"{missing}: no such job file"
    for arguments in (("--verbose", "check", missing), ("check", missing, "--verbose")):
        done = maskray(*arguments)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ")


def test_schema_is_written_and_printed(tmp_path):
    out = tmp_path / "schema.json"
    assert maskray("schema", "--out", out).returncode == 0
    assert maskray("schema").stdout == out.read_text()
    assert "no such file or directory" in one_line_error(maskray("schema", "--out", tmp_path / "none/schema.json"))


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_evaluate_prints_the_published_metrics(shared, iou_type):
    folder = shared("data/coco-eval-reference")
    gt = folder / "instances_val2014_100.json"
    dt = folder / f"instances_val2014_fake{iou_type}100_results.json"
    done = maskray("evaluate", "--gt", gt, "--dt", dt, "--iou-type", iou_type, "--json")
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    assert list(tree) == ["stats"]
    expected = json.loads((folder / "expected.json").read_text())
    published = expected[iou_type]
    published = published["stats"] if isinstance(published, dict) else published
    assert tree["stats"] == pytest.approx(published, abs=1e-9)  # what the README promises


def test_evaluate_takes_a_protocol(shared):
    folder = shared("data/coco-eval-reference")
    files = (
        "--gt",
        folder / "instances_val2014_100.json",
        "--dt",
        folder / "instances_val2014_fakesegm100_results.json",
    )
    done = maskray("evaluate", *files, "--protocol", "boundary")
    assert done.returncode == 0, done.stderr
    assert "Boundary metrics, segm" in done.stdout
    assert "neg_category_ids is None" in one_line_error(maskray("evaluate", *files, "--protocol", "lvis"))


def test_evaluate_takes_results_or_a_model(tmp_path):
    (tmp_path / "gt.json").write_text("{}")
    for arguments in ((), ("--model", tmp_path), ("--model", tmp_path, "--dt", tmp_path, "--images", tmp_path)):
        line = one_line_error(maskray("evaluate", "--gt", tmp_path / "gt.json", *arguments))
        assert line == "evaluate takes --gt with --dt, or --gt with --model, --images and --out"


def test_evaluate_by_hand(tmp_path):
    """One square found exactly, one missed: half of the recall levels at precision 1; AP 51/101 by COCO's rule."""
    box = {"image_id": 1, "category_id": 3, "area": 2500.0, "iscrowd": 0}
    annotations = [box | {"id": 1, "bbox": [0, 0, 50, 50]}, box | {"id": 2, "bbox": [100, 100, 50, 50]}]
    images = [{"id": 1, "width": 200, "height": 200, "file_name": "a.jpg"}]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "square"}]}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    found = [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 50, 50], "score": 0.9}]
    (tmp_path / "dt.json").write_text(json.dumps(found))
    arguments = ("evaluate", "--gt", tmp_path / "gt.json", "--dt", tmp_path / "dt.json")
    stats = json.loads(maskray(*arguments, "--json").stdout)["stats"]
    assert stats[:2] == pytest.approx([51 / 101, 51 / 101])
    assert stats[3] == -1
    assert re.search(r"AP50 .* 0\.5050", maskray(*arguments).stdout)
    (tmp_path / "dt.json").write_text("[{}")
    assert "dt.json" in one_line_error(maskray(*arguments))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A small model with random weights that keeps its five best guesses."""
    import torch

    from maskray.model.build_model import build_model
    from maskray.model.config import ModelSpec
    from maskray.platform.files.model_folder import write_model_folder

    tree = {
        "model": {
            "backbone": {"name": "resnet18", "norm": "group_norm", "fpn_channels": 32, "freeze_stages": 0},
            "inference": {"score_threshold": 0.0, "detections_per_image": 5},
        },
        "input": {"shorter_edge": 128, "longer_edge_max": 192},
        "labels": {"categories": [{"id": 1, "name": "circle"}, {"id": 5, "name": "square"}]},
    }
    spec = ModelSpec.model_validate(tree)
    torch.manual_seed(0)
    model = build_model(spec.model, spec.input, spec.labels.num_classes)
    return write_model_folder(tmp_path_factory.mktemp("model") / "tiny", model, spec)


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    path = tmp_path / "000000000042.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.slow
def test_predict_prints_coco_results_and_draws(model_folder, image, tmp_path):
    done = maskray("predict", tmp_path, "--model", model_folder, "--json", "--out", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == 5
    for result in results:
        assert set(result) == {"image_id", "category_id", "bbox", "score", "segmentation"}
        assert result["image_id"] == 42
        assert result["category_id"] in (1, 5)
        assert result["segmentation"]["size"] == [120, 160]
    assert [result["score"] for result in results] == sorted((r["score"] for r in results), reverse=True)
    assert Image.open(tmp_path / "drawn" / f"{image.stem}.png").size == (160, 120)
    shown = maskray_here("predict", image, "--model", model_folder).stdout
    assert f"{image}: 5 objects" in shown


@pytest.mark.slow
def test_predict_tells_what_is_wrong(model_folder, image, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(image.read_bytes()[:2000])
    cases = {
        (tmp_path / "none.jpg", "--model", model_folder): (maskray_here, r"none\.jpg: no such file"),
        (cut, "--model", model_folder): (maskray, r"cut\.png: .*"),
        (image, "--model", tmp_path / "none"): (maskray_here, r"none: no such model folder"),
        (image, "--model", "models:/none@champion", "--output", tmp_path): (maskray, r"models:/none@champion: .*"),
    }
    for arguments, (run, expected) in cases.items():
        line = one_line_error(run("predict", *arguments))
        assert re.search(expected, line), line


@pytest.mark.slow
def test_models_of_an_empty_registry(tmp_path):
    done = maskray("models", "list", "--output", tmp_path)
    assert (done.returncode, done.stdout) == (0, "no registered models\n")
    assert "none" in one_line_error(maskray_here("models", "promote", "none", "1", "champion", "--output", tmp_path))


@pytest.mark.ray
def test_synthesize_validate_shard_check(tmp_path, job_file):
    made = maskray("data", "synthesize", tmp_path / "set", "--num-images", 12, "--height", 64, "--width", 96)
    assert made.returncode == 0, made.stderr
    pair = (tmp_path / "set/annotations/instances_train.json", tmp_path / "set/train")
    checked = maskray("data", "validate", *pair)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    sharded = maskray("data", "shard", *pair, "--out", tmp_path / "shards", "--rows-per-shard", 5)
    assert sharded.returncode == 0, sharded.stderr
    assert re.search(r"shards: 12 images, \d+ annotations, 3 shards", sharded.stdout)
    source = f"{{kind: shards, path: {tmp_path / 'shards'}}}"
    plan = json.loads(maskray("check", job_file, "--json", "--set", f"data.train={source}").stdout)["plan"]
    assert plan["train_images"] == 12
    next((tmp_path / "set/train").iterdir()).write_bytes(b"no image")
    broken = maskray("data", "validate", *pair)
    assert broken.returncode == 1
    assert "wrong:" in broken.stdout


def test_interrupt_is_exit_code_130(tmp_path):
    command = [*PROGRAM, "data", "synthesize", str(tmp_path / "set"), "--num-images", "100000"]
    # Of a program in the background a shell has the interrupt ignored, and that would be inherited.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 600
    while not list((tmp_path).glob("set/train/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in errors
