"""Tests of checkpoints: read back as written, damage found and named, the newest complete and the best kept."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from maskray.model.config import ModelSpec
from maskray.platform.job.config import JobConfig
from maskray.platform.train.checkpoint import (
    best_checkpoint,
    checkpoint_to_go_on_from,
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    read_metrics,
    remove_temporary,
    verify_checkpoint,
    write_checkpoint,
    write_metrics,
)


@pytest.fixture
def write(
    tmp_path: Path, make_job: Callable[..., JobConfig], make_spec: Callable[[JobConfig], ModelSpec]
) -> Callable[[int], Path]:
    """Writes a checkpoint of a small network after one step of SGD."""

    def write(step: int) -> Path:
        torch.manual_seed(step)
        model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model(torch.randn(8, 64)).square().sum().backward()
        optimizer.step()
        state = {"optimizer": optimizer.state_dict(), "seed": 3}
        return write_checkpoint(tmp_path / "checkpoints", step, model, make_spec(make_job()), state, '{"seed": 3}')

    return write


def test_reads_back_what_was_written(write: Callable[[int], Path]) -> None:
    path = write(100)
    assert path.name == "step-000100"
    assert sorted(file.name for file in path.iterdir()) == [
        "checkpoint.json",
        "model.json",
        "model.safetensors",
        "trainer.pt",
    ]
    checkpoint = read_checkpoint(path)
    torch.manual_seed(100)
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(8, 64)).square().sum().backward()
    optimizer.step()
    assert checkpoint.step == 100
    assert checkpoint.config == '{"seed": 3}'
    assert checkpoint.state["seed"] == 3
    for name, tensor in model.state_dict().items():
        assert torch.equal(checkpoint.weights[name], tensor)
    fresh = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fresh.load_state_dict(checkpoint.state["optimizer"])
    for parameter in model.parameters():
        assert torch.equal(fresh.state[parameter]["momentum_buffer"], optimizer.state[parameter]["momentum_buffer"])


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "trainer.pt", "checkpoint.json"])
def test_a_file_cut_short_is_named(write: Callable[[int], Path], name: str) -> None:
    path = write(1)
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=rf"{name}: (damaged or )?cut short"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "trainer.pt", "checkpoint.json"])
def test_a_missing_file_is_named(write: Callable[[int], Path], name: str) -> None:
    path = write(1)
    (path / name).unlink()
    with pytest.raises(ValueError, match=f"not a complete checkpoint, {name} is missing"):
        verify_checkpoint(path)


def test_one_changed_bit_is_found(write: Callable[[int], Path]) -> None:
    path = write(1)
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-10] ^= 1
    (path / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors: changed since it was written"):
        verify_checkpoint(path)


def test_newest_passes_over_damaged_ones_and_says_so(write: Callable[[int], Path]) -> None:
    good, cut, empty = write(10), write(20), write(30)
    os.truncate(cut / "trainer.pt", 100)
    (empty / "checkpoint.json").unlink()
    found, passed_over = newest_checkpoint(good.parent)
    assert found == good
    assert len(passed_over) == 2
    assert "step-000030" in passed_over[0]
    assert "checkpoint.json is missing" in passed_over[0]
    assert "step-000020" in passed_over[1]
    assert "cut short, 100 of" in passed_over[1]


def test_nothing_there(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") == (None, [])
    assert best_checkpoint(tmp_path / "none", "segm/AP") is None


def test_a_damaged_one_is_replaced(write: Callable[[int], Path]) -> None:
    path = write(10)
    os.truncate(path / "model.safetensors", 10)
    assert verify_checkpoint(write(10)) == 10


def test_steps_are_ordered_as_numbers(write: Callable[[int], Path]) -> None:
    paths = [write(step) for step in (1_000_000, 999_999, 5)]
    assert list_checkpoints(paths[0].parent) == paths[::-1]


def test_pruning_keeps_the_newest_and_the_best(write: Callable[[int], Path]) -> None:
    paths = {step: write(step) for step in (10, 20, 30, 40, 50)}
    for step, value in ((10, 0.1), (20, 0.5), (30, 0.5), (40, float("nan"))):
        write_metrics(paths[step], {"segm/AP": value, "bbox/AP": 1.0 - value})
    assert best_checkpoint(paths[10].parent, "segm/AP") == (paths[20], 0.5)  # the older of equals
    deleted = prune_checkpoints(paths[10].parent, keep=2, metric="segm/AP")
    assert deleted == [paths[10], paths[30]]
    assert list_checkpoints(paths[10].parent) == [paths[20], paths[40], paths[50]]
    assert [path.name for path in paths[10].parent.iterdir() if path.name.startswith(".")] == []


def test_damaged_ones_do_not_count_so_a_good_one_just_written_stays(write: Callable[[int], Path]) -> None:
    paths = {step: write(step) for step in (10, 20, 60, 70)}
    for step in (60, 70):
        os.truncate(paths[step] / "trainer.pt", 100)
    assert prune_checkpoints(paths[10].parent, keep=2, metric="segm/AP") == []
    paths[30] = write(30)
    assert prune_checkpoints(paths[10].parent, keep=2, metric="segm/AP") == [paths[10]]
    os.truncate(paths[20] / "trainer.pt", 100)
    paths[40] = write(40)
    assert prune_checkpoints(paths[10].parent, keep=2, metric="segm/AP") == [paths[20]]
    assert newest_checkpoint(paths[10].parent)[0] == paths[40]


def test_the_best_one_is_complete(write: Callable[[int], Path]) -> None:
    paths = {step: write(step) for step in (10, 20, 30)}
    for step, value in ((10, 0.3), (20, 0.5), (30, 0.4)):
        write_metrics(paths[step], {"segm/AP": value})
    (paths[20] / "model.safetensors").write_bytes(b"")
    assert best_checkpoint(paths[10].parent, "segm/AP") == (paths[30], 0.4)
    (paths[30] / "metrics.json").write_text("{")
    assert best_checkpoint(paths[10].parent, "segm/AP") == (paths[10], 0.3)


def test_where_all_are_damaged_nothing_begins_anew_unasked(write: Callable[[int], Path]) -> None:
    folder = write(10).parent
    (write(20) / "checkpoint.json").unlink()
    assert checkpoint_to_go_on_from(folder)[0] == folder / "step-000010"
    os.truncate(folder / "step-000010" / "trainer.pt", 100)
    with pytest.raises(ValueError, match=r"nothing to go on from: .*step-000020.*; .*step-000010.*drops the history"):
        checkpoint_to_go_on_from(folder)
    assert checkpoint_to_go_on_from(folder / "none") == (None, [])


def test_equal_weights_are_equal_files(write: Callable[[int], Path]) -> None:
    """The order of the metadata was another one each time, within one process too."""
    path = write(10)
    contents = {path.joinpath("model.safetensors").read_bytes()}
    for _ in range(8):
        contents.add(write(10).joinpath("model.safetensors").read_bytes())
    assert len(contents) == 1
    verify_checkpoint(path)


def test_the_weights_have_the_mode_of_the_files_beside_them(write: Callable[[int], Path]) -> None:
    before = os.umask(0o027)
    try:
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in write(10).iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {"0o640"}, modes


def test_metrics_are_valid_json(write: Callable[[int], Path]) -> None:
    path = write(10)
    assert read_metrics(path) is None
    write_metrics(path, {"segm/AP": 0.25, "segm/APl": float("nan")})
    json.loads((path / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    metrics = read_metrics(path)
    assert metrics is not None
    assert metrics["segm/AP"] == 0.25
    assert metrics["segm/APl"] != metrics["segm/APl"]
    verify_checkpoint(path)


def test_a_pickle_in_place_of_the_state_is_not_run(write: Callable[[int], Path], tmp_path: Path) -> None:
    path = write(10)

    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "executed"),)

    torch.save(Touch(), path / "trainer.pt")
    index = json.loads((path / "checkpoint.json").read_text())
    data = (path / "trainer.pt").read_bytes()
    index["files"]["trainer.pt"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "checkpoint.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"trainer\.pt: not a trainer state"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_a_killed_writer_leaves_only_complete_checkpoints(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, torch
        from pathlib import Path
        from maskray.model.config import InputConfig, LabelMap, ModelConfig, ModelSpec
        from maskray.platform.train.checkpoint import write_checkpoint
        labels = LabelMap.model_validate({"categories": [{"id": 1, "name": "a"}]})
        spec = ModelSpec(model=ModelConfig(), input=InputConfig(), labels=labels)
        model = torch.nn.Linear(512, 512)
        state = {"optimizer": {"state": {0: torch.zeros(512, 512)}}, "seed": 0}
        for step in range(1, 100000):
            write_checkpoint(Path(sys.argv[1]), step, model, spec, state, "{}")
            print(step, flush=True)
        """
    )
    folder = tmp_path / "checkpoints"
    writer = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(5):
        assert writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    paths = list_checkpoints(folder)
    assert len(paths) >= 5
    for path in paths:
        verify_checkpoint(path)
    remove_temporary(folder)
    assert sorted(folder.iterdir()) == paths
