"""Versions compared image by image: by their URIs, and at a gate, whose page lies with the run of the version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskray.platform.evaluation.matches_file import write_match_columns
from maskray.platform.evaluation.matching import match_entries
from maskray.platform.job.config import GateConfig, TrackingConfig
from maskray.platform.registry.gate import GateRefusedError
from maskray.platform.registry.tracking import Tracking
from maskray.platform.runs import publication
from maskray.platform.runs.comparison import Source, compare_sources, draw_pictures, find_source
from maskray.platform.runs.publication import promote_version

BOX = [10.0, 10.0, 40.0, 40.0]
GATE = GateConfig(evaluation_set="val", metrics={"bbox/AP": 0.0})


def matches(found):
    """Four images with one object each, of which the first few are found."""
    truth = [{"category_id": 4, "bbox": BOX, "area": 1600.0, "iscrowd": 0}]
    results = [{"category_id": 4, "bbox": BOX, "score": 0.9}]
    entries = [(i, (80, 90), truth, results if i <= found else []) for i in range(1, 5)]
    return match_entries(entries, [4], "bbox")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Versions 1 to 4: three objects found, all, one, and one whose run has no evaluation."""
    folder = tmp_path_factory.mktemp("registry")
    tracking = Tracking(TrackingConfig(), folder)
    client = tracking.client
    client.create_registered_model("cups")
    for number, found in enumerate((3, 4, 1, None), 1):
        run_id = tracking.start_group(f"run {number}", {})
        if found is not None:
            out = folder / str(number)
            out.mkdir()
            write_match_columns(out / "matches.npz", [matches(found)])
            (out / "per_class.csv").write_text("category_id,name,objects\n4,cup,4\n")
            tracking.log_artifact(run_id, out, "evaluation")
        metrics = {"bbox/AP": 0.25 * (found or 4)}
        tags = {"metrics": json.dumps(metrics), "evaluation_set": "val", "evaluation_digest": "d"}
        tags["evaluated_images"] = "4"
        client.create_model_version("cups", f"runs:/{run_id}/model", run_id, tags=tags)
    promote_version(tracking, "cups", "1", "champion")
    return tracking


def test_versions_are_compared_by_their_uris(registry, tmp_path):
    first, second = (find_source(f"models:/cups/{number}", registry, tmp_path) for number in (1, 2))
    compared = compare_sources(first, second)
    change = compared.comparisons[0].metrics["AP"]
    assert change.first == pytest.approx(76 / 101)  # three of four objects: recall levels up to 0.75
    assert change.second == 1
    assert compared.categories == {4: "cup"}
    alias = find_source("models:/cups@champion", registry, tmp_path)
    assert compare_sources(alias, first).comparisons[0].images == ()


def test_what_has_no_evaluation_is_told(registry, tmp_path):
    with pytest.raises(ValueError, match=r"models:/cups/4: run \w+ has no evaluation/matches.npz"):
        find_source("models:/cups/4", registry, tmp_path)


def files_of(tracking, version):
    run_id = tracking.client.get_model_version("cups", version).run_id
    return run_id, [file.path for file in tracking.client.list_artifacts(run_id, "comparisons")]


def test_a_gate_leaves_the_comparison_with_the_run_whether_it_passes_or_not(registry, monkeypatch):
    told, warned = [], []
    # the logger itself: what other tests of this process leave behind decides how far a record travels
    monkeypatch.setattr(publication.logger, "warning", lambda text, *values: warned.append(text % values))
    with pytest.raises(GateRefusedError):
        promote_version(registry, "cups", "3", "champion", GATE, tell=told.append)
    assert told[0].comparisons[0].metrics["AP"].difference < 0
    assert promote_version(registry, "cups", "2", "champion", GATE, tell=told.append)["passed"]
    assert told[1].comparisons[0].metrics["AP"].difference > 0
    for version in ("2", "3"):
        run_id, files = files_of(registry, version)
        assert files == [f"comparisons/cups-{version}-beside-1.{kind}" for kind in ("html", "json")]
        page = registry.client.download_artifacts(run_id, files[0])
        assert "models:/cups/1" in open(page, encoding="utf-8").read()  # noqa: SIM115
    promote_version(registry, "cups", "4", "champion", GATE, tell=told.append)
    assert len(told) == 2
    (line,) = warned
    assert "not compared image by image: models:/cups/4" in line


@pytest.fixture
def files(tmp_path):
    """Annotations in UTF-16 of two images, and two results files, one with ids as text and without the second image."""
    tree = {"images": [], "annotations": [], "categories": [{"id": 4, "name": "cup"}]}
    for number in (1, 2):
        Image.fromarray(np.full((80, 90, 3), 50 * number, np.uint8)).save(tmp_path / f"{number}.png")
        tree["images"].append({"id": number, "file_name": f"{number}.png", "width": 90, "height": 80})
        entry = {"id": number, "image_id": number, "category_id": 4, "bbox": BOX, "area": 1600, "iscrowd": 0}
        tree["annotations"].append(entry)
    (tmp_path / "gt.json").write_text(json.dumps(tree), encoding="utf-16")
    result = {"category_id": 4, "bbox": BOX, "score": 0.9}
    (tmp_path / "all.json").write_text(json.dumps([result | {"image_id": number} for number in (1, 2)]))
    (tmp_path / "one.json").write_text(json.dumps([result | {"image_id": "1"}]))
    return tmp_path


def test_files_are_read_as_every_command_reads_them(files):
    first, second = (Source(name, results=files / f"{name}.json") for name in ("all", "one"))
    compared = compare_sources(first, second, files / "gt.json")
    assert compared.categories == {4: "cup"}
    assert [image for image, _, _ in compared.comparisons[0].images] == [2]
    (picture,) = draw_pictures(compared, 5, files / "gt.json", files)
    assert (picture.image_id, picture.file_name) == (2, "2.png")
    truth, found, lost = picture.drawn
    assert truth != lost != found
    assert draw_pictures(compared, 0, files / "gt.json", files) == []
    Path(files / "2.png").unlink()
    with pytest.raises(ValueError, match=r"2\.png"):
        draw_pictures(compared, 5, files / "gt.json", files)
