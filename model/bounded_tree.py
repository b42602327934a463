"""How much a tree from elsewhere stands for, where parts are referred to again: counted without walking them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Node = TypeVar("Node")


class UnboundedTreeError(ValueError):
    """A node is too large a tree, or contains itself; `args` are the node and whether it contains itself."""


def check_tree(
    roots: Iterable[Node],
    parts_of: Callable[[Node], Sequence[Node]],
    most_nodes: int,
    most_depth: int,
    leaves: Iterable[Node] = (),
) -> None:
    """Raise UnboundedTreeError for the first node of more than most_nodes, deeper than most_depth, or part of itself.

    A node that is referred to again is counted again, and looked at once: 40 lists of the one before, twice each, are a
    tree of 2^40. Nodes without parts have depth 1, but `leaves` 0.
    """
    sizes = {id(leaf): (1, 0) for leaf in leaves}
    entered: set[int] = set()
    for root in roots:
        todo = [root]
        while todo:
            node = todo[-1]
            if id(node) in sizes:
                todo.pop()
                continue
            parts = parts_of(node)
            waiting = [part for part in parts if id(part) not in sizes]
            if not waiting:
                known = [sizes[id(part)] for part in parts]
                size, depth = 1 + sum(one for one, _ in known), 1 + max((one for _, one in known), default=0)
                if size > most_nodes or depth > most_depth:
                    raise UnboundedTreeError(node, False)
                sizes[id(node)] = (size, depth)
            elif id(node) in entered:
                raise UnboundedTreeError(node, True)
            else:
                entered.add(id(node))
                todo += waiting
