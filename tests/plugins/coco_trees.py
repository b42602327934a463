"""COCO trees for tests: a sound one, and any that is made of it by changing a few places."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st


def make_tree() -> dict[str, Any]:
    """Two images of 40x30, three objects: a polygon, an RLE of a crowd, a box with keypoints."""
    return {
        "images": [
            {"id": 5, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 2, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": ["nose", "chin"], "skeleton": [[1, 2]]},
            {"id": 3, "name": "cup"},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 3, "bbox": [2, 3, 10, 12], "area": 120, "iscrowd": 0,
             "segmentation": [[2, 3, 12, 3, 12, 15, 2, 15]]},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 30], "area": 30, "iscrowd": 1,
             "segmentation": {"size": [30, 40], "counts": [0, 30, 1170]}},
            {"id": 3, "image_id": 2, "category_id": 1, "bbox": [20, 5, 8, 9], "area": 72, "iscrowd": 0,
             "segmentation": [[20, 5, 28, 5, 24, 14], [21, 6, 22, 6, 22, 7]], "keypoints": [22, 7, 2, 0, 0, 0],
             "num_keypoints": 1},
        ],
    }  # fmt: skip


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-3, 60) | st.floats() | st.floats(0, 1)
    | st.text(max_size=4)
    | st.sampled_from(["1", "5", "\ud800", "/etc/x", "..", 2**63, -(2**63), 1e308, 5.0, 2**31]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner),
    max_leaves=6,
)  # fmt: skip


def places_by_kind(tree: Any) -> list[list[tuple[Any, ...]]]:
    """The places in a tree, grouped by keys: a number of many polygons is drawn as often as the only skeleton.

    Deeper ones stand there more often: what replaces a whole list leaves nothing to read.
    """
    kinds: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for path in paths_of(tree):
        kinds.setdefault(tuple(key if isinstance(key, str) else "*" for key in path), []).append(path)
    return [places for kind, places in kinds.items() for _ in range(len(kind) ** 2)]


def paths_of(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a tree of JSON, the top aside."""
    keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [place for key in keys for place in ((*path, key), *paths_of(node[key], (*path, key)))]


@st.composite
def mutated_trees(draw: st.DrawFn) -> Any:
    """The sound tree with one to four nodes replaced by anything, taken away or doubled."""
    tree: Any = make_tree()
    for _ in range(draw(st.integers(1, 4))):
        kinds = places_by_kind(tree)
        if not kinds:
            break
        *path, last = draw(st.sampled_from(draw(st.sampled_from(kinds))))
        node = tree
        for key in path:
            node = node[key]
        action = draw(st.sampled_from(["replace", "replace", "delete", "double"]))
        if action == "replace":
            node[last] = draw(VALUES)
        elif action == "delete":
            del node[last]
        elif isinstance(node, list):
            node.insert(last, copy.deepcopy(node[last]))
    return tree
