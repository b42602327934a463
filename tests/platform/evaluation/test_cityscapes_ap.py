"""Cityscapes' figures against its own scripts, which read the ids and the submission that are written here."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskray.model.config import LabelMap
from maskray.ops.match_images import unpack_levels
from maskray.platform.data.formats.cityscapes_labels import LABELS, OBJECTS_PER_LABEL, THING_IDS, THINGS, VOID_IDS
from maskray.platform.evaluation.cityscapes_ap import CityscapesMetrics, average_precision, merge_regions
from maskray.platform.evaluation.cityscapes_matching import RegionImage, match_regions
from maskray.platform.evaluation.submission import write_submission

IDS = dict(zip(THINGS, range(1, 9)))
NAMES = LabelMap.model_validate({"categories": [{"id": number, "name": name} for name, number in IDS.items()]})
CAR = THING_IDS["car"]


@dataclass
class Case:
    """One image: ids as Cityscapes has them, and detections (class, score, mask)."""

    ids: np.ndarray
    found: list[tuple[str, float, np.ndarray]]


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def to_region_image(number: int, case: Case) -> RegionImage:
    truth = []
    for value in np.unique(case.ids).tolist():
        label = value if value < OBJECTS_PER_LABEL else value // OBJECTS_PER_LABEL
        if label in THING_IDS.values():
            name = next(name for name, one in THING_IDS.items() if one == label)
            truth.append(
                {
                    "category_id": IDS[name],
                    "segmentation": rle(case.ids == value),
                    "iscrowd": int(value < OBJECTS_PER_LABEL),
                }
            )
    found = [{"category_id": IDS[name], "score": score, "segmentation": rle(mask)} for name, score, mask in case.found]
    return RegionImage(number, case.ids.shape, truth, found, rle(np.isin(case.ids, VOID_IDS)))


def run_ours(cases: list[Case], parts: int = 1) -> CityscapesMetrics:
    images = [to_region_image(number, case) for number, case in enumerate(cases)]
    return merge_regions([match_regions(images[part::parts], list(IDS.values())) for part in range(parts)], THINGS)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, without the files that it writes of its own, which hold numbers that JSON does not know."""
    scripts = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    if not hasattr(np, "in1d"):
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.setattr(scripts, "writeDict2JSON", lambda tree, file: None)
    return scripts


def run_theirs(scripts: Any, folder: Path, cases: list[Case]) -> dict[str, Any]:
    """The result of the scripts, of files."""
    truths, names = [], [f"a_000000_{number:06d}" for number in range(len(cases))]
    folder.mkdir()
    for name, case in zip(names, cases):
        truths.append(str(folder / f"{name}_gtFine_instanceIds.png"))
        Image.fromarray(case.ids).save(truths[-1])
    found = [
        (f"x/{name}_leftImg8bit.png", list(to_region_image(0, case).detections)) for name, case in zip(names, cases)
    ]
    write_submission(folder / "submission", found, len(found), NAMES)
    return evaluate_submission(scripts, folder / "submission", truths)


def evaluate_submission(scripts: Any, submission: Path, truths: list[str]) -> dict[str, Any]:
    args = scripts.args
    args.predictionPath, args.predictionWalk = str(submission), None
    args.quiet, args.JSONOutput = True, False
    args.gtInstancesFile = str(submission.parent / "none.json")
    predictions = [scripts.getPrediction(truth, args) for truth in truths]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of classes without objects
        return scripts.evaluateImgLists(predictions, truths, args)


def assert_equal(ours: CityscapesMetrics, theirs: dict[str, Any]) -> None:
    np.testing.assert_allclose(ours.ap, np.array(theirs["resultApMatrix"])[0], rtol=0, atol=1e-9)
    averages = theirs["averages"]
    expected = [averages["allAp"], averages["allAp50%"]]
    expected += [averages["classes"][name]["ap"] for name in THINGS]
    expected += [averages["classes"][name]["ap50%"] for name in THINGS]
    values = [math.nan if value == -1 else value for value in ours.metrics.values()]
    np.testing.assert_allclose(values, np.array(expected, dtype=float), rtol=0, atol=1e-9)
    assert list(ours.metrics)[:3] == ["cityscapes/AP", "cityscapes/AP50", "cityscapes/AP/person"]


