"""Joining trees: categories by name, ids anew, images that two parts share, and ids that name nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maskray.platform.data.formats.joining import Part, join_trees


def tree(categories: dict[int, str], images: dict[int, str], *objects: tuple[int, int, list[float]]) -> dict[str, Any]:
    return {
        "categories": [{"id": key, "name": name} for key, name in categories.items()],
        "images": [{"id": key, "file_name": name, "width": 9, "height": 9} for key, name in images.items()],
        "annotations": [
            {"id": 5 + i, "image_id": image, "category_id": category, "bbox": bbox}
            for i, (image, category, bbox) in enumerate(objects)
        ],
    }


def test_categories_are_joined_by_name_and_images_by_path() -> None:
    first = tree({7: "cat", 3: "dog"}, {1: "a.png", 9: "b.png"}, (9, 3, [1, 1, 2, 2]), (1, 7, [0, 0, 1, 1]))
    second = tree({3: " cat", 7: "cow"}, {9: "a.png", 1: "c.png"}, (9, 3, [0, 0, 1, 1]), (9, 7, [0, 0, 1, 1]), (1, 3, [2, 2, 3, 3]))  # noqa: E501  # fmt: skip
    joined, doubles = join_trees([Part("first", first), Part("second", second)])
    assert [(entry["id"], entry["name"]) for entry in joined["categories"]] == [(1, "cat"), (2, "dog"), (3, "cow")]
    assert [(entry["id"], entry["file_name"]) for entry in joined["images"]] == [
        (1, "a.png"),
        (2, "b.png"),
        (3, "c.png"),
    ]
    assert [(e["id"], e["image_id"], e["category_id"]) for e in joined["annotations"]] == [
        (1, 2, 2), (2, 1, 1), (3, 1, 3), (4, 3, 1),
    ]  # fmt: skip
    assert doubles == 1
    apart, doubles = join_trees([Part("first", first, "x/", "train"), Part("second", second, "y/")])
    assert [entry["file_name"] for entry in apart["images"]] == ["x/a.png", "x/b.png", "y/a.png", "y/c.png"]
    assert [entry.get("split") for entry in apart["images"]] == ["train", "train", None, None]
    assert (len(apart["annotations"]), doubles) == (5, 0)
    assert first["images"][0]["file_name"] == "a.png"  # what was given is as it was


def test_what_cannot_be_joined_is_one_line() -> None:
    first, second = tree({1: "person"}, {1: "a.png"}), tree({1: "person"}, {1: "a.png"})
    second["images"][0]["width"] = 10
    with pytest.raises(ValueError, match=r"^second: a\.png has another size .*: \(10, 9\), not \(9, 9\)"):
        join_trees([Part("first", first), Part("second", second)])
    second["categories"][0]["keypoints"] = ["nose"]
    with pytest.raises(ValueError, match=r"^second: category 'person' has other keypoints"):
        join_trees([Part("first", first), Part("second", second)])


def test_an_id_that_names_nothing_names_nothing_afterwards() -> None:
    joined, _ = join_trees([Part("a", tree({5: "cat"}, {5: "a.png"}, (1, 5, [0, 0, 1, 1]), (5, 1, [0, 0, 1, 1])))])
    assert [(e["image_id"], e["category_id"]) for e in joined["annotations"]] == [(None, 1), (1, None)]


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from(["id", "name", "file_name", "image_id", "category_id", "width", "bbox"]), VALUES),
    max_size=4,
)


def two_sizes_of(name: str) -> dict[str, Any]:
    """A tree in which a file is twice."""
    return tree({}, {}) | {"images": [{"file_name": name, "width": width, "height": 9} for width in (9, [9] * 999)]}


@given(st.fixed_dictionaries({"images": ENTRIES, "annotations": ENTRIES, "categories": ENTRIES}))
@example(two_sizes_of("a\nb.png"))
def test_no_entry_ends_otherwise_than_in_a_line(in_a_line: Callable[[], Any], content: dict[str, Any]) -> None:
    with in_a_line():
        joined, _ = join_trees([Part("a", content)])
        assert [entry["id"] for entry in joined["annotations"]] == list(range(1, len(joined["annotations"]) + 1))
