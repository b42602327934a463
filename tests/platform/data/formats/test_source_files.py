"""Files of others: sizes, XML and YAML that would unfold, names and paths as any system writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskray.platform.data.formats import source_files
from maskray.platform.data.formats.source_files import (
    list_files,
    read_file,
    read_json,
    read_names,
    read_xml,
    read_yaml,
    split_folder,
    written_path,
)


def test_a_file_that_is_too_large_or_absent_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123456")
    assert read_file(tmp_path / "a", 6) == b"123456"
    with pytest.raises(ValueError, match=r"a: 6 bytes are more than the 5 that are read"):
        read_file(tmp_path / "a", 5)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_file(tmp_path / "b", 5)
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_file(tmp_path, 500_000)


def test_names_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n\r\n big dog \n")
    assert read_names(path) == ["cat", "big dog"]
    for data, message in (
        (b"\n", "no class names"),
        (b"a\nb\na", "'a' stands twice"),
        (b"\xff\xfe", "not text in UTF-8"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            read_names(path)


NO_YAML = ("", "a: [", "- 1", "a: *b", "a: !!bool word", "a: !!int ''", "a: !!timestamp x", "? [a]: b", "a: 2001-99-99")
MORE_THAN_YAML = ("a: !!python/object/apply:os.system [ls]", "[" * 900_000, "- " * 9000)


@pytest.mark.parametrize("text", NO_YAML + MORE_THAN_YAML, ids=lambda text: text[:20] or "empty")
def test_yaml_that_is_none_or_more(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"a\.yaml: ") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp037", "latin-1"])
def test_entities_are_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>'
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"a\.xml: not XML that can be read: "):
        read_xml(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_bytes(b'<?xml version="1.0" encoding="rot13"?><a/>')
    with pytest.raises(ValueError, match=r"a\.xml: not XML that can be read: "):
        read_xml(tmp_path / "a.xml")


def test_json_of_any_unicode_encoding(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "a.json").write_bytes('{"a": "ü"}'.encode(encoding))
        assert read_json(tmp_path / "a.json") == {"a": "ü"}


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", "a", "/", "\\", "C:", ".", "b c"])).map("/".join))
def test_a_written_path_never_leads_out(text: str) -> None:
    path = written_path(text)
    assert not path.is_absolute()
    assert ".." not in path.parts


@pytest.mark.parametrize(
    ("text", "path"),
    [("a/b.png", "a/b.png"), ("..\\x\\b.png", "x/b.png"), ("C:\\x\\b.png", "x/b.png"), ("/x/./b.png", "x/b.png")],
)
def test_paths_of_windows_and_others(text: str, path: str) -> None:
    assert str(written_path(text)) == path


def test_loops_of_links_end_and_hidden_files_stay_hidden(tmp_path: Path) -> None:
    for name in ("a/b.png", "a/._b.png", ".hidden/c.png", "__MACOSX/d.png", "e.PNG", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "a")
    assert [str(name) for name in list_files(tmp_path, (".png",))] == ["a/b.png", "e.PNG"]


def test_splits_have_several_names(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    assert split_folder(tmp_path, "val") == tmp_path / "valid"
    assert split_folder(tmp_path, "train") is None
    assert split_folder(tmp_path, None) is None
    assert source_files.sniff(tmp_path / "absent") == b""
