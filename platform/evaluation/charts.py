"""Charts of the report as inline SVG that reads on a light and on a dark page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from maskray.platform.evaluation.coco_ap import RECALL_LEVELS, CocoMetrics
from maskray.platform.evaluation.diagnostics import Diagnostics

INK = "#808890"  # of axes and text: legible on white and on black
COLORS = ("#2f81f7", "#e8590c", "#2f9e44", "#ae3ec9", "#e03131", "#0c8599", "#b08900", "#868e96")
# Text stays text (the page's own font), and ids do not change from one drawing to the next.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "maskray", "font.size": 10}
MOST_POINTS = 400  # of a curve
TITLES = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}


def precision_recall_chart(metrics: Sequence[CocoMetrics]) -> str:
    """Precision over recall, mean of the categories with ground truth, at overlap 0.5, 0.75 and over 0.5:0.95."""
    canvas = Figure(figsize=(4.6 * len(metrics), 3.6), layout="constrained")
    for axes, one in zip(np.atleast_1d(canvas.subplots(1, len(metrics), squeeze=False)[0]), metrics):
        draw_precision_recall(axes, one)
    return to_svg(canvas)


def draw_precision_recall(axes: Any, one: CocoMetrics) -> None:
    """Precision over recall of one IoU type."""
    precision = one.precision[:, :, :, 0, -1]  # (T, R, K)
    defined = precision[:, :, (precision > -1).all(axis=(0, 1))]
    dress_axes(axes, TITLES[one.iou_type], "recall", "precision")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if defined.shape[2] == 0:
        axes.text(0.5, 0.5, "no ground truth", color=INK, ha="center")
        return
    overlap = "OKS" if one.iou_type == "keypoints" else "IoU"
    curves = {"0.50": defined[0], "0.75": defined[5], "0.50:0.95": defined.mean(axis=0)}
    for color, (label, curve) in zip(COLORS, curves.items()):
        axes.plot(RECALL_LEVELS, curve.mean(axis=1), color=color, label=f"{overlap} {label}", linewidth=2)
    axes.legend(frameon=False, labelcolor=INK, loc="upper right")


def score_chart(diagnostics: Sequence[Diagnostics]) -> str:
    """Precision, recall and F1 of all detections over the least score, and beside them how scores are calibrated."""
    canvas = Figure(figsize=(9.2, 3.4 * len(diagnostics)), layout="constrained")
    for (left, right), one in zip(canvas.subplots(len(diagnostics), 2, squeeze=False), diagnostics):
        draw_scores(left, one)
        draw_calibration(right, one)
    return to_svg(canvas)


def draw_scores(axes: Any, one: Diagnostics) -> None:
    """Precision, recall and F1 over the least score, and the score where F1 is largest."""
    dress_axes(axes, f"{TITLES[one.iou_type]}: at least this score", "score", "")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    curve, best = one.whole, one.whole.best()
    shown = np.unique(np.linspace(0, max(len(curve.scores) - 1, 0), MOST_POINTS).astype(int))
    shown = shown[: len(curve.scores)]
    for color, (name, values) in zip(
        COLORS, (("precision", curve.precision), ("recall", curve.recall), ("F1", curve.f1))
    ):
        axes.plot(curve.scores[shown], values[shown], color=color, label=name, linewidth=2)
    if best is not None:
        axes.axvline(
            best[0], color=INK, linewidth=1, linestyle=":", label=f"best F1 {100 * best[1]:.1f} at {best[0]:.2f}"
        )
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)


def draw_calibration(axes: Any, one: Diagnostics) -> None:
    """The share of detections that is right over their score, beside what a calibrated model would have."""
    found = one.calibration
    dress_axes(
        axes, f"{TITLES[one.iou_type]}: calibration, ECE {100 * found.error:.1f} %", "score", "share that is right"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    filled = found.counts > 0
    axes.plot(found.confidence[filled], found.accuracy[filled], color=COLORS[0], linewidth=2, marker="o", markersize=4)


def score_text(diagnostics: Sequence[Diagnostics]) -> str:
    """The same in words."""
    parts = []
    for one in diagnostics:
        best = one.whole.best()
        said = (
            "no detections"
            if best is None
            else f"F1 is largest, {100 * best[1]:.1f} %, from a score of {best[0]:.2f} on"
        )
        parts.append(f"{TITLES[one.iou_type]}: {said}; calibration error {100 * one.calibration.error:.1f} %")
    return ". ".join(parts)


def history_chart(history: Sequence[Mapping[str, Any]], width: float = 9.2) -> str:
    """Training losses over steps, and beside them what validation measured on the way; empty where there is neither.

    Records have step and loss, loss_... or names with a slash such as val/segm/AP; what is None or absent is skipped.
    """
    losses = _curves(history, lambda name: name == "loss" or name.startswith("loss_"))
    validation = _curves(history, lambda name: name.endswith(("/AP", "/AP50")))
    panels = [(title, curves) for title, curves in (("Loss", losses), ("Validation", validation)) if curves]
    if not panels:
        return ""
    canvas = Figure(figsize=(width, 3.6), layout="constrained")
    for axes, (title, curves) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels):
        dress_axes(axes, title, "step", "")
        few = title == "Validation"
        for index, (name, points) in enumerate(curves.items()):
            axes.plot(
                *zip(*points),
                color=COLORS[index % len(COLORS)],
                label=name,
                linewidth=2 if few or name == "loss" else 1.2,
                marker="o" if few else None,
                markersize=4,
            )
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return to_svg(canvas)


def _curves(history: Sequence[Mapping[str, Any]], wanted: Any) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in history:
        for name, value in record.items():
            if wanted(name) and isinstance(value, int | float) and np.isfinite(value):
                curves.setdefault(name, []).append((record["step"], value))
    return dict(sorted(curves.items()))


def dress_axes(axes: Any, title: str, x: str, y: str) -> None:
    """Titles, grid and spines in the ink that reads on any page."""
    axes.set_title(title, color=INK)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK)
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def to_svg(canvas: Figure) -> str:
    """The drawing as an <svg> element of flexible width, without date and XML header."""
    canvas.patch.set_alpha(0)
    stream = io.StringIO()
    with rc_context(STYLE):
        FigureCanvasSVG(canvas).print_svg(stream, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", head) + ">" + rest
