"""Names of image files stay in the folder of images, however they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskray.platform.data.formats.file_names import name_inside


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/passwd", "..", "/", "sub/.."])
def test_what_leads_out_is_told(tmp_path: Path, name: str) -> None:
    assert name_inside(name, tmp_path) == (None, None)


def test_absolute_names_inside_become_relative(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    assert name_inside("a.png", folder) == ("a.png", None)
    assert name_inside(f"{folder}/sub/a.png", folder) == ("sub/a.png", "absolute_file_name")
    assert name_inside(f"{folder}/a.png", tmp_path / "link") == ("a.png", "absolute_file_name")
    assert name_inside(f"{tmp_path}/link/a.png", folder) == ("a.png", "absolute_file_name")
    assert name_inside(f"{folder}2/a.png", folder) == (None, None)  # its name begins alike


def test_backslashes_are_folders_only_where_the_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.png").touch()
    assert name_inside("sub\\a.png", tmp_path) == ("sub/a.png", "backslash_file_name")
    assert name_inside("sub\\b.png", tmp_path) == ("sub\\b.png", None)
    (tmp_path / "sub\\a.png").touch()
    assert name_inside("sub\\a.png", tmp_path) == ("sub\\a.png", None)
    assert name_inside("sub\\..\\..\\a.png", tmp_path / "sub") == ("sub\\..\\..\\a.png", None)
    assert name_inside("x" * 5000 + "\\a", tmp_path)[1] is None  # longer than any name may be
