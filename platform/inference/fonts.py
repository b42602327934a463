"""Fonts for labels in images: for each letter the first font that has it, and its code point where none does.

Pillow's own font (Aileron, public domain) has the letters of English. DejaVu Sans, which matplotlib brings (licence of
Bitstream Vera: free to use, change and pass on), has accented Latin, Greek, Cyrillic and more. Chinese, Japanese and
Korean need a font of the system, such as Debian's fonts-noto-cjk (SIL Open Font License).
"""

from __future__ import annotations

import importlib.util
import os
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageFont

from maskray.platform.job.plain_text import one_line

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Run = tuple[Font, str]  # letters that are drawn in one font

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
# Files of a system that have letters which DejaVu lacks, best first: what their names begin with.
SYSTEM_FONTS = (
    "DejaVuSans.", "NotoSansCJK-Regular", "NotoSansCJK", "NotoSansSC", "NotoSansJP", "NotoSansKR", "SourceHanSans",
    "DroidSansFallback", "wqy-", "unifont", "NotoSans-Regular", "FreeSans.",
)  # fmt: skip
FONT_SUFFIXES = (".ttf", ".ttc", ".otf")
MOST_FONTS = 8
NO_LETTER = "\uffff"  # of Unicode: every font draws it as what it lacks


def split_runs(text: str, size: int) -> list[Run]:
    """A label as runs of letters with the font of each, `size` pixels high: one run where a font has all of them.

    It is made one plain line first. A letter that no font has stands as U+ and its number. At least one run.
    """
    text = unicodedata.normalize("NFC", one_line(text))
    fonts = _fonts(size)
    for number, font in enumerate(fonts):
        if all(_has(number, size, letter) for letter in text):
            return [(font, text)]
    placed = [next((n for n in range(len(fonts)) if _has(n, size, letter)), None) for letter in text]
    groups = [(number, [letter for _, letter in group]) for number, group in groupby(zip(placed, text), lambda x: x[0])]
    return [
        (fonts[0], " ".join(f"U+{ord(letter):04X}" for letter in letters))
        if number is None
        else (fonts[number], "".join(letters))
        for number, letters in groups
    ]


@lru_cache(maxsize=64)
def _fonts(size: int) -> tuple[Font, ...]:
    found: list[Font] = [ImageFont.load_default(size)]
    for path in _font_files():
        try:
            found.append(ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC))
        except OSError:  # a damaged file of the system leaves its letters to the others
            continue
    return tuple(found)


@lru_cache(maxsize=20_000)
def _has(number: int, size: int, letter: str) -> bool:
    """Whether a font draws a letter otherwise than one that it lacks."""
    if letter == " ":
        return True
    font = _fonts(size)[number]
    drawn, lacking = font.getmask(letter), font.getmask(NO_LETTER)
    return drawn.size != lacking.size or bytes(drawn) != bytes(lacking)


@lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    """DejaVu Sans of matplotlib, and what the system has of SYSTEM_FONTS."""
    spec = importlib.util.find_spec("matplotlib")  # where it lies, without importing it
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    bundled = [os.path.join(folder, "mpl-data/fonts/ttf/DejaVuSans.ttf") for folder in folders]
    by_rank = sorted((rank, path) for path in _system_files() for rank in _rank(path))
    found = dict.fromkeys([path for path in bundled if os.path.isfile(path)] + [path for _, path in by_rank])
    return tuple(found)[:MOST_FONTS]


def _rank(path: str) -> Iterator[int]:
    """The place of a file among SYSTEM_FONTS; nothing where it is none of them."""
    name = Path(path).name
    yield from (rank for rank, start in enumerate(SYSTEM_FONTS) if name.startswith(start))


def _system_files() -> Iterator[str]:
    for folder in FONT_FOLDERS:
        for place, _, names in os.walk(os.path.expanduser(folder)):
            yield from (os.path.join(place, name) for name in names if name.lower().endswith(FONT_SUFFIXES))
