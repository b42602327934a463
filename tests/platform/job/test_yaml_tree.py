"""YAML that grows while it is read ends in a line; aliases that stay small are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.job.load import parse_job
from maskray.platform.job.yaml_tree import load_yaml


def laughs(levels: int = 12) -> str:
    """A key of ten keys of ten keys ..., each an alias of the one before, under a key that jobs know."""
    lines = ["evaluation:", "  expect: &a0 {" + ", ".join(f"k{k}: 1" for k in range(10)) + "}"]
    lines += [
        f"x{level}: &a{level} {{" + ", ".join(f"k{k}: *a{level - 1}" for k in range(10)) + "}"
        for level in range(1, levels)
    ]
    return "\n".join([*lines, f"train: *a{levels - 1}"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(), "more than 100000 values"),
        (laughs().replace("train: *a11", "train: {<<: [*a11, *a11]}"), "more than 100000 values"),
        ("a: &a [*a]", "stands for what it is part of"),
        ("a: &a {b: {<<: *a}}", "stands for what it is part of"),
        ("a: &a [&b [*a], *b]", "stands for what it is part of"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 50"),
        ("a: " + "[" * 6_000, "nested too deeply"),
        ("a: [" + "1," * 100_001, "more than 100000 values"),
        ("a: " + "1" * 5000, "a number of 5000 digits"),
        ("a: 1" + ":1" * 250_000, "a number of 500001 digits"),
        ("#" * 2_000_001, "letters are more than"),
        ("a: 1\na: 2", "'a' stands twice"),
        ("1: 2", "key 1 is not text"),
        ("a: [", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!python/object:os.system {}", "not valid YAML"),
    ],
)
def test_what_grows_or_is_not_yaml_is_a_line(text: str, message: str) -> None:
    for read in (load_yaml, parse_job):
        with pytest.raises(ValueError, match=message) as caught:
            read(text)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_aliases_are_read() -> None:
    assert load_yaml("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}
    assert load_yaml("") is None


def test_a_mistake_shows_what_was_given_in_a_short_line() -> None:
    text = "name: a\ndata: {train: {kind: synthetic, num_images: [" + "1, " * 3000 + ']}}\n"x\\e[2J": 1\n'
    with pytest.raises(ValueError, match="num_images") as caught:
        parse_job(text)
    for line in str(caught.value).splitlines():
        assert line.isprintable()
        assert len(line) < 2001


@given(st.text(alphabet="ab:&*[]{}<-,! \n1", max_size=60))
def test_any_text_is_values_or_a_line(text: str) -> None:
    told = ""
    try:
        load_yaml(text)
    except ValueError as error:
        told = str(error)
    assert "\n" not in told
