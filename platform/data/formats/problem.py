"""What can be odd or wrong in a data set: a code of each, what follows from it, and where it was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

# "as": who reads data finds here how what stands in them is told.
from maskray.platform.job.plain_text import LONGEST_MESSAGE as LONGEST_MESSAGE
from maskray.platform.job.plain_text import one_line as one_line
from maskray.platform.job.plain_text import shown as shown

Verdict = Literal["read", "suspect", "dropped", "refused"]

# read: taken as what it plainly means. suspect: taken as it stands, though it is likely a mistake. dropped: one object
# is left out, within a budget. refused: nothing is read. Every reader of data goes by this table.
VERDICTS: dict[str, Verdict] = {
    "id_as_float": "read",  # 1.0 for 1, as pandas writes whole numbers
    "id_as_text": "read",  # "1" for 1
    "size_as_float": "read",
    "name_as_number": "read",
    "skeleton_from_zero": "read",
    "absolute_file_name": "read",  # that lies in the folder of images
    "backslash_file_name": "read",
    "iscrowd_read": "read",  # true, "0", null
    "no_segmentation": "read",  # a box without a mask
    "flat_polygon": "read",  # [x, y, ...] for [[x, y, ...]]
    "short_polygon": "read",  # a point or a line beside polygons
    "duplicate_polygon": "read",
    "rle_as_float": "read",
    "bbox_computed": "read",
    "area_computed": "read",
    "keypoints_counted": "read",
    "same_category_name": "suspect",
    "same_file": "suspect",
    "box_outside_image": "suspect",
    # Nothing to train on, but evaluation counts such objects as missed, as pycocotools does.
    "zero_area": "suspect",
    "outside_image": "suspect",
    "small_coordinates": "suspect",
    "box_segmentation_mismatch": "suspect",
    "area_mismatch": "suspect",
    "keypoints_count": "suspect",
    "bad_entry": "dropped",
    "missing_id": "dropped",
    "bad_iscrowd": "dropped",
    "bad_bbox": "dropped",
    "bad_segmentation": "dropped",
    "rle_mismatch": "dropped",
    "keypoints_length": "dropped",
    "no_mask": "dropped",  # where masks are wanted, and those who ask said that such objects be left out
    "not_coco": "refused",
    "missing_key": "refused",
    "bad_category": "refused",
    "huge_id": "refused",
    "bad_ignore_region": "refused",
    "no_categories": "refused",
    "no_images": "refused",
    "outside_folder": "refused",
    "duplicate_category_id": "refused",
    "duplicate_image_id": "refused",
    "duplicate_annotation_id": "refused",
    "dangling_category_id": "refused",
    "dangling_image_id": "refused",
    "normalized_coordinates": "refused",
    "missing_file": "refused",
    "unreadable_image": "refused",
    "size_mismatch": "refused",
}
VERDICT_WORDS: dict[Verdict, str] = {
    "refused": "refused",
    "dropped": "left out",
    "suspect": "read, but look suspicious",
    "read": "read as meant",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One oddity: its code, one line that says what it is, and the image and annotation id where it has them."""

    code: str
    message: str
    image_id: int | None = None
    annotation_id: int | None = None

    @property
    def verdict(self) -> Verdict:
        """What follows from it."""
        return VERDICTS[self.code]

    @property
    def line(self) -> str:
        """Where it is, and what."""
        where = [f"{name} {value}" for name, value in (("image", self.image_id), ("annotation", self.annotation_id))]
        known = [part for part in where if not part.endswith(" None")]
        return one_line(f"{', '.join(known)}{': ' if known else ''}{self.message}")

    def __str__(self) -> str:
        return f"{self.code}: {self.line}"


def count_codes(problems: Iterable[Problem]) -> dict[str, int]:
    """How many problems there are of each code, in the order of the table of verdicts."""
    counts = Counter(problem.code for problem in problems)
    return {code: counts[code] for code in VERDICTS if code in counts}


def describe_counts(counts: dict[str, int], verdict: Verdict) -> str:
    """Codes of a verdict with their numbers, as text: `3 id_as_float, 1 flat_polygon`; empty where there are none."""
    return ", ".join(f"{number} {code}" for code, number in counts.items() if VERDICTS.get(code) == verdict)


def verdict_lines(counts: dict[str, int], *verdicts: Verdict) -> list[str]:
    """Of each of the verdicts that there is any of, in words, its codes with their numbers."""
    told = ((verdict, describe_counts(counts, verdict)) for verdict in verdicts)
    return [f"{VERDICT_WORDS[verdict]}: {codes}" for verdict, codes in told if codes]


def first_of_verdicts(problems: Sequence[Problem], *verdicts: Verdict) -> Iterator[tuple[Verdict, str, str]]:
    """Each of the verdicts that there is any of: its codes with their numbers, and the line of the first problem.

    That an object has no segmentation is no oddity here: who wants masks asks for it.
    """
    asked = [problem for problem in problems if problem.code != "no_segmentation"]
    counts = count_codes(asked)
    for verdict in verdicts:
        first = next((problem for problem in asked if problem.verdict == verdict), None)
        if first is not None:
            yield verdict, describe_counts(counts, verdict), first.line


def allowed_annotations(most: float, num_annotations: int) -> int:
    """How many of a file's annotations may be left out: below 1 `most` is a share of them, one in any case.

    0 allows none; from 1 on it is a number of annotations.
    """
    if most <= 0:
        return 0
    return max(1, math.floor(most * num_annotations)) if most < 1 else int(most)


def refusal(name: str, problems: Sequence[Problem], num_annotations: int, most: float) -> str | None:
    """Why a file cannot be read, as one line that names it, image and annotation; None where it can be.

    Refused is what has a problem of that verdict, or more dropped annotations than allowed_annotations of `most`.
    """
    refused = [problem for problem in problems if problem.verdict == "refused"]
    if refused:
        more = f" (and {len(refused) - 1} more mistakes of this weight)" if len(refused) > 1 else ""
        return f"{one_line(name)}: {refused[0].line}{more}"
    dropped = [problem for problem in problems if problem.verdict == "dropped"]
    allowed = allowed_annotations(most, num_annotations)
    if len(dropped) > allowed:
        listed = "; ".join(problem.line for problem in dropped[:3])
        return (
            f"{one_line(name)}: {len(dropped)} of {num_annotations} annotations cannot be read, {allowed} may be left "
            f"out (data.max_bad_annotations): {listed}"
        )
    return None
