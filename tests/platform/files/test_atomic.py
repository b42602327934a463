"""Files and folders appear whole or not at all: errors in between, writers killed, what stood there before."""

import multiprocessing
import os
import signal
import stat

import pytest

from maskray.platform.files.atomic import move_folder, new_file, new_folder, replaced_file

LONG = 200_000


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def write_half(path):
    """Begin to write, and fail as a full disk would."""
    path.write_text("half")
    path.parent.write_text("half")


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    with replaced_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert leftovers(tmp_path) == []


def test_a_block_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(IsADirectoryError), replaced_file(path) as temporary:
        write_half(temporary)
    assert path.read_text() == "old"
    with pytest.raises(IsADirectoryError), new_folder(tmp_path / "folder") as scratch:
        write_half(scratch / "a")
    assert not (tmp_path / "folder").exists()
    assert leftovers(tmp_path) == []


def test_the_mode_is_that_of_the_umask_or_narrower(tmp_path):
    before = os.umask(0o027)
    try:
        for name, mode in (("shared", 0o666), ("secret", 0o600)):
            with replaced_file(tmp_path / name, mode) as temporary:
                temporary.write_text(name)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("shared", "secret")]
    assert modes == [0o640, 0o600]


def test_a_new_file_or_folder_is_never_written_over_another(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ValueError, match="model: exists already and is not overwritten"), new_file(tmp_path / "model"):
        raise AssertionError("the block must not begin")
    assert (tmp_path / "model").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(OSError, match="not empty"), new_folder(tmp_path / "folder") as scratch:
        (scratch / "theirs").touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["mine"]
    with new_folder(tmp_path / "folder", replace=True) as scratch:
        (scratch / "theirs").touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["theirs"]
    assert leftovers(tmp_path) == []


def test_a_moved_folder_can_be_looked_into(tmp_path):
    (tmp_path / "hidden").mkdir(mode=0o700)
    (tmp_path / "hidden" / "weights").write_text("w")
    move_folder(tmp_path / "hidden", tmp_path / "model")
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o755
    assert (tmp_path / "model" / "weights").read_text() == "w"


def _write_until_killed(folder, ready):
    number = 0
    while True:
        with replaced_file(folder / "numbers") as temporary:
            temporary.write_text(f"{number} " * LONG)
        ready.set()
        number += 1


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_write_until_killed, args=(tmp_path, ready), daemon=True)
    writer.start()
    assert ready.wait(120)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    numbers = (tmp_path / "numbers").read_text().split()
    assert len(numbers) == LONG
    assert len(set(numbers)) == 1
