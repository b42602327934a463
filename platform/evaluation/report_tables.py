"""The tables of a report as rows that its template shows: metrics, errors, slices, confusion, categories.

Letters: K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from maskray.model.config import LabelMap
from maskray.platform.evaluation.charts import TITLES
from maskray.platform.evaluation.cityscapes_ap import PREFIX, CityscapesMetrics
from maskray.platform.evaluation.coco_ap import CocoMetrics
from maskray.platform.evaluation.definitions import MEANING
from maskray.platform.evaluation.diagnostics import Diagnostics
from maskray.platform.evaluation.paper import PaperRow
from maskray.platform.evaluation.rules import metric_names
from maskray.platform.evaluation.tables import per_class_rows
from maskray.platform.job.plain_text import shown_name

MOST_CONFUSED = 60
LARGEST_MATRIX = 100  # classes; a larger one nobody reads
BACKGROUND = "background"


def metric_rows(
    metrics: Sequence[CocoMetrics], paper: PaperRow | None, diagnostics: Sequence[Diagnostics] = ()
) -> list[dict[str, Any]]:
    """The metrics, one a row: name, meaning, and of every IoU type measured and published value and interval."""
    intervals = {f"{one.iou_type}/{name}": ends for one in diagnostics for name, ends in one.intervals.items()}
    rows = []
    for name in dict.fromkeys(name for one in metrics for name in metric_names(one.iou_type)):
        keys = [f"{one.iou_type}/{name}" for one in metrics]
        cells = [
            {
                "measured": one.metrics.get(key),
                "published": None if paper is None else paper.metrics.get(key),
                "interval": intervals.get(key),
            }
            for one, key in zip(metrics, keys)
        ]
        rows.append({"name": name, "meaning": MEANING[name], "cells": cells})
    return rows


def diagnostic_parts(
    diagnostics: Sequence[Diagnostics], names: Sequence[str], index: Sequence[int]
) -> list[dict[str, Any]]:
    """Of every IoU type its errors, slices and confusions.

    names are those of the categories by ascending id, index what the page's filter calls each.
    """
    return [
        {
            "iou_type": one.iou_type,
            "title": TITLES[one.iou_type],
            "errors": _error_rows(one),
            "base": None if one.errors is None else one.errors.average_precision,
            "slices": [vars(row) for row in one.slices],
            "confused": _confused_rows(one, names, index),
            "matrix": _matrix(one),
        }
        for one in diagnostics
    ]


def _error_rows(one: Diagnostics) -> list[dict[str, Any]]:
    if one.errors is None:
        return []
    most = max(*one.errors.costs.values(), 1e-9)
    return [
        {"name": name, "cost": cost, "count": int(one.errors.counts[name].sum()), "share": 100 * cost / most}
        for name, cost in sorted(one.errors.costs.items(), key=lambda item: -item[1])
    ]


def _confused_rows(one: Diagnostics, names: Sequence[str], index: Sequence[int]) -> list[dict[str, Any]]:
    """Pairs of different classes, the most frequent first."""
    if one.confusion is None:
        return []
    matrix = one.confusion.copy()
    np.fill_diagonal(matrix, 0)
    named, totals = [*names, BACKGROUND], one.confusion.sum(axis=1)
    order = np.argsort(-matrix, axis=None, kind="stable")[:MOST_CONFUSED]
    rows = []
    for at in order.tolist():
        row, column = divmod(at, len(matrix))
        count = int(matrix[row, column])
        if count:
            known = row < len(names)
            classes = " ".join(str(index[k]) for k in (row, column) if k < len(names))
            share = count / totals[row] if known else None
            rows.append(
                {"object": named[row], "found": named[column], "count": count, "share": share, "classes": classes}
            )
    return rows


def _matrix(one: Diagnostics) -> list[list[tuple[int, float]]]:
    """Counts with their share of the row, up to as many classes as can be read."""
    if one.confusion is None or len(one.confusion) > LARGEST_MATRIX + 1:
        return []
    shares = one.confusion / np.maximum(one.confusion.sum(axis=1, keepdims=True), 1)
    return [list(zip(counts, share, strict=True)) for counts, share in zip(one.confusion.tolist(), shares.tolist())]


def category_rows(
    metrics: Sequence[CocoMetrics], diagnostics: Sequence[Diagnostics], labels: LabelMap
) -> list[dict[str, Any]]:
    """per_class_rows with the best score, its F1 and the calibration error of every IoU type, None where undefined."""
    rows = per_class_rows(metrics, labels)
    for row in rows:
        row["best"] = {}
        for one in diagnostics:
            k = one.category_ids.index(row["category_id"])
            best, error = one.curves[k].best(), one.class_errors[k]
            row["best"][one.iou_type] = {
                "score": None if best is None else best[0],
                "f1": None if best is None else best[1],
                "error": None if math.isnan(error) else error,
            }
    return rows


def official_rows(metrics: CityscapesMetrics, paper: PaperRow | None) -> list[tuple[str, list[float | None]]]:
    """Rows of AP, AP50 and published AP: the mean of the classes, then every class by name."""
    known = {} if paper is None else paper.metrics
    rows = {"": "mean"} | {f"/{name}": shown_name(name) for name in metrics.names}
    found = metrics.metrics
    columns = [f"{PREFIX}/AP", f"{PREFIX}/AP50"]
    return [
        (name, [*(found[column + ending] for column in columns), known.get(columns[0] + ending)])
        for ending, name in rows.items()
    ]
