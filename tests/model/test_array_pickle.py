"""Pickled numpy arrays become tensors, and a pickle that wants more than arrays is refused before anything runs."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

from maskray.model.array_pickle import load_arrays


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_come_back(protocol: int) -> None:
    arrays = {
        "c": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(24, dtype=np.float64).reshape(2, 3, 4)),
        "slice": np.arange(10, dtype=np.int64)[::3],
        "whole": np.array(7, dtype=np.int64),
        "half": np.array([0.5, -2], dtype=np.float16),
        "truth": np.array([True, False]),
        "bytes": np.frombuffer(bytes(range(256)), dtype=np.uint8),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    data = pickle.dumps({"model": OrderedDict(arrays), "author": "a", "steps": [1, 2.5, None]}, protocol)
    content = load_arrays(data)
    assert (content["author"], content["steps"]) == ("a", [1, 2.5, None])
    assert list(content["model"]) == list(arrays)
    for name, array in arrays.items():
        tensor = content["model"][name]
        assert torch.equal(tensor, torch.from_numpy(np.array(array))), name
        assert tensor.is_contiguous()
    content["model"]["c"][0, 0] = 9  # the memory is its own
    assert load_arrays(data)["model"]["c"][0, 0] == 0


def test_python_2_text_is_bytes() -> None:
    # As Python 2 wrote it: the elements are text of 8 bits, module names are those of an old numpy.
    data = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08\x00\x00\x80\x3f\x00\x00\xc0\xbftbs."
    )
    assert load_arrays(data)["a"].tolist() == [1.0, -1.5]


class Dangerous:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return eval, ("print('code of a stranger')",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": Dangerous()}, "it asks for builtins.eval, which is no array"),
        ({"a": np.array([Dangerous()], dtype=object)}, "it asks for builtins.eval"),
        ({"a": np.array(["text"])}, "an array of U4 cannot be a tensor"),
        ({"a": np.arange(3, dtype=">f4")}, "an array of f4 cannot be a tensor"),
        ({"a": np.datetime64(0, "s")}, "which is no array"),
        ([np.zeros(1)], "a pickle of list, not of a dict"),
    ],
)
def test_all_else_is_refused(content: Any, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_arrays(pickle.dumps(content))
    assert "\n" not in str(caught.value)
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_file_cut_anywhere_is_refused(protocol: int) -> None:
    data = pickle.dumps({"model": {"a": np.arange(50, dtype=np.float32), "b": np.zeros((3, 4))}}, protocol)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="not a whole pickle of arrays"):
            load_arrays(data[:length])


def test_bytes_that_do_not_fill_the_shape_are_refused() -> None:
    data = pickle.dumps({"a": np.arange(200, dtype=np.float32).reshape(2, 100)}, 2)
    changed = data.replace(b"K\x02Kd", b"K\x03Kd")
    assert changed != data
    with pytest.raises(ValueError, match=r"an array of shape \(3, 100\) has 800 bytes"):
        load_arrays(changed)


def _tuples_of_tuples() -> bytes:
    """A key that takes 2^60 steps to hash."""
    return b"\x80\x04}K\x01\x85\x94" + b"".join(b"h" + bytes([k]) + b"\x86\x94" for k in range(60)) + b"K\x01s."


def _lists_filled_later() -> bytes:
    """Lists that each hold the next one twice, put in while all are empty."""
    made = b"\x80\x04" + b"]\x94" * 60
    filled = (b"h" + bytes([k]) + b"h" + bytes([k + 1]) + b"ah" + bytes([k + 1]) + b"a0" for k in range(59))
    return made + b"".join(filled) + b"}K\x01h\x00s."


def _contains_itself() -> bytes:
    inner: list[Any] = []
    inner.append(inner)
    return pickle.dumps({"a": inner})


def _deep() -> bytes:
    inner: list[Any] = []
    for _ in range(200):
        inner = [inner]
    return pickle.dumps({"a": inner})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_tuples_of_tuples(), "more than 5000000 values"),
        (_lists_filled_later(), "more than 5000000 values"),
        (_contains_itself(), "it refers to itself"),
        (_deep(), "nested deeper than 100"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "more than 1000000 steps"),  # a table of 2^31 places
        (b"((a.", "fills a number or a name"),
        (b"a.", "steps do not fit one another"),
    ],
)
def test_a_pickle_that_grows_while_it_is_read_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_arrays(data)
    assert "\n" not in str(caught.value)
