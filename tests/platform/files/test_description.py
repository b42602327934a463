"""Descriptions of models from elsewhere: whatever is in them, one line within bounds of memory."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec
from maskray.platform.files.description import MOST_BYTES, parse_spec

PATH = Path("model.json")
MANY = 100_000
LIMIT_MIB = 700  # beyond what the program itself takes; 20 MB of empty lists alone are 430
PROGRAM = """
import resource, sys
from pathlib import Path
from maskray.platform.files.description import parse_spec
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse_spec(Path("model.json"), sys.stdin.buffer.read())
except ValueError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""


def spec_of(categories):
    return ModelSpec(model=ModelConfig(), input=InputConfig(), labels=LabelMap(categories=categories))


def test_as_many_classes_as_there_may_be_are_read():
    tree = spec_of([Category(id=1, name="a")]).model_dump(mode="json")
    category = tree["labels"]["categories"][0]
    tree["labels"]["categories"] = [category | {"id": number, "name": f"{number:<99}x"} for number in range(MANY)]
    text = json.dumps(tree).encode()
    assert len(text) < MOST_BYTES
    assert parse_spec(PATH, text).labels.num_classes == MANY


def test_ids_that_stand_twice_are_told_at_once():
    tree = spec_of([Category(id=1, name="a")]).model_dump(mode="json")
    tree["labels"]["categories"] = [{"id": number // 2, "name": "a"} for number in range(MANY)]
    with pytest.raises(ValueError, match=r"labels: category ids are not unique: \[0, 1, 2"):
        parse_spec(PATH, json.dumps(tree).encode())


def trees():
    room = MOST_BYTES - 1000
    start = '{"format":1,"labels":{"categories":['
    yield "wrong classes", start + "[]," * 99_998 + "[]]}}"
    yield "too many classes", start + "[]," * (room // 3) + "[]]}}"
    yield "large class", start + "[" + "1," * (room // 2) + "1]]}}"
    yield "unknown keys", "{" + ",".join(f'"{number}":1' for number in range(room // 12)) + "}"
    yield "list", "[" + "1," * (room // 2) + "1]"
    yield "deep", "[" * room
    yield "long number", '{"format":' + "9" * room + "}"
    yield "too long", " " * (MOST_BYTES + 1)


@pytest.mark.parametrize(("name", "text"), trees(), ids=[name for name, _ in trees()])
def test_hostile_description_is_told_in_a_line(name, text):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=text.encode(),
        capture_output=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30)),
    )
    (line,) = ended.stdout.decode().splitlines()
    grown, _, message = line.partition(" ")
    assert message.startswith("model.json: "), name
    assert len(message) < 500
    assert int(grown) < LIMIT_MIB
