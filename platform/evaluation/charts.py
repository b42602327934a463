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

INK = "#808890"  # of axes and text: legible on white and on black
COLORS = ("#2f81f7", "#e8590c", "#2f9e44", "#ae3ec9", "#e03131", "#0c8599", "#b08900", "#868e96")
# Text stays text (the page's own font), and ids do not change from one drawing to the next.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "maskray", "font.size": 10}
TITLES = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}


def precision_recall_chart(metrics: Sequence[CocoMetrics]) -> str:
    """Precision over recall, mean of the categories with ground truth, at overlap 0.5, 0.75 and over 0.5:0.95."""
    canvas = Figure(figsize=(4.6 * len(metrics), 3.6), layout="constrained")
    for axes, one in zip(np.atleast_1d(canvas.subplots(1, len(metrics), squeeze=False)[0]), metrics):
        precision = one.precision[:, :, :, 0, -1]  # (T, R, K)
        defined = precision[:, :, (precision > -1).all(axis=(0, 1))]
        dress_axes(axes, TITLES[one.iou_type], "recall", "precision")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        if defined.shape[2] == 0:
            axes.text(0.5, 0.5, "no ground truth", color=INK, ha="center")
            continue
        overlap = "OKS" if one.iou_type == "keypoints" else "IoU"
        curves = {"0.50": defined[0], "0.75": defined[5], "0.50:0.95": defined.mean(axis=0)}
        for color, (label, curve) in zip(COLORS, curves.items()):
            axes.plot(RECALL_LEVELS, curve.mean(axis=1), color=color, label=f"{overlap} {label}", linewidth=2)
        axes.legend(frameon=False, labelcolor=INK, loc="upper right")
    return to_svg(canvas)


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
