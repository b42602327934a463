"""Reading the description of a model, model.json, which may come from anybody: within bounds of time and memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maskray.model.config import MOST_CATEGORIES, ModelSpec
from maskray.platform.job.config import first_mistake

MOST_BYTES = 20_000_000  # a hundred thousand classes with names of 100 letters
# Of lists, objects and what is in them. Every wrong one costs two kilobytes until the first is told.
MOST_VALUES = 10_000
MOST_OF_CATEGORY = 50_000


def check_length(path: Path, num_bytes: int) -> None:
    """Raise ValueError where a text at `path` is far longer than any description."""
    if num_bytes > MOST_BYTES:
        raise ValueError(f"{path}: {num_bytes} bytes are too many for the description of a model")


def parse_spec(path: Path, text: bytes) -> ModelSpec:
    """The description in a text of at most MOST_BYTES; ValueError of one line, which names `path`, where it is none."""
    failure = f"{path}: not a model description"
    check_length(path, len(text))
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{failure}: {error}") from None
    if _is_large(tree):
        raise ValueError(f"{failure}: it has far more values than any")
    try:
        return ModelSpec.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{failure}: {first_mistake(error)}") from None


def _is_large(tree: Any) -> bool:
    """Whether more is said of the model, or of one of its categories, than can be meant."""
    if not isinstance(tree, dict):
        return _has_more(tree, MOST_VALUES)
    labels = tree.get("labels")
    if not isinstance(labels, dict) or not isinstance(categories := labels.get("categories"), list):
        return _has_more(tree, MOST_VALUES)
    if len(categories) > MOST_CATEGORIES:
        return True
    others = [value for key, value in tree.items() if key != "labels"]
    others += [value for key, value in labels.items() if key != "categories"]
    return _has_more(others, MOST_VALUES) or any(_has_more(category, MOST_OF_CATEGORY) for category in categories)


def _has_more(tree: Any, most: int) -> bool:
    todo, count = [tree], 0
    while todo:
        part = todo.pop()
        count += 1
        if isinstance(part, dict | list):
            if count + len(todo) + len(part) > most:
                return True
            todo += part.values() if isinstance(part, dict) else part
    return count > most
