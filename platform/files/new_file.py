"""A new file that stands whole at its name or not at all, whatever writes it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskray.platform.files.model_folder import flush


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary path of the same name to write to, which is flushed to disk and becomes `path` at the end.

    It lies in a hidden folder beside `path`, on the same disk; folders above are made. Where the block raises nothing
    is left. Raises ValueError where `path` exists: what stands there is never overwritten.
    """
    path = Path(path).absolute()
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        flush(temporary)
        temporary.chmod(0o644)
        refuse_existing(path)
        temporary.rename(path)
        flush(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def refuse_existing(path: str | Path) -> None:
    """Raise ValueError where a path exists, so that a long computation need not find out at its end."""
    if Path(path).exists():
        raise ValueError(f"{path}: exists already and is not overwritten")
