"""Letters of labels: drawn by a font that has them, else by their number."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from maskray.model.config import Category, LabelMap
from maskray.platform.inference import fonts
from maskray.platform.inference.drawing import draw_detections
from maskray.platform.inference.fonts import NO_LETTER, split_runs

CACHES = (fonts._fonts, fonts._has, fonts._font_files)


@pytest.fixture
def only_bundled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No font of this system."""
    monkeypatch.setattr(fonts, "FONT_FOLDERS", ())
    for cache in CACHES:
        cache.cache_clear()
    yield
    for cache in CACHES:
        cache.cache_clear()


def family(font: fonts.Font) -> str | None:
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font.getname()[0]


def test_english_is_drawn_in_the_font_of_pillow(only_bundled: None) -> None:
    ((font, text),) = split_runs("class 7 (crowd) 90%", 20)
    assert text == "class 7 (crowd) 90%"
    assert family(font) == family(ImageFont.load_default(20))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Кошка и собака", "Γάτα αβγ", "Éléphant çñøß ąčę ŽŠ", "Việt Nam", "e\u0301"])
def test_letters_of_europe_are_of_one_font_that_has_them(only_bundled: None, name: str) -> None:
    ((font, text),) = split_runs(f"{name} 90%", 20)
    assert family(font) == "DejaVu Sans"
    for letter in text.replace(" ", ""):
        assert bytes(font.getmask(letter)) != bytes(font.getmask(NO_LETTER)), letter


def test_a_letter_without_a_font_is_its_number(only_bundled: None) -> None:
    runs = split_runs("a 猫犬 б", 20)
    assert [text for _, text in runs] == ["a ", "U+732B U+72AC", " ", "б"]
    assert split_runs("", 20)[0][1] == ""


def test_escape_sequences_and_letters_that_turn_others_are_not_drawn(only_bundled: None) -> None:
    assert [text for _, text in split_runs("a\u202eb\x1b[2J\n", 20)] == ["a?b?[2J"]


def test_a_font_of_the_system_is_found_by_its_name(
    only_bundled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundled,) = fonts._font_files()
    shutil.copy(bundled, tmp_path / "NotoSansCJK-Regular.ttc")
    shutil.copy(bundled, tmp_path / "Symbols.ttf")
    (tmp_path / "unifont.otf").write_bytes(b"damaged")
    monkeypatch.setattr(fonts, "FONT_FOLDERS", (str(tmp_path),))
    fonts._font_files.cache_clear()
    assert [Path(path).name for path in fonts._font_files()] == [
        "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "unifont.otf",
    ]  # fmt: skip
    fonts._fonts.cache_clear()
    assert len(fonts._fonts(20)) == 3


def test_labels_of_several_fonts_stand_side_by_side(only_bundled: None) -> None:
    """Each part of a label has ink of its own, within the image."""
    widths = []
    for name in ("猫", "猫б", "猫б" * 40):
        labels = LabelMap(categories=(Category(id=1, name=name),))
        image = np.zeros((200, 600, 3), dtype=np.uint8)
        drawn = draw_detections(image, [{"category_id": 1, "bbox": [10, 100, 50, 50]}], labels)
        columns = np.flatnonzero(drawn[:95].any(axis=(0, 2)))
        widths.append(columns.max() - columns.min())
    assert widths[0] < widths[1] < widths[2] < 600