def draw_case(generator: np.random.Generator, size: tuple[int, int] = (48, 64)) -> Case:
    """Objects, groups, void and tiny regions over one another; detections near them, several of one, and anywhere."""
    ids = np.full(size, LABELS["road"], dtype=np.uint16)
    numbers = [*generator.choice(list(THING_IDS.values())[:4], 7).tolist(), LABELS["caravan"], LABELS["static"]]
    for number in generator.permutation(numbers).tolist():
        kind = generator.random()
        value = number if number < 24 or kind < 0.2 else number * OBJECTS_PER_LABEL + int(generator.integers(400))
        ids[window(generator, size, 3 if kind > 0.8 else 20)] = value
    found = []
    for _ in range(int(generator.integers(0, 14))):
        value = int(generator.choice(np.unique(ids)))
        mask = np.zeros(size, dtype=bool)
        if generator.random() < 0.8:
            shift = generator.integers(-2, 3, 2)
            mask = np.roll(ids == value, shift.tolist(), (0, 1))
            mask[window(generator, size, 4)] = generator.random() < 0.5
        elif generator.random() < 0.9:
            mask[window(generator, size, 25)] = True
        label = value if value < OBJECTS_PER_LABEL else value // OBJECTS_PER_LABEL
        known = [name for name, one in THING_IDS.items() if one == label]
        name = known[0] if known and generator.random() < 0.85 else THINGS[int(generator.integers(5))]
        found.append((name, round(float(generator.random()), 1), mask))
    return Case(ids, found)


def window(generator: np.random.Generator, size: tuple[int, int], longest: int) -> tuple[slice, slice]:
    height, width = generator.integers(1, longest + 1, 2).tolist()
    top, left = int(generator.integers(0, size[0] - height + 1)), int(generator.integers(0, size[1] - width + 1))
    return slice(top, top + height), slice(left, left + width)


def sets_of_cases(number: int) -> Iterator[list[Case]]:
    generator = np.random.default_rng(7)
    for _ in range(number):
        yield [draw_case(generator) for _ in range(int(generator.integers(1, 6)))]


def is_judged(cases: list[Case]) -> bool:
    """Whether no class has objects, and detections that are all ignored: there the scripts end in an IndexError."""
    found = match_regions([to_region_image(number, case) for number, case in enumerate(cases)], list(IDS.values()))
    ignored = unpack_levels(found.ignored, 1, 10)[:, 0]
    both = set(found.gt_classes.tolist()) & set(found.classes.tolist())
    return not any(ignored[found.classes == k].all(axis=0).any() for k in both)


@pytest.mark.slow
def test_figures_are_those_of_the_scripts_in_200_random_sets(scripts: Any, tmp_path: Path) -> None:
    compared, defined, ignored = 0, 0, 0
    for number, cases in enumerate(sets_of_cases(320)):
        if not is_judged(cases):
            continue
        ours = run_ours(cases)
        assert_equal(ours, run_theirs(scripts, tmp_path / str(number), cases))
        np.testing.assert_array_equal(run_ours(cases, 3 if len(cases) > 2 else len(cases)).ap, ours.ap)
        compared += 1
        defined += int((ours.ap > 0).sum())
        ignored += int(match_regions([to_region_image(0, cases[0])], list(IDS.values())).ignored.any())
        if compared == 200:
            break
    assert compared == 200
    assert defined > 1000
    assert ignored > 50


CANVAS = np.full((40, 60), LABELS["road"], dtype=np.uint16)


def scene(**regions: tuple[int, slice, slice]) -> np.ndarray:
    ids = CANVAS.copy()
    for value, rows, columns in regions.values():
        ids[rows, columns] = value
    return ids


def mask(rows: slice, columns: slice) -> np.ndarray:
    found = np.zeros(CANVAS.shape, dtype=bool)
    found[rows, columns] = True
    return found


