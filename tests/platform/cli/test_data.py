"""`maskray data validate` on files as tools write them: what it prints, its exit code, and the repaired file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from maskray.platform.cli.main import main


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    """Three images of 40x30 in img/, each with an object; beside what COCO knows the tree has keys of its own."""
    (tmp_path / "img").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (40, 30)).save(tmp_path / f"img/{number}.png")
    return {
        "info": {"made by": "a tool"},
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30, "tag": "x"} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "c", "colour": "red"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0, "tag": "y",
             "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]}
            for i in (1, 2, 3)
        ],
    }  # fmt: skip


def validate(folder: Path, tree: Any, capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, str, str]:
    """Exit code, output and errors of the command on a tree, or on bytes."""
    file = folder / "ann.json"
    file.write_bytes(tree if isinstance(tree, bytes) else json.dumps(tree).encode())
    code: Any = 0
    try:
        main(["data", "validate", str(file), str(folder / "img"), *map(str, options)])
    except SystemExit as ended:
        code = ended.code or 0
    told = capsys.readouterr()
    return code, told.out, told.err


def test_what_is_plainly_meant_is_told_and_no_mistake(tmp_path: Path, tree: Any, capsys: Any) -> None:
    tree["annotations"][0] |= {"id": 1.0, "iscrowd": "0", "segmentation": None}
    code, out, _ = validate(tmp_path, tree, capsys)
    assert code == 0
    assert "ok: every object is read" in out
    assert "read as meant: 1 id_as_float, 1 iscrowd_read, 1 no_segmentation" in out


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_of_other_systems(tmp_path: Path, tree: Any, capsys: Any, encoding: str) -> None:
    tree["categories"][0]["name"] = "Käfer"
    code, out, _ = validate(tmp_path, json.dumps(tree, ensure_ascii=False).encode(encoding), capsys)
    assert (code, "ok: no problems" in out) == (0, True)


def test_what_is_left_out_is_a_mistake_that_need_not_be_the_end(tmp_path: Path, tree: Any, capsys: Any) -> None:
    tree["annotations"][1]["segmentation"] = [[1, 2, 3, 4]]
    code, out, _ = validate(tmp_path, tree, capsys)
    assert code == 1
    assert "wrong: bad_segmentation: image 2, annotation 2: a polygon has 4 coordinates" in out
    assert "left out: 1 bad_segmentation" in out
    assert "read by every command: 2 annotations" in out
    code, out, _ = validate(tmp_path, tree, capsys, "--max-bad-annotations", 0)
    assert "refused: " in out
    assert "1 of 3 annotations cannot be read, 0 may be left out" in out


def test_the_repaired_file_has_nothing_to_repair_and_all_other_keys(tmp_path: Path, tree: Any, capsys: Any) -> None:
    tree["annotations"][0] |= {"id": 1.0, "area": "?", "bbox": None}
    tree["annotations"][1]["bbox"] = [1, 2, 3]
    (tmp_path / "img/3.png").write_bytes(b"no image")
    out_file = tmp_path / "new/fixed.json"
    code, out, _ = validate(tmp_path, tree, capsys, "--fix", out_file)
    assert code == 0
    for line in (
        "changed: id_as_float: image 1, annotation 1: ids 1.0, 1, 1",
        "changed: bbox_computed: image 1, annotation 1: no bbox, taken of the segmentation",
        "left out: bad_bbox: image 2, annotation 2: ",
        "left out: unreadable_image: image 3: ",
        "left out: 1 annotations of 1 images that cannot be read",
        f"{out_file}: 1 annotations of 2 images",
    ):
        assert line in out
    fixed = json.loads(out_file.read_text())
    assert fixed["info"] == tree["info"]
    assert fixed["images"] == tree["images"][:2]
    assert fixed["categories"] == tree["categories"]
    expected = tree["annotations"][0] | {"id": 1, "area": 100.0, "bbox": [2.0, 2.0, 10.0, 10.0]}
    assert fixed["annotations"] == [expected]
    assert validate(tmp_path, fixed, capsys)[0] == 0


def test_a_repair_writes_over_nothing_and_is_whole_or_not_there(tmp_path: Path, tree: Any, capsys: Any) -> None:
    there = tmp_path / "there.json"
    there.write_text("mine")
    code, out, errors = validate(tmp_path, tree, capsys, "--fix", there)
    assert (code, out) == (1, "")
    assert "exists already and is not overwritten" in errors
    assert there.read_text() == "mine"
    tree["annotations"][0]["category_id"] = 7
    code, out, errors = validate(tmp_path, tree, capsys, "--fix", tmp_path / "new.json")
    assert code == 1
    assert "cannot be repaired: dangling_category_id: image 1, annotation 1: category id 7" in out
    assert "new.json: not written: 1 mistakes that only a person can mend" in errors
    assert not (tmp_path / "new.json").exists()


def test_a_device_and_a_folder_are_no_images(tmp_path: Path, tree: Any, capsys: Any) -> None:
    (tmp_path / "img/zeros.png").symlink_to("/dev/zero")
    tree["images"][0]["file_name"], tree["images"][1]["file_name"] = "zeros.png", "."
    code, out, _ = validate(tmp_path, tree, capsys)
    assert code == 1
    assert "unreadable_image: image 1: zeros.png: it is no file" in out
    assert "unreadable_image: image 2: .: it is no file" in out


def test_the_report_as_json_has_verdicts(tmp_path: Path, tree: Any, capsys: Any) -> None:
    tree["annotations"][0]["image_id"] = 2**63
    code, out, _ = validate(tmp_path, tree, capsys, "--json")
    report = json.loads(out)
    assert code == 1
    assert [(problem["code"], problem["verdict"]) for problem in report["problems"]] == [
        ("dangling_image_id", "refused")
    ]
    assert "annotation 1: image id 9223372036854775808 is not among the images" in report["refusal"]
