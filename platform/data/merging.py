"""Data sets in several folders as one COCO tree, whose file names start in the folder that all of them are in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskray.platform.data.formats.annotated import AnnotatedFolder
from maskray.platform.data.formats.coco import dataset_of_tree
from maskray.platform.data.formats.joining import Part, join_trees


@dataclass(frozen=True)
class Merged:
    """The tree, the folder that its file names start in, and how many annotations were in two of the parts."""

    tree: dict[str, Any]
    images: Path
    doubles: int


def merge(parts: Sequence[AnnotatedFolder]) -> Merged:
    """One tree of several data sets: categories by name, ids new, images of one file one image.

    ValueError where one of them is not a correct COCO tree, or where they do not agree (join_trees).
    """
    for part in parts:
        dataset_of_tree(part.name, part.tree, part.images)
    folders = [os.path.abspath(part.images) for part in parts]
    common = os.path.commonpath(folders)
    prefixes = [Path(os.path.relpath(folder, common)).as_posix() for folder in folders]
    tree, doubles = join_trees(
        [
            Part(part.name, part.tree, "" if prefix == "." else f"{prefix}/")
            for part, prefix in zip(parts, prefixes, strict=True)
        ]
    )
    return Merged(tree, Path(common), doubles)