ROWS = slice(5, 25)
LEFT, RIGHT, TINY = slice(5, 25), slice(30, 50), slice(52, 56)
CAR_AT_LEFT = (26000, ROWS, LEFT)
ONE = scene(car=CAR_AT_LEFT)
WHOLE, HALF, OTHER, SMALL = (mask(ROWS, columns) for columns in (LEFT, slice(5, 17), RIGHT, TINY))
RIGHT_FIRST = [("car", 0.9, OTHER), ("car", 0.8, WHOLE)]
# Cases, and AP and AP50 of cars by hand. HALF overlaps WHOLE by 0.6: more than 0.5 and 0.55. Where the detection
# at the right is false, precision is 0 at recall 0 and 1/2 at recall 1; half of the way between is of each: 1/4.
BY_HAND: dict[str, tuple[Case, float, float]] = {
    "found": (Case(ONE, [("car", 0.9, WHOLE)]), 1.0, 1.0),
    "no prediction": (Case(ONE, []), 0.0, 0.0),
    "another class": (Case(ONE, [("truck", 0.9, WHOLE)]), 0.0, 0.0),
    "at two overlaps of ten": (Case(ONE, [("car", 0.9, HALF)]), 0.2, 1.0),
    "two on one region": (Case(ONE, [("car", 0.9, WHOLE), ("car", 0.8, WHOLE)]), 1.0, 1.0),
    "nothing there": (Case(ONE, RIGHT_FIRST), 0.25, 0.25),
    "group": (Case(scene(car=CAR_AT_LEFT, group=(26, ROWS, RIGHT)), RIGHT_FIRST), 1.0, 1.0),
    "group of another class": (Case(scene(car=CAR_AT_LEFT, group=(27, ROWS, RIGHT)), RIGHT_FIRST), 0.25, 0.25),
    "void": (Case(scene(car=CAR_AT_LEFT, void=(4, ROWS, RIGHT)), RIGHT_FIRST), 1.0, 1.0),
    "a group of caravans is void": (Case(scene(car=CAR_AT_LEFT, vans=(29, ROWS, RIGHT)), RIGHT_FIRST), 1.0, 1.0),
    "a caravan is not": (Case(scene(car=CAR_AT_LEFT, van=(29000, ROWS, RIGHT)), RIGHT_FIRST), 0.25, 0.25),
    # Of 400 pixels 240 are void, a share of 0.6: more than two overlaps of ten.
    "void in part": (Case(scene(car=CAR_AT_LEFT, void=(4, ROWS, slice(30, 42))), RIGHT_FIRST), 0.2 + 0.8 * 0.25, 1.0),
    "tiny": (
        Case(scene(car=CAR_AT_LEFT, tiny=(26001, ROWS, TINY)), [("car", 0.9, SMALL), ("car", 0.8, WHOLE)]), 1.0, 1.0,
    ),
    "tiny alone": (Case(scene(tiny=(26001, ROWS, TINY)), [("car", 0.9, SMALL)]), -1.0, -1.0),
    "empty mask": (Case(ONE, [("car", 0.9, WHOLE & OTHER), ("car", 0.8, WHOLE)]), 1.0, 1.0),
    "one of two": (Case(scene(car=CAR_AT_LEFT, other=(26001, ROWS, RIGHT)), [("car", 0.9, WHOLE)]), 0.5, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_figures_by_hand(name: str) -> None:
    case, ap, ap50 = BY_HAND[name]
    found = run_ours([case]).per_class()["car"]
    assert (found["AP"], found["AP50"]) == pytest.approx((ap, ap50))


def test_hand_made_cases_are_those_of_the_scripts(scripts: Any, tmp_path: Path) -> None:
    for number, (name, (case, _, _)) in enumerate(BY_HAND.items()):
        assert name
        assert_equal(run_ours([case]), run_theirs(scripts, tmp_path / str(number), [case]))
    cases = [case for case, _, _ in BY_HAND.values()]
    assert_equal(run_ours(cases), run_theirs(scripts, tmp_path / "all", cases))
    for parts in (2, 5, len(cases)):
        np.testing.assert_array_equal(run_ours(cases, parts).ap, run_ours(cases).ap)


def test_objects_whose_detections_are_all_ignored_are_not_found() -> None:
    case = Case(scene(car=(26000, ROWS, LEFT), group=(26, ROWS, RIGHT)), [("car", 0.9, OTHER)])
    assert run_ours([case]).per_class()["car"] == {"AP": 0.0, "AP50": 0.0}  # the scripts end in an IndexError


def test_precision_over_recall_by_hand() -> None:
    # Of scores 3 2 1 the first and the last are matched, of four objects: precision is 1, 1/2, 2/3 and recall 1/4, 1/4,
    # 1/2; the point at recall 0 has precision 1. A point has half of the way to each of its neighbours.
    scores, matched = np.array([1.0, 2.0, 3.0]), np.array([True, False, True])
    expected = (2 / 3 * 1 / 4 + 1 / 2 * 1 / 4 + 1 * 1 / 4 + 1 * 1 / 4) / 2
    assert average_precision(scores, matched, 4) == pytest.approx(expected)
    assert average_precision(np.zeros(0), np.zeros(0, dtype=bool), 4) == 0.0


def test_an_image_that_comes_twice_and_what_has_no_mask_are_refused() -> None:
    part = match_regions([to_region_image(3, BY_HAND["found"][0])], [1, 2, 3])
    with pytest.raises(ValueError, match="image 3 was evaluated twice"):
        merge_regions([part, part], THINGS[:3])
    bad = RegionImage(5, (4, 4), [], [{"category_id": 1, "score": 0.5, "bbox": [0, 0, 1, 1]}])
    with pytest.raises(ValueError, match="image 5: no segmentation"):
        match_regions([bad], [1])
