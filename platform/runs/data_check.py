"""What the annotation files of a job say before anything starts: the same reading as the run's, for its plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from maskray.model.config import LabelMap
from maskray.platform.data.formats.coco import read_file
from maskray.platform.data.formats.coco_tree import Reading, read_tree
from maskray.platform.data.formats.problem import first_of_verdicts
from maskray.platform.data.formats.reading import is_small, read_files
from maskray.platform.data.suitability import (
    DROP_REMEDY,
    ReadingRules,
    find_mask_gaps,
    mask_gap_problem,
    missing_categories,
    split_rules,
)
from maskray.platform.job.config import JobConfig
from maskray.platform.job.data_config import CocoSource, FilesSource, Source
from maskray.platform.job.plan import COUNTED_BYTES, URI, Plan, plan_job


@dataclass
class DataFindings:
    """Lines about the data of a job: what stops it, and what deserves a look.

    `images` are counts by split of the sources that were read, None where one could not be.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: dict[str, int | None] = field(default_factory=dict)


def plan_with_data(job: JobConfig, new: bool = True) -> Plan:
    """plan_job, and what the annotation files tell: problems that would stop the run, and what is worth a look.

    Files of this machine up to COUNTED_BYTES are read, images are not opened.
    """
    found = examine_data(job)
    plan = plan_job(job, new, found.images)
    return replace(plan, problems=(*plan.problems, *found.problems), warnings=(*plan.warnings, *found.warnings))


def examine_data(job: JobConfig) -> DataFindings:
    """What is wrong with the annotation files of a job, as far as they can be read in the time of a plan."""
    found = DataFindings()
    rules = split_rules(job.data, job.model.masks, job.evaluation.iou_types)
    train = _examine(job.data.train, "train", rules["train"], found)
    val = _examine(job.data.val, "val", rules["val"], found)
    if train is not None and val is not None:
        try:
            missing = missing_categories(train, val, "data.val", "data.train")
        except ValueError as error:
            found.problems.append(str(error))
        else:
            if missing:
                found.warnings.append(lacking_line(missing))
    return found


def lacking_line(missing: tuple[str, ...]) -> str:
    """That data.val lacks categories, as one line."""
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"data.val lacks {', '.join(missing[:5])}{more}: the categories of data.train are taken for both"


def _read(source: Source) -> Reading | None:
    """The annotations of a source that is small and here; ValueError where they cannot be read at all."""
    if isinstance(source, FilesSource):
        if URI.match(source.path) or not Path(source.path).exists() or not is_small(source):
            return None
        files = read_files(source)
        return read_tree(files.name, files.tree, files.images)
    if not isinstance(source, CocoSource) or URI.match(source.annotations):
        return None
    path = Path(source.annotations)
    if not path.is_file() or path.stat().st_size > COUNTED_BYTES:
        return None
    return read_file(path, source.images)


def _examine(source: Source, split: str, rules: ReadingRules, found: DataFindings) -> LabelMap | None:
    """The label map of a source that is small and here and sound; what is odd about it goes to found."""
    where = f"data.{split}"
    try:
        reading = _read(source)
        if reading is None:
            return None
        labels = reading.accept(rules.max_bad_annotations)
    except ValueError as error:
        found.problems.append(f"{where}: {error}")
        found.images[split] = None
        return None
    found.images[split] = len(reading.images)
    path = reading.name
    for verdict, codes, first in first_of_verdicts(reading.problems, "dropped", "suspect"):
        words = "would be left out" if verdict == "dropped" else "look suspicious"
        found.warnings.append(f"{where}: {path}: annotations or images that {words}: {codes}; {first}")
    if not any(not annotation.iscrowd for image in reading.images for annotation in image.annotations):
        found.problems.append(f"{where}: {path}: no object is left to {'train on' if split == 'train' else 'evaluate'}")
    what_then = {"error": DROP_REMEDY, "drop": "they are left out", "boxes_only": "they train boxes alone"}
    gaps = find_mask_gaps(reading.images)
    gap = mask_gap_problem(gaps, rules.masks, reading.num_annotations, what_then[rules.without_masks])
    if gap is not None:
        listed = found.problems if rules.without_masks == "error" else found.warnings
        listed.append(f"{where}: {path}: {gap}")
    return labels
