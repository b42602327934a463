"""Which precision pays: by what was measured, remembered for each processor, and measured anew where that is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskray.platform.machine import precision
from maskray.platform.machine.precision import Measurement, measured_precision, remembered_precision


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured_precision.cache_clear()
    yield tmp_path / "maskray/precision.json"
    measured_precision.cache_clear()


@pytest.fixture
def measure(monkeypatch) -> list[str]:
    """Devices that were measured; float32 takes one second and bfloat16 half of it."""
    measured: list[str] = []

    def stand_in(device: str) -> Measurement:
        measured.append(device)
        return Measurement("a processor", 1.0, 0.5)

    monkeypatch.setattr(precision, "measure_precision", stand_in)
    return measured


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(3.0, 1.0, "bfloat16"), (1.2, 1.0, "bfloat16"), (1.19, 1.0, "float32"), (1.74, 2.75, "float32")],
)
def test_half_the_width_has_to_pay(float32, bfloat16, expected):
    assert Measurement("a processor", float32, bfloat16).precision == expected


def test_a_measurement_names_the_processor():
    told = str(Measurement("a processor (avx2)", 1.0, 2.0))
    assert told == "float32; bfloat16 is 0.50 times as fast as float32 on a processor (avx2)"


def test_it_is_measured_once(measure, cache):
    assert measured_precision().precision == "bfloat16"
    measured_precision.cache_clear()  # as in another process
    again = measured_precision()
    assert (again.float32, again.bfloat16, measure) == (1.0, 0.5, ["cpu"])
    assert len(json.loads(cache.read_text())) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '{"another processor": {"float32": 1, "bfloat16": 9}}'])
def test_a_cache_that_says_nothing_of_this_machine_is_added_to(measure, cache, text):
    cache.parent.mkdir()
    cache.write_text(text)
    assert remembered_precision() is None
    assert measured_precision().precision == "bfloat16"
    assert remembered_precision() is not None
    assert len(json.loads(cache.read_text())) == 1 + text.startswith('{"another')


@pytest.mark.parametrize("entry", [{}, {"float32": 0, "bfloat16": 1}, {"float32": "x", "bfloat16": 1}, 7, [1, 2]])
def test_an_entry_that_is_no_measurement_is_none(measure, cache, entry):
    measured_precision()
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: entry}))
    assert remembered_precision() is None


def test_without_a_cache_it_only_takes_longer(measure, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert measured_precision().precision == "bfloat16"


def test_threads_are_as_before():
    import torch

    before = torch.get_num_threads()
    found = precision.measure_precision()
    assert min(found.float32, found.bfloat16) > 0
    with ThreadPoolExecutor(1) as thread:
        assert (torch.get_num_threads(), thread.submit(torch.get_num_threads).result()) == (before, before)


@pytest.mark.slow
def test_where_bfloat16_is_imitated_float32_pays():
    """A processor of ten years ago, as which oneDNN may be told to take any of today."""
    code = "from maskray.platform.machine.precision import measure_precision; print(measure_precision().precision)"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, env=environment)
    assert done.stdout == "float32\n", done.stderr
