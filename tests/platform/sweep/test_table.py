"""The table of a sweep from trials whose matches are made by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from single_matches import write_matches

from maskray.platform.evaluation.coco_ap import evaluate_images, merge
from maskray.platform.sweep.table import build_table
from maskray.platform.sweep.table_files import as_csv, html, markdown, print_table, write_table
from maskray.platform.sweep.trial_record import TrialRecord
from maskray.platform.sweep.trials import list_trials

NUM_IMAGES = 40


def finish(record: TrialRecord, hit_rate: float, seed: int, num_images: int = NUM_IMAGES) -> float:
    """Write a finished trial: one object an image, found in a share of the images, and one false box in each."""
    generator = np.random.default_rng(seed)
    images = []
    for image_id in range(1, num_images + 1):
        box = [10.0, 10.0, 50.0, 40.0]
        objects = [{"category_id": 4, "bbox": box, "area": 2000.0, "iscrowd": 0}]
        found = [{"category_id": 4, "bbox": box, "score": 0.9}] if generator.random() < hit_rate else []
        found += [{"category_id": 4, "bbox": [100.0, 100.0, 20.0, 20.0], "score": 0.1}]
        images.append((image_id, (200, 200), objects, found))
    parts = evaluate_images(images, [4], "bbox")
    metrics = merge(parts, [4], "bbox").metrics
    (record.folder / "evaluation").mkdir(parents=True)
    write_matches(record.matches, parts)
    record.close("finished", figures=metrics, seconds={})
    return 100 * metrics["bbox/AP"]


@pytest.fixture
def sweep(make_sweep, tree):
    finding = {
        "text": "RoIAlign beats RoIPool",
        "terms": [
            {"variant": "RoIAlign mean", "figure": "bbox/AP"},
            {"variant": "RoIPool max", "figure": "bbox/AP", "factor": -1},
        ],
    }
    findings = [
        {**finding, "at_least": 10},
        {**finding, "at_least": 10, "at_most": 45},
        {**finding, "at_most": 1},
        {**finding, "relative": True, "at_least": 0.1},
    ]
    table = {"figures": ["bbox/AP", "bbox/AP50", "bbox/AR100"], "paper": "2c", "findings": findings}
    table["bootstrap_samples"] = 300
    return make_sweep(table=table, base=tree["base"] | {"evaluation": {"iou_types": ["bbox", "segm"]}})


@pytest.fixture
def records(sweep):
    return [TrialRecord(trial) for trial in list_trials(sweep)]


@pytest.fixture
def finished(sweep, records):
    """All trials finished: RoIPool finds half of the objects, RoIAlign nine of ten."""
    for record in records:
        finish(record, 0.5 if record.trial.label == "RoIPool max" else 0.9, record.trial.seed)
    return build_table(sweep, records)


def test_means_spreads_and_differences(sweep, records, finished):
    pool, align = finished.rows
    values = {row.label: row.values("bbox/AP") for row in finished.rows}
    assert pool.mean("bbox/AP") == pytest.approx(np.mean(values["RoIPool max"]))
    assert align.spread("bbox/AP") == pytest.approx(np.std(values["RoIAlign mean"], ddof=1))
    difference = align.differences["bbox/AP"]
    assert difference.value == pytest.approx(align.mean("bbox/AP") - pool.mean("bbox/AP"))
    assert difference.low < difference.value < difference.high
    # The share of images found by one and not by the other is binomial: two standard errors of the mean of two seeds.
    assert 8 < difference.high - difference.low < 45
    assert pool.differences == {}
    assert math.isnan(align.differences["bbox/AR100"].low)  # a recall has no interval


def test_findings_are_judged_by_the_whole_interval(finished):
    assert [finding.verdict for finding in finished.findings] == ["yes", "uncertain", "no", "yes"]
    last = finished.findings[-1].estimate
    pool, align = finished.rows
    assert last.value == pytest.approx(math.log(align.mean("bbox/AP") / pool.mean("bbox/AP")))


def test_files_say_the_same(finished, tmp_path):
    write_table(finished, tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert len(lines) == 2 * 3 * (2 + 1)
    (mean,) = [
        line for line in lines if (line["variant"], line["seed"], line["figure"]) == ("RoIAlign mean", "", "bbox/AP")
    ]
    assert float(mean["value"]) == pytest.approx(
        finished.rows[1].mean("bbox/AP"), abs=1e-4
    )  # four decimals are written
    text = (tmp_path / "table.md").read_text()
    assert f"{finished.rows[1].mean('bbox/AP'):.1f} ± {finished.rows[1].spread('bbox/AP'):.1f}" in text
    assert "paired bootstrap over 40 images" in text
    page = (tmp_path / "table.html").read_text()
    assert "RoIAlign mean" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_paper_numbers_stand_beside(make_sweep, tree, tmp_path):
    sweep = make_sweep(table={"paper": "2c", "bootstrap_samples": 20})
    table = build_table(sweep, [TrialRecord(trial) for trial in list_trials(sweep)])
    assert "| RoIPool max | 0 of 2 | - | - | - | 26.9 | 48.8 | 26.4 |" in markdown(table)
    assert as_csv(table).splitlines()[1].endswith(",26.9000")


def test_what_is_missing_stays_empty(sweep, records, capsys):
    """No number is made up for trials that failed, were stopped or have not run."""
    finish(records[0], 0.5, 1)
    records[1].folder.mkdir(parents=True)
    records[1].close("failed", error="loss is not finite")
    records[2].folder.mkdir(parents=True)
    records[2].close("stopped", step=2, evaluations=[])
    table = build_table(sweep, records)
    pool, align = table.rows
    assert (len(pool.seeds), pool.stopped, len(align.seeds), align.failed) == (1, 1, 0, 1)
    assert math.isnan(align.mean("bbox/AP"))
    assert {finding.verdict for finding in table.findings} == {"unknown"}
    text = markdown(table)
    assert "| RoIAlign mean | 0 of 2, 1 failed | - |" in text
    assert "1 of 2, 1 stopped" in text
    html(table)


def test_other_images_are_not_paired(sweep, records):
    finish(records[0], 0.5, 1)
    finish(records[1], 0.9, 1, num_images=30)
    align = build_table(sweep, records).rows[1]
    assert math.isnan(align.differences["bbox/AP"].low)
    assert align.differences["bbox/AP"].value > 0


def test_a_variant_without_masks_has_no_mask_metric(make_sweep, tree):
    boxes = {"model.masks": False, "evaluation.iou_types": ["bbox"]}
    sweep = make_sweep(
        variants={"boxes": boxes, "quick boxes": boxes | {"train.base_lr": 0.2}, "masks": {}},
        table={"figures": ["bbox/AP", "segm/AP"], "bootstrap_samples": 50},
        seeds=[1],
    )
    records = [TrialRecord(trial) for trial in list_trials(sweep)]
    finish(records[0], 0.5, 1)
    finish(records[1], 0.9, 1)
    table = build_table(sweep, records)
    assert math.isnan(table.rows[0].mean("segm/AP"))
    assert table.rows[0].mean("bbox/AP") > 0
    head = markdown(table).splitlines()[2]
    assert head == "|  | seeds | box AP | mask AP | Δ box AP |"


def test_terminal_shows_table_and_findings(finished, tmp_path):
    stream = io.StringIO()
    print_table(finished, tmp_path, Console(file=stream, width=110))
    text = stream.getvalue()
    assert "RoIAlign mean" in text
    assert "uncertain" in text
    assert "table.html" in text


def test_labels_and_titles_are_text_and_nothing_else(make_sweep, tree, tmp_path, capsys):
    """Markup of terminal, Markdown and formulas in them is shown as it was written."""
    variants = {"[red]a[/nothing]": {}, "b | $c_{d$ | $x": {"train.base_lr": 0.2}}
    sweep = make_sweep(variants=variants, table={"title": "[bold]t[/x]", "figures": ["bbox/AP"]})
    records = [TrialRecord(trial) for trial in list_trials(sweep)]
    for index, record in enumerate(records):
        finish(record, 0.5, index)
    table = build_table(sweep, records)
    write_table(table, tmp_path)
    print_table(table, tmp_path, Console(width=200))
    shown = capsys.readouterr().out
    assert "[bold]t[/x]" in shown
    assert all(label in shown for label in variants)
    (line,) = [line for line in markdown(table).splitlines() if "$x" in line and line.startswith("| b")]
    assert line.startswith(r"| b \| $c_{d$ \| $x | 2 |")


def test_outcomes_survive_as_files(records):
    """The state of a trial is that of its files, and a failure alone may be taken back."""
    record = records[0]
    assert (record.state, record.step(), record.evaluations("bbox/AP")) == ("new", 0, [])
    record.folder.mkdir(parents=True)
    (record.folder / "job.yaml").write_text("")
    assert record.state == "begun"
    (record.folder / "history.jsonl").write_text(
        json.dumps({"step": 2, "val/bbox/AP": 0.25}) + "\n" + json.dumps({"step": 3, "loss": 1.0}) + "\n"
    )
    assert (record.step(), record.evaluations("bbox/AP")) == (3, [(2, 0.25)])
    record.close("failed", error="x")
    assert record.state == "failed"
    record.reopen()
    assert record.state == "begun"
    assert not [path for path in Path(record.folder).iterdir() if path.name.startswith(".")]
