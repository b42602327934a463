"""Several COCO trees as one: categories joined by name, new ids, file names below one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskray.platform.data.formats.json_values import is_whole
from maskray.platform.data.formats.problem import one_line, shown


@dataclass(frozen=True)
class Part:
    """A tree, where it comes from for messages, and what its file names are to begin with and its split to be."""

    name: str
    tree: dict[str, Any]
    prefix: str = ""
    split: str | None = None


def join_trees(parts: Sequence[Part]) -> tuple[dict[str, Any], int]:
    """One tree of several, and how many annotations were in it twice.

    Categories are those of the first part in its order, then what others add, one of each name (space around it
    aside); images follow in the order of the parts. An image of two parts is one, with the objects of both; of two
    objects of it that agree in category, box and segmentation one is left. An id that names nothing becomes null.
    ValueError where a category has other keypoints in two parts, or an image other sizes.
    """
    joined: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    categories: dict[str, dict[str, Any]] = {}
    images: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    doubles = 0
    for part in parts:
        lists = {key: [entry for entry in part.tree[key] if isinstance(entry, dict)] for key in joined}
        category_ids = {
            entry["id"]: _join_category(part, entry, categories)["id"]
            for entry in lists["categories"]
            if is_whole(entry.get("id")) and isinstance(entry.get("name"), str)
        }
        image_ids = {}
        for entry in lists["images"]:
            new = _join_image(part, entry, images)
            if is_whole(entry.get("id")):
                image_ids[entry["id"]] = new["id"]
        for entry in lists["annotations"]:
            new = dict(entry)
            for key, table in (("image_id", image_ids), ("category_id", category_ids)):
                new[key] = table.get(entry[key]) if is_whole(entry.get(key)) else None
            mark = _mark(part, new)
            doubles += mark in seen
            if mark not in seen:
                joined["annotations"].append(new | {"id": len(joined["annotations"]) + 1})
            seen.add(mark)
    joined["images"], joined["categories"] = list(images.values()), list(categories.values())
    return joined, doubles


def _mark(part: Part, entry: dict[str, Any]) -> str:
    """What two annotations of one object have alike."""
    try:
        return json.dumps([entry["image_id"], entry["category_id"], entry.get("bbox"), entry.get("segmentation")])
    except RecursionError:
        raise ValueError(f"{part.name}: an annotation is nested too deeply") from None


def _join_category(part: Part, entry: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name = entry["name"].strip()
    if name not in known:
        known[name] = entry | {"id": len(known) + 1, "name": name}
    elif (known[name].get("keypoints") or []) != (entry.get("keypoints") or []):
        raise ValueError(f"{part.name}: category {shown(name)} has other keypoints than in the data before")
    return known[name]


def _join_image(part: Part, entry: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name = entry.get("file_name")
    new = entry | {"id": len(known) + 1} | ({} if part.split is None else {"split": part.split})
    if not isinstance(name, str):
        known[f"\0{len(known)}"] = new
        return new
    new["file_name"] = name = part.prefix + name
    before = known.setdefault(name, new)
    sizes = [(one.get("width"), one.get("height")) for one in (before, new)]
    if sizes[0] != sizes[1]:
        told = f"{shown(sizes[1])}, not {shown(sizes[0])}"
        raise ValueError(f"{part.name}: {one_line(name)} has another size than in the data before: {told}")
    return before
