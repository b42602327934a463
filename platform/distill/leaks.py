"""Pictures of data.val among the unlabelled ones: a student must not learn, from whatever labels, what it is asked."""

from __future__ import annotations

from maskray.platform.data.same_pictures import find_same, list_names, pictures_known_early
from maskray.platform.job.distill_config import DistillConfig

NOT_COMPARED = "distill.unlabelled is compared with data.val when the run begins"


class NotComparedError(ValueError):
    """The images are not here, or too many to be compared in a moment."""


def check_leaks(job: DistillConfig, most_bytes: int | None = None) -> None:
    """Raise ValueError listing the unlabelled images that are in data.val too, by find_same.

    NotComparedError where most_bytes of annotations or shards are exceeded, or a source is not on this machine.
    """
    unlabelled = pictures_known_early(job.distill.unlabelled, most_bytes)
    val = pictures_known_early(job.data.val, most_bytes)
    if unlabelled is None or val is None:
        raise NotComparedError(NOT_COMPARED)
    by_name = job.distill.same_names == "refuse"
    same = [unlabelled[index].name for index in find_same(unlabelled, val, by_name)]
    if same:
        way_out = "; where names alone are the same, distill.same_names: allow" if by_name else ""
        raise ValueError(
            f"distill.unlabelled: {len(same)} images are in data.val too, by their bytes"
            f"{' or file names' if by_name else ''}: {list_names(same)}; leave them out{way_out}"
        )
