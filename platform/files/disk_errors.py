"""Storage that will not take what is written to it: told from what another try may mend, in one line."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

# No space, quota, a read-only file system, permission, a file above the limit of the process, a file for a folder.
LASTING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EEXIST, errno.ENOTDIR}
)
PROBE_BYTES = 1 << 20


class StorageError(ValueError):
    """A folder cannot be written to, and another try would find the same."""


def lasting_error(error: OSError, place: str | Path) -> StorageError | None:
    """The same as a StorageError that names the file; None where another try may do better."""
    return _named(error, error.filename or place) if error.errno in LASTING else None


def _named(error: OSError, place: str | Path) -> StorageError:
    reason = os.strerror(error.errno or 0)
    return StorageError(f"{place}: {reason[0].lower()}{reason[1:]}")


@contextmanager
def named_storage_errors(path: Path, scratch: Path | None = None) -> Iterator[None]:
    """Where writing what is to be `path` fails for want of space, quota or permission, it is a StorageError of it.

    Writers of tensors raise what they please: safetensors tells the number of an error, and takes its file away; torch
    tells nothing and leaves it, so that `scratch`, the folder that it is written to, can be asked.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in LASTING:
            raise
        raise _named(error, path) from error
    except (RuntimeError, SafetensorError) as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        if told is not None and int(told[1]) in LASTING:
            raise _named(OSError(int(told[1]), ""), path) from error
        if scratch is not None and (refused := _refusal(scratch)) is not None:
            raise _named(refused, path) from error
        raise


def check_free_space(folder: Path, wanted_bytes: int, reason: str) -> None:
    """Raise StorageError where the file system of a folder has less free; `reason` says what for."""
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes:
        raise StorageError(f"{folder}: {free / 1e9:.2f} GB are free, {wanted_bytes / 1e9:.2f} GB are needed: {reason}")


def _refusal(folder: Path) -> OSError | None:
    """Why a folder takes no more, if it does not: a little is written, and taken away again."""
    path = folder / ".probe"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            left = PROBE_BYTES
            while left > 0:
                left -= os.write(descriptor, bytes(left))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error if error.errno in LASTING else None
    finally:
        path.unlink(missing_ok=True)
    return None
