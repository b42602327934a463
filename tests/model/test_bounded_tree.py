"""Trees by hand whose parts are referred to again."""

from __future__ import annotations

from typing import Any

import pytest

from maskray.model.bounded_tree import UnboundedTreeError, check_tree


def check(tree: Any, most_nodes: int, most_depth: int, leaves: tuple[Any, ...] = ()) -> None:
    check_tree([tree], lambda node: node if isinstance(node, list) else [], most_nodes, most_depth, leaves)


def test_parts_count_as_often_as_they_are_referred_to() -> None:
    pair: list[Any] = [1, 2]
    tree = [pair, pair]  # 1 + 3 + 3
    check(tree, 7, 3)
    with pytest.raises(UnboundedTreeError) as caught:
        check(tree, 6, 3)
    assert caught.value.args == (tree, False)
    with pytest.raises(UnboundedTreeError):
        check(tree, 7, 2)
    check(tree, 7, 2, leaves=(1, 2))


def test_what_would_be_too_long_to_walk_is_told_at_once() -> None:
    tree: list[Any] = []
    for _ in range(60):
        tree = [tree, tree]
    with pytest.raises(UnboundedTreeError):
        check(tree, 1_000_000, 100)


def test_a_node_that_contains_itself_is_told() -> None:
    inner: list[Any] = []
    tree = [[inner]]
    inner.append(tree)
    with pytest.raises(UnboundedTreeError) as caught:
        check(tree, 100, 100)
    assert caught.value.args[1] is True
