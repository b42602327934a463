"""Where records of leases are kept: what a store must be able to do, and a folder that can, on NFS too."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from pathlib import Path
from typing import Protocol

from maskray.platform.files.atomic import flush


class LeaseStore(Protocol):
    """Numbered records of equal size. In object storage: PUT If-None-Match: *, PUT If-Match, GET, DELETE, LIST."""

    def numbers(self) -> list[int]:
        """Numbers of all records."""
        ...

    def create(self, number: int, record: bytes) -> bool:
        """Make a record whole at its number; False where there is one already."""
        ...

    def read(self, number: int) -> bytes | None:
        """A record as it is now; None where there is none."""
        ...

    def age_seconds(self, number: int) -> float | None:
        """How long ago a record was written, by the clock of this machine; None where there is none."""
        ...

    def overwrite(self, number: int, record: bytes) -> bool:
        """Replace a record, by its holder alone; False where there is none, and none is made then."""
        ...

    def delete(self, number: int) -> None:
        """Remove a record, if it is there."""
        ...


class FolderStore:
    """Records as files of a folder, named by their number."""

    def __init__(self, folder: str | Path) -> None:
        """The folder is made with the first record."""
        self._folder = Path(folder)

    def __str__(self) -> str:
        return str(self._folder)

    def numbers(self) -> list[int]:
        """Numbers of all records; other names are not looked at."""
        with contextlib.suppress(FileNotFoundError):
            return [int(name) for name in os.listdir(self._folder) if name.isdecimal()]
        return []

    def create(self, number: int, record: bytes) -> bool:
        """By link(2) of a file that is whole: it succeeds for one process alone, on NFS too."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{secrets.token_hex(8)}.partial"
        try:
            temporary.write_bytes(record)
            flush(temporary)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self._path(number))
            # The answer of a server may be lost, and the link be made: the file itself knows.
            return temporary.stat().st_nlink == 2
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, number: int) -> bytes | None:
        """By open(2), before which NFS asks the server what there is."""
        try:
            return self._path(number).read_bytes()
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE:
                return None
            raise

    def age_seconds(self, number: int) -> float | None:
        """By the time of the file."""
        try:
            return time.time() - self._path(number).stat().st_mtime
        except FileNotFoundError:
            return None

    def overwrite(self, number: int, record: bytes) -> bool:
        """In place, in one write, and no file is made: who took over has deleted it."""
        try:
            descriptor = os.open(self._path(number), os.O_WRONLY)
        except FileNotFoundError:
            return False
        try:
            os.write(descriptor, record)
        finally:
            os.close(descriptor)
        return True

    def delete(self, number: int) -> None:
        """Those that have it open see it gone when they open it again."""
        self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}"


def lease_store(run_folder: str | Path) -> FolderStore:
    """Where the lease of a run is kept."""
    return FolderStore(Path(run_folder) / "lease")
