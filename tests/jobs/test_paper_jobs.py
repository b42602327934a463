"""The jobs of the paper: every row that is Mask R-CNN has one, and its model can be built."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from maskray.model.build_model import build_model
from maskray.platform.evaluation.paper import read_paper_row
from maskray.platform.job.config import JobConfig
from maskray.platform.job.kinds import load_any, plan_any

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "jobs/paper").glob("*.yaml"), *(ROOT / "jobs/ablations").glob("*.yaml")])
# What others did, which the paper's tables show beside its own.
OF_OTHERS = {
    "1/MNC R101-C4", "1/FCIS+OHEM R101-C5-dilated", "1/FCIS+++", "3/Faster R-CNN+++ R101-C4",
    "3/Faster R-CNN R101-FPN", "4/CMU-Pose+++", "4/G-RMI",
}  # fmt: skip


def paper_rows() -> set[str]:
    tables = yaml.safe_load((ROOT / "platform/evaluation/paper.yaml").read_text(encoding="utf-8"))
    return {f"{table}/{row}" for table, entry in tables.items() for row in entry["rows"]}


def jobs_of(path: Path) -> dict[str, JobConfig]:
    """The jobs of a file, by the row that they say they are of, or by its name."""
    job = load_any(path)
    if isinstance(job, JobConfig):
        return {job.evaluation.paper_row or path.stem: job}
    table, rows = job.table.paper or path.stem, job.table.paper_rows
    return {f"{table}/{rows.get(trial.label, trial.label)}": trial.job for trial in plan_any(job).trials}


def test_no_row_of_the_paper_is_without_a_job() -> None:
    said = {row for path in FILES if not path.stem.endswith("_small") for row in jobs_of(path)}
    assert paper_rows() - OF_OTHERS - said == set()
    assert paper_rows() >= OF_OTHERS


def test_the_tables_are_those_of_the_shared_facts(shared: Callable[[str], Path]) -> None:
    """Numbers of tables 1 to 9 are the same, in the same order, whatever rows are called."""
    facts = yaml.safe_load(shared("reference/paper.yaml").read_text(encoding="utf-8"))
    ours = yaml.safe_load((ROOT / "platform/evaluation/paper.yaml").read_text(encoding="utf-8"))
    theirs = {match[1]: table for name, table in facts.items() if (match := re.match(r"table_(\d[a-e]?)_", name))}
    assert set(ours) == set(theirs)
    for table, entry in ours.items():
        known = [row for row in theirs[table].values() if isinstance(row, list)]
        width = len(entry["columns"])
        rows = list(entry["rows"].values())
        assert all(row in [one[:width] for one in known] for row in rows), table
        missing = [name for name, row in theirs[table].items() if isinstance(row, list) and row[:width] not in rows]
        assert all("G-RMI" in name or "TDM" in name for name in missing), missing


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_model_can_be_built(path: Path) -> None:
    built = set()
    for row, job in jobs_of(path).items():
        if job.model in built:
            continue
        built.add(job.model)
        with torch.device("meta"):
            model = build_model(job.model, job.input, 80)
        assert sum(parameter.numel() for parameter in model.parameters()) > 100_000, row
        assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("path", sorted((ROOT / "jobs/paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_job_of_the_paper_states_its_published_figure(path: Path) -> None:
    job = load_any(path)
    assert isinstance(job, JobConfig)
    assert job.evaluation.paper_row is not None
    row = read_paper_row(job.evaluation.paper_row)
    text = path.read_text(encoding="utf-8").partition("\nname:")[0]
    figure = next(iter(row.metrics.values()))
    assert f"{100 * figure:.1f}" in text
    assert f"Table {row.table}" in text
    for word in ("Expected", "Hardware", "Hours", "not measured here"):
        assert word in " ".join(text.replace("#", " ").split())
