"""Files and folders that stand whole at their name, on disk, or not at all, whatever writes them."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(path: str | Path, mode: int = 0o666) -> Iterator[Path]:
    """A path beside `path` to write to, whose file is flushed to disk and takes the place of `path` at the end.

    It exists already, empty, with the mode that the umask leaves of `mode`. Where the block raises it is deleted, and
    what stood at `path` stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary path of the same name to write to, which is flushed to disk and becomes `path` at the end.

    It lies in a hidden folder beside `path`, on the same disk; folders above are made. Where the block raises nothing
    is left. Raises ValueError where `path` exists: what stands there is never overwritten.
    """
    path = Path(path).absolute()
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch_folder(path) as scratch:
        temporary = scratch / path.name
        yield temporary
        flush(temporary)
        refuse_existing(path)
        temporary.rename(path)
        flush(path.parent)


@contextmanager
def new_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """A hidden folder beside `path` to write files to, which are flushed to disk and become the folder `path`.

    Folders above are made. Where the block raises nothing is left. A folder that is there already is an OSError unless
    it is empty, or to be replaced.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch_folder(path) as scratch:
        yield scratch
        if replace and path.exists():
            shutil.rmtree(path)
        move_folder(scratch, path)


def move_folder(temporary: Path, path: Path) -> None:
    """Flush the files of a folder and the folder to disk and give it its name, where others may look into it."""
    for file in temporary.iterdir():
        flush(file)
    temporary.chmod(0o755)
    flush(temporary)
    temporary.rename(path)
    flush(path.parent)


def refuse_existing(path: str | Path) -> None:
    """Raise ValueError where a path exists, so that a long computation need not find out at its end."""
    if Path(path).exists():
        raise ValueError(f"{path}: exists already and is not overwritten")


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside a path; deleted at the end, if it still is there."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
