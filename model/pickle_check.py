"""Looks through a pickle before it is read: what it would build must be a small tree, of a bounded number of steps.

Nothing of it is built. A pickle that refers to what it made before can hold lists of lists that are 2^50 long to walk
through or to hash, refer to itself, or ask for a table of 2^32 places, all in a few hundred bytes.
"""

from __future__ import annotations

import pickletools
from typing import BinaryIO

from maskray.model.bounded_tree import UnboundedTreeError, check_tree

MOST_STEPS = 1_000_000  # a state dict of a thousand tensors takes some ten thousand
MOST_NODES = 5_000_000  # of the tree, what is referred to again counted again
MOST_DEPTH = 100

_BUILDS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "BINPERSID": 1}
_BUILDS |= {"STACK_GLOBAL": 2}
_BUILDS_FROM_MARK = {"TUPLE", "LIST", "DICT", "FROZENSET", "OBJ", "INST"}
_FILLS = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
_FILLS_FROM_MARK = {"APPENDS", "SETITEMS", "ADDITEMS"}
_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}


class _Node:
    """What a step leaves on the stack: only what it is made of is known."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[_Node]) -> None:
        self.parts = parts


_LEAF = _Node([])  # numbers, text, names: never filled
_MARK = _Node([])


def check_pickle(file: BinaryIO) -> None:
    """Read the steps of one pickle from where a file stands to its end.

    Raises ValueError of one line where it is damaged or cut short, takes more than MOST_STEPS, refers to itself, or
    would be a tree of more than MOST_NODES or deeper than MOST_DEPTH.
    """
    stack: list[_Node] = []
    memo: dict[int, _Node] = {}
    made: list[_Node] = []
    try:
        for number, (step, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MOST_STEPS or (step.name in _PUTS and not 0 <= int(str(argument)) < MOST_STEPS):
                raise ValueError(f"more than {MOST_STEPS} steps")
            _take(step, argument, stack, memo, made)
    except (IndexError, KeyError):
        raise ValueError("a pickle whose steps do not fit one another") from None
    try:
        check_tree(made, lambda node: node.parts, MOST_NODES, MOST_DEPTH, (_LEAF, _MARK))
    except UnboundedTreeError as error:
        contains_itself = error.args[1]
        told = f"more than {MOST_NODES} values, or nested deeper than {MOST_DEPTH}"
        raise ValueError("it refers to itself" if contains_itself else told) from None


def _take(
    step: pickletools.OpcodeInfo, argument: object, stack: list[_Node], memo: dict[int, _Node], made: list[_Node]
) -> None:
    """Do to stack and memo what a step would do; what it makes is in `made` too."""
    name = step.name
    if name in _PUTS:
        memo[int(str(argument))] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in _GETS:
        stack.append(memo[int(str(argument))])
    elif name == "DUP":
        stack.append(stack[-1])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in _FILLS or name in _FILLS_FROM_MARK:
        parts = _pop(stack, _FILLS[name]) if name in _FILLS else _pop_mark(stack)
        if stack[-1] in (_LEAF, _MARK):
            raise ValueError("a pickle that fills a number or a name")
        stack[-1].parts.extend(parts)
    elif name in _BUILDS or name in _BUILDS_FROM_MARK:
        made.append(_Node(_pop(stack, _BUILDS[name]) if name in _BUILDS else _pop_mark(stack)))
        stack.append(made[-1])
    elif name == "POP":
        stack.pop()
    elif name == "POP_MARK":
        _pop_mark(stack)
    elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "EMPTY_TUPLE"):
        made.append(_Node([]))
        stack.append(made[-1])
    elif name not in ("PROTO", "FRAME", "STOP", "READONLY_BUFFER"):
        stack.append(_LEAF)  # all others put one value there and take none


def _pop(stack: list[_Node], number: int) -> list[_Node]:
    if len(stack) < number:
        raise IndexError
    parts = stack[-number:]
    del stack[-number:]
    return parts


def _pop_mark(stack: list[_Node]) -> list[_Node]:
    parts = []
    while (node := stack.pop()) is not _MARK:
        parts.append(node)
    return parts
