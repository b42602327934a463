"""Average precision by category as text: for spreadsheets, for documents, and as rows for the report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from maskray.model.config import LabelMap
from maskray.platform.evaluation.coco_ap import CocoMetrics
from maskray.platform.job.plain_text import csv_cell, shown_name


def per_class_rows(metrics: Sequence[CocoMetrics], labels: LabelMap) -> list[dict[str, Any]]:
    """One row per category, in class order: id, name, objects (crowds not counted) and the metrics of every IoU type.

    Metrics are fractions by name (bbox/AP, segm/AP50, ...), nan where a category has no ground truth.
    """
    by_type = {one.iou_type: one.per_category() for one in metrics}
    rows = []
    for category in labels.categories:
        row: dict[str, Any] = {"category_id": category.id, "name": category.name, "objects": 0}
        for one in metrics:
            row["objects"] = max(row["objects"], int(one.gt_counts[one.category_ids.index(category.id), 0]))
            row |= {f"{one.iou_type}/{name}": value for name, value in by_type[one.iou_type][category.id].items()}
        rows.append(row)
    return rows


def per_class_csv(metrics: Sequence[CocoMetrics], labels: LabelMap) -> str:
    """The rows as CSV with a header; a metric that is undefined is an empty field, a name is as csv_cell has it."""
    rows = per_class_rows(metrics, labels)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_value(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def per_class_markdown(metrics: Sequence[CocoMetrics], labels: LabelMap) -> str:
    """The rows as a Markdown table in percent; a metric that is undefined is a dash."""
    rows = per_class_rows(metrics, labels)
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join(" --- " if n == "name" else " ---: " for n in names) + "|"]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{100 * value:.1f}"
    return shown_name(str(value)).replace("|", "\\|")


def _csv_value(value: Any) -> Any:
    if isinstance(value, str):
        return csv_cell(value)
    return "" if isinstance(value, float) and math.isnan(value) else value
