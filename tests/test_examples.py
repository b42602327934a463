"""The notebooks of examples/ and the examples of docs/python.md run as they stand."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
import ray
from nbclient import NotebookClient
from separable_model import SMALL_MASKS, separable_model

from maskray import api
from maskray.platform.files.model_folder import write_model_folder
from maskray.platform.job import kinds
from maskray.platform.job.config import JobConfig, TrackingConfig
from maskray.platform.job.load import load_job
from maskray.platform.registry.registration import register_model
from maskray.platform.registry.tracking import Tracking
from maskray.platform.runs.summary import RunSummary

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SECONDS = 1800
SHAPES = ("circle", "square", "triangle", "star")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_and_use_public_names_alone(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    text = "\n".join(cell.source for cell in cells)
    assert re.findall(r"(?:import|from) (maskray\S*)", text) == ["maskray"]
    used = set(re.findall(r"\bapi\.(\w+)", text))
    assert "run_job" in used
    assert used <= set(api.__all__)


@pytest.fixture
def kernels_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of examples/ where a kernel writes nothing to the home folder."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("outputs"))
    return folder


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(
    "path", [NOTEBOOKS[1], pytest.param(NOTEBOOKS[0], marks=pytest.mark.long)], ids=lambda path: path.stem
)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, ray_cluster: None, kernels_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a kernel of Jupyter, on the cluster of the tests; its figures are those that the run itself came to."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the kernel: threads of small tensors stall one another
    notebook = nbformat.read(kernels_home / path.name, 4)
    notebook.cells.append(nbformat.v4.new_code_cell('assert dict(figures.get("late", figures)) == run.metrics'))
    place = {"metadata": {"path": str(kernels_home)}}
    NotebookClient(notebook, timeout=None, startup_timeout=SECONDS, resources=place).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert "image/png" in shown
    assert any("<td>segm</td>" in output.get("data", {}).get("text/html", "") for output in outputs)
    assert not [output.text for output in outputs if "ipywidgets" in output.get("text", "")]


@pytest.fixture
def at_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader of docs/python.md: photo.jpg, my-images, job.yaml, and a version of `demo`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    data = api.synthesize("drawn", 6, height=64, width=96, max_objects=3, classes=SHAPES)
    Path("my-images").mkdir()
    shutil.copytree(data.folder, "my-images/images")
    Path("my-images/annotations.json").write_text(json.dumps(data.to_coco()))
    shutil.copy(data.images[0].path or "", "photo.jpg")
    source = {"kind": "files", "path": "my-images"}
    job = {"name": "first", "data": {"train": source, "val": source}, "train": {"steps": 10, "images_per_batch": 2}}
    Path("job.yaml").write_text(json.dumps(job))
    network, spec = separable_model(SMALL_MASKS, {"inference": {"score_threshold": 0.0}})
    spec = spec.model_copy(update={"labels": data.images[0].labels})
    folder = write_model_folder(tmp_path / "model", network, spec)
    tracking = Tracking(TrackingConfig(), "outputs")
    version = register_model(tracking, tracking.start_run(load_job("job.yaml"), {}), "demo", folder, {})
    tracking.client.set_registered_model_alias("demo", "champion", version)
    return folder


@pytest.mark.slow
def test_the_examples_of_the_page_run(
    at_the_page: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as in a notebook. Training is left out here: the notebooks train."""
    begun: list[str] = []

    def run(job: JobConfig, resume: bool) -> RunSummary:
        begun.append(job.name)
        return RunSummary(job.name, Path("outputs"), at_the_page, {"bbox/AP": 0.5}, Path("report.html"), {})

    monkeypatch.setitem(kinds.KINDS, "train", replace(kinds.KINDS["train"], run=run))
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("```") / 2 >= 7
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert begun == ["second"]
    assert Path("found.png").is_file()
    assert "mask AP50" in capsys.readouterr().out


def test_the_page_names_what_there_is() -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    assert [name for name in api.__all__ if f"{name}" not in text] == []
    of_objects = re.findall(r"`(\w+)(?:\(.*?\))?`", text[text.index("| of `Objects`") : text.index("```python\nareas")])
    assert [name for name in of_objects if name != "Objects" and not hasattr(api.Objects, name)] == ["size", "path"]
