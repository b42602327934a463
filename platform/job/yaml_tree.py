"""Text of YAML to plain values, with a bound on what it may grow to: a key once, keys of text, small aliases."""

from __future__ import annotations

from typing import Any

import yaml

from maskray.model.bounded_tree import UnboundedTreeError, check_tree
from maskray.platform.job.plain_text import shown

MOST_LETTERS = 2_000_000  # of a file
MOST_NODES, MOST_DEPTH = 100_000, 50  # of the tree, what an alias stands for counted each time
LONGEST_NUMBER = 400  # letters; 1:1:1:... is a number too, and takes time that grows with its square


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice (YAML would keep the last in silence), and stops at MOST_NODES."""

    num_nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node; ValueError where there were too many before."""
        self.num_nodes += 1
        if self.num_nodes > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES} values")
        return super().compose_node(parent, index)


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ValueError(f"line {key_node.start_mark.line + 1}: key {shown(key)} is not text")
        if key in seen:
            raise ValueError(f"line {key_node.start_mark.line + 1}: key {shown(key)} stands twice")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def load_yaml(text: str) -> Any:
    """The values that a text stands for; None where it is empty.

    Raises ValueError of one line where it is not YAML, has a key twice or one that is no text, or would be more than
    MOST_NODES values, nested deeper than MOST_DEPTH, or contain itself.
    """
    if len(text) > MOST_LETTERS:
        raise ValueError(f"{len(text)} letters are more than the {MOST_LETTERS} that are read")
    try:
        loader = _UniqueKeyLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        check_nodes(node)
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("lists or mappings are nested too deeply") from None
    # a tag such as !!bool before a word lets the loader end in whatever its look-up ends in
    except (yaml.YAMLError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


def find_comment(text: str) -> str | None:
    """The first comment in a text that is YAML: what of it stands for no value; None where there is none."""
    end = 0
    for token in yaml.scan(text):
        if "#" in text[end : token.start_mark.index]:
            break
        end = max(end, token.end_mark.index)
    hash_sign = text.find("#", end)
    return None if hash_sign < 0 else text[hash_sign:].splitlines()[0]


def check_nodes(root: yaml.Node) -> None:
    """ValueError where what a node stands for, aliases written out, is too much, too deep, or contains itself."""
    try:
        check_tree([root], _parts, MOST_NODES, MOST_DEPTH)
    except UnboundedTreeError as error:
        node, contains_itself = error.args
        told = f"more than {MOST_NODES} values, or nested deeper than {MOST_DEPTH}, with what aliases (*name) stand for"
        if contains_itself:
            told = "an alias (*name) stands for what it is part of"
        raise ValueError(f"line {node.start_mark.line + 1}: {told}") from None


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(node.value) > LONGEST_NUMBER:
        raise ValueError(f"line {node.start_mark.line + 1}: a number of {len(node.value)} digits")
    return []
