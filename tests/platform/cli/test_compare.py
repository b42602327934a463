"""`maskray compare` of results files and folders: JSON, page with pictures, and what is told in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from maskray.platform.cli.main import app
from maskray.platform.evaluation.matches_file import write_match_columns
from maskray.platform.evaluation.matching import match_entries

BOXES = {1: [10.0, 10.0, 40.0, 40.0], 2: [20.0, 5.0, 30.0, 50.0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """gt.json, images/, and results of a model that finds all (good.json) and of one that finds the first."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "images").mkdir()
    images, annotations = [], []
    for image_id, box in BOXES.items():
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 80, "width": 90})
        annotations.append(
            {"id": image_id, "image_id": image_id, "category_id": 4, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        )
        pixels = np.full((80, 90, 3), 40 * image_id, np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
    tree = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "cup"}]}
    (folder / "gt.json").write_text(json.dumps(tree))
    found = [{"image_id": i, "category_id": 4, "bbox": box, "score": 0.9} for i, box in BOXES.items()]
    (folder / "good.json").write_text(json.dumps(found))
    (folder / "half.json").write_text(json.dumps(found[:1]))
    for name, results in (("good", found), ("half", found[:1])):
        entries = [(i, (80, 90), [annotations[i - 1]], [one for one in results if one["image_id"] == i]) for i in BOXES]
        (folder / name / "evaluation").mkdir(parents=True)
        write_match_columns(folder / name / "evaluation" / "matches.npz", [match_entries(entries, [4], "bbox")])
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_results_files_as_json_and_page(folder, tmp_path):
    files = (folder / "half.json", folder / "good.json", "--gt", folder / "gt.json")
    done = run(*files, "--json", "--out", tmp_path / "page.html", "--images", folder / "images")
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)
    assert tree["bbox"]["metrics"]["AP50"]["first"] == pytest.approx(51 / 101)
    assert tree["bbox"]["metrics"]["AP50"]["second"] == pytest.approx(1)
    assert tree["bbox"]["images"] == [{"image_id": 2, "first": 0, "second": 1, "difference": 1}]
    assert tree["categories"] == {"4": "cup"}
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 3
    assert "2.png" in page
    again = run(*files, "--out", tmp_path / "page.html")
    assert "exists already" in str(again.exception)


def test_run_folders_say_the_same(folder):
    by_folder = json.loads(run(folder / "half", folder / "good", "--json").stdout)
    by_file = json.loads(run(folder / "half.json", folder / "good.json", "--gt", folder / "gt.json", "--json").stdout)
    assert by_folder["bbox"] == by_file["bbox"]
    shown = run(folder / "half", folder / "good").output
    assert "50.5" in shown
    assert "2 images" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere", "good"), "nowhere: neither the folder of an evaluated run"),
        (("half.json", "good.json"), "half.json: has no matches.npz; give annotations"),
        (("half", "good", "--iou-type", "segm"), "holds no matches of segm"),
        (("half", "good.json", "--gt", "gt.json"), "half: has no results.json"),
    ],
)
def test_what_is_missing_is_told(folder, arguments, told):
    done = run(*(folder / one if not one.startswith("-") and one != "segm" else one for one in arguments))
    assert done.exit_code == 1
    assert told in str(done.exception)
