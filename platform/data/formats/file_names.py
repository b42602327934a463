"""Names of image files as annotation files state them, made relative to the folder of images."""

from __future__ import annotations

import os
from pathlib import Path


def name_inside(name: str, folder: Path) -> tuple[str | None, str | None]:
    """A file name relative to the folder of images and the code of what was odd; None where it leads out of it."""
    odd = None
    if "\\" in name and not os.path.exists(folder / name) and os.path.exists(folder / name.replace("\\", "/")):
        name, odd = name.replace("\\", "/"), "backslash_file_name"
    if ".." in name.split("/"):
        return None, None
    if not name.startswith("/"):
        return name, odd
    for root in (os.path.abspath(folder), os.path.realpath(folder)):
        for path in (os.path.normpath(name), os.path.realpath(name)):
            if path.startswith(f"{root.rstrip('/')}/"):
                return os.path.relpath(path, root), "absolute_file_name"
    return None, None
