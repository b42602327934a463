"""A drawn Cityscapes tree evaluated from files: as the scripts do, in parts, and from JSON that it was made into."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskray.model.config import LabelMap
from maskray.platform.cli.main import main
from maskray.platform.data.formats.cityscapes_labels import THINGS
from maskray.platform.data.formats.reading import read_annotated
from maskray.platform.data.synthetic.street_tree import StreetSettings, synthesize_streets
from maskray.platform.evaluation.cityscapes_files import evaluate_cityscapes
from maskray.platform.evaluation.evaluate_files import evaluate_files
from maskray.platform.evaluation.submission import write_submission

LABELS = LabelMap.model_validate({"categories": [{"id": k, "name": name} for k, name in enumerate(THINGS, start=1)]})


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_streets(tmp_path_factory.mktemp("streets"), StreetSettings(12, 5, 128, 256, 12), "val")


@pytest.fixture(scope="module")
def results(tree: Path) -> list[dict[str, Any]]:
    """Objects, groups among them, moved by a few pixels, and now and then of another class, missing, or given twice."""
    generator, found = np.random.default_rng(3), []
    for entry in read_annotated(tree, split="val").tree["annotations"]:
        for _ in range(int(generator.choice([0, 1, 1, 1, 2]))):
            mask = np.roll(coco_mask.decode(entry["segmentation"]), generator.integers(-2, 3, 2).tolist(), (0, 1))
            encoded = coco_mask.encode(np.asfortranarray(mask))
            category = entry["category_id"] if generator.random() < 0.9 else int(generator.integers(1, 9))
            one = {"image_id": entry["image_id"], "category_id": category, "score": float(generator.random())}
            found.append(one | {"segmentation": encoded | {"counts": encoded["counts"].decode()}})
    return found


@pytest.fixture
def file(results: list[dict[str, Any]], tmp_path: Path) -> Path:
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path / "results.json"


def test_the_figures_of_a_tree_are_those_of_the_scripts(
    tree: Path, results: list[dict[str, Any]], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    images = read_annotated(tree, split="val").tree["images"]
    by_image = [(i["file_name"], [one for one in results if one["image_id"] == i["id"]]) for i in images]
    write_submission(tmp_path / "submission", by_image, len(by_image), LABELS)
    monkeypatch.setattr(scripts, "writeDict2JSON", lambda tree, file: None)
    if not hasattr(np, "in1d"):
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    args = scripts.args
    args.predictionPath, args.predictionWalk, args.gtInstancesFile = (
        str(tmp_path / "submission"),
        None,
        str(tmp_path / "x"),
    )
    args.quiet, args.JSONOutput = True, False
    truths = sorted(str(path) for path in tree.rglob("*_instanceIds.png"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = scripts.evaluateImgLists([scripts.getPrediction(truth, args) for truth in truths], truths, args)
    ours = evaluate_cityscapes(tree / "gtFine/val", file)
    np.testing.assert_allclose(ours.ap, np.array(theirs["resultApMatrix"])[0], rtol=0, atol=1e-9)
    assert ours.stats == pytest.approx([theirs["averages"]["allAp"], theirs["averages"]["allAp50%"]], abs=1e-9)
    assert 0.2 < ours.stats[0] < ours.stats[1] < 1


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_parts_of_the_images_give_the_same_figures(tree: Path, file: Path) -> None:
    whole = evaluate_cityscapes(tree / "gtFine/val", file)
    np.testing.assert_array_equal(evaluate_cityscapes(tree / "gtFine/val", file, 5).ap, whole.ap)


def test_the_json_of_a_tree_gives_the_same_figures_and_says_where_void_is_missing(
    tree: Path, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = read_annotated(tree, split="val").tree
    (tmp_path / "truth.json").write_text(json.dumps(found))
    ours = evaluate_files(tmp_path / "truth.json", file, "segm", protocol="cityscapes")
    assert ours.metrics == evaluate_files(tree / "gtFine/val", file, "segm", protocol="cityscapes").metrics
    assert not caplog.records
    for image in found["images"]:
        del image["ignore_region"]
    (tmp_path / "truth.json").write_text(json.dumps(found))
    with caplog.at_level(logging.WARNING):
        evaluate_files(tmp_path / "truth.json", file, "segm", protocol="cityscapes")
    assert "no image has an ignore_region" in caplog.text


def test_the_command_draws_a_tree_that_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--height", "64", "--width", "128")
    assert (
        run("data", "synthesize", tmp_path / "t", "--scene", "street", "--num-images", 3, "--split", "val", *size) == 0
    )
    assert capsys.readouterr().out == f"3 images of the split val in {tmp_path / 't'}\n"
    assert run("data", "validate", tmp_path / "t", "--split", "val") == 0
    assert "cityscapes, images in" in capsys.readouterr().out
    assert run("data", "synthesize", tmp_path / "t", "--scene", "street", "--persons") == 1
    assert "--persons is of shapes, not of streets" in capsys.readouterr().err


def run(*arguments: object) -> int:
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_command_prints_every_class(tree: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "--gt", tree / "gtFine/val", "--dt", file, "--protocol", "cityscapes"]
    assert run(*arguments, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["stats"] == evaluate_cityscapes(tree / "gtFine/val", file).stats
    assert list(printed["classes"]) == list(THINGS)
    assert run(*arguments) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("Cityscapes metrics", *THINGS))
    assert run(*arguments, "--iou-type", "bbox") == 1
    assert "protocol cityscapes: evaluates segm, not bbox" in capsys.readouterr().err
