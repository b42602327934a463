"""Charts of an evaluation as images, for pages that show no HTML: confusion, and curves over scores."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maskray.platform.evaluation.charts import TITLES, draw_calibration, draw_precision_recall, draw_scores
from maskray.platform.evaluation.coco_ap import CocoMetrics
from maskray.platform.evaluation.diagnostics import Diagnostics
from maskray.platform.evaluation.report_tables import BACKGROUND
from maskray.platform.files.storage import write_whole

MOST_NAMED = 40  # classes whose names stand at a matrix


def write_charts(
    folder: Path, metrics: Sequence[CocoMetrics], diagnostics: Sequence[Diagnostics], names: Sequence[str]
) -> None:
    """Write curves_TYPE.png and, of boxes and masks, confusion_TYPE.png of every IoU type, each whole or not at all.

    names are those of the categories by ascending id.
    """
    for one, found in zip(metrics, diagnostics, strict=True):
        canvas = Figure(figsize=(13.5, 4), layout="constrained")
        left, middle, right = canvas.subplots(1, 3)
        draw_precision_recall(left, one)
        draw_scores(middle, found)
        draw_calibration(right, found)
        write_whole(folder / f"curves_{one.iou_type}.png", _to_png(canvas))
        if found.confusion is not None:
            write_whole(folder / f"confusion_{one.iou_type}.png", _to_png(_confusion(found, names)))


def _confusion(found: Diagnostics, names: Sequence[str]) -> Figure:
    """Shares of each row, the objects of a class."""
    assert found.confusion is not None
    size = min(4 + 0.22 * len(found.confusion), 14)
    canvas = Figure(figsize=(size + 1, size), layout="constrained")
    axes = canvas.subplots()
    shares = found.confusion / np.maximum(found.confusion.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    canvas.colorbar(drawn, ax=axes, label="share of the row")
    axes.set(title=f"{TITLES[found.iou_type]}: confusion", xlabel="detection", ylabel="object")
    if len(names) <= MOST_NAMED:
        labels = [*names, BACKGROUND]
        axes.set_xticks(range(len(labels)), [_plain(name) for name in labels], rotation=90, fontsize=8)
        axes.set_yticks(range(len(labels)), [_plain(name) for name in labels], fontsize=8)
    return canvas


def _plain(name: str) -> str:
    """A name in which matplotlib sees no formula."""
    return name.replace("$", r"\$")[:30]


def _to_png(canvas: Figure) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(stream)
    return stream.getvalue()
