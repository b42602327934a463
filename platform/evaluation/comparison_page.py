"""The page of a comparison: one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskray.model.config import LabelMap
from maskray.platform.evaluation.charts import TITLES
from maskray.platform.evaluation.comparison import BY_CLASS, Change, ModelComparison
from maskray.platform.evaluation.definitions import MEANING
from maskray.platform.evaluation.diagnostics import SHOWN_SCORE
from maskray.platform.evaluation.pages import data_uri, drawing_scale, page_environment
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.job.plain_text import shown_name

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class ChangedPicture:
    """An image three times as a part of the page: its objects, what the first found, what the second found."""

    image_id: int
    file_name: str
    first: float
    second: float
    drawn: tuple[str, str, str]


def draw_changed(
    image: NDArray[np.uint8], truth: Sequence[Entry], found: Sequence[Sequence[Entry]], labels: LabelMap
) -> tuple[str, str, str]:
    """The objects of an image and what each of two models found in it, from SHOWN_SCORE on."""
    scale = drawing_scale(image)
    objects = draw_detections(image, truth, labels, scale=scale)
    first, second = (draw_detections(image, one, labels, SHOWN_SCORE, scale) for one in found)
    return data_uri(objects), data_uri(first), data_uri(second)


def render_comparison(
    names: tuple[str, str],
    comparisons: Sequence[ModelComparison],
    categories: Mapping[int, str],
    pictures: Sequence[ChangedPicture] = (),
) -> str:
    """The page; names of the two models, and of categories by id as far as they are known."""
    environment = page_environment()
    environment.filters |= {"percent": _percent, "signed": _signed}
    return environment.get_template("comparison.html.jinja").render(
        names=[shown_name(name) for name in names],
        parts=[_part(one, categories) for one in comparisons],
        pictures=pictures,
        shown_score=SHOWN_SCORE,
    )


def _part(one: ModelComparison, categories: Mapping[int, str]) -> dict[str, Any]:
    by_class = [name for name in BY_CLASS if name in one.metrics]
    rows = [
        {"name": shown_name(categories.get(category, str(category))), "changes": [changes[name] for name in by_class]}
        for category, changes in one.categories.items()
        if not math.isnan(changes["AP"].difference)
    ]
    return {
        "title": TITLES[one.iou_type],
        "num_images": one.num_images,
        "metrics": [(name, MEANING[name], change) for name, change in one.metrics.items()],
        "by_class": by_class,
        "rows": sorted(rows, key=lambda row: row["changes"][0].difference),
        "images": one.images,
        "verdict": _verdict(one.metrics["AP"]),
    }


def _verdict(change: Change) -> str:
    if math.isnan(change.difference):
        return "AP is not defined for both."
    if not change.is_sure:
        return "No difference in AP that chance in the choice of images could not make."
    return (
        f"The second is {'better' if change.difference > 0 else 'worse'} in AP, beyond chance in the choice of images."
    )


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.1f}"
