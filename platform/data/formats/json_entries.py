"""The entries of the lists of a JSON object one at a time, as json.loads would give them, for files larger than memory.

The parser is Python's own, called for one value after the other: a file means here what it means when it is read whole.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

CHUNK = 2**20  # letters read at once
BEHIND_VALUES = frozenset(",]}: \t\n\r")
_SPACE = re.compile(r"[ \t\n\r]*")


class NotStreamableError(Exception):
    """The file is not what can be read in parts: not JSON, no object at its top, a list that stands twice or is none.

    Who reads it whole finds out what it is.
    """


def stream_lists(path: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(key, entry) of every entry of the lists under the keys wanted, in the order of the file.

    NotStreamableError where the file has another form, at the place where it has; a file read to its end has none.
    OSError where it cannot be read.
    """
    with path.open("rb") as raw:
        encoding = json.detect_encoding(raw.read(4))
        raw.seek(0)
        text = io.TextIOWrapper(raw, encoding, "surrogatepass", newline="")
        try:
            yield from _Scanner(text).lists(wanted)
        except (ValueError, RecursionError) as error:
            raise NotStreamableError(str(error)) from None


class _Scanner:
    """A window on the text: what lies before the value that is read is forgotten."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._window = ""
        self._at = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def lists(self, wanted: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        found: set[str] = set()
        for key in self._keys():
            if key not in wanted:
                self._value()
                continue
            if key in found:
                raise ValueError(f"{key!r} stands twice")
            found.add(key)
            yield from ((key, entry) for entry in self._list())
        if found != set(wanted) or self._next():
            raise ValueError("a list is missing, or something follows the end")

    def _keys(self) -> Iterator[str]:
        if self._next() == "}":
            self._at += 1
            return
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise ValueError("a key is no text")
            self._expect(":")
            yield key
            if self._expect(",}") == "}":
                return

    def _list(self) -> Iterator[Any]:
        self._expect("[")
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._expect(",]") == "]":
                return

    def _next(self) -> str:
        """The letter after any space; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._window, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._window) or not self._read_on():
                return self._window[self._at : self._at + 1]

    def _expect(self, letters: str) -> str:
        found = self._next()
        if not found or found not in letters:
            raise ValueError(f"{found!r} in place of one of {letters!r}")
        self._at += 1
        return found

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decode(self._window, self._at)
            except ValueError:
                if not self._read_on():
                    raise
                continue
            # a number at the edge of the window may have more digits behind it
            if self._window[end : end + 1] in BEHIND_VALUES or not self._read_on():
                self._at = end
                return value

    def _read_on(self) -> bool:
        """Whether there was more to read. Each time as much again as is held: no value is tried too often."""
        if self._ended:
            return False
        more = self._text.read(max(CHUNK, len(self._window) - self._at))
        self._window = self._window[self._at :] + more
        self._at = 0
        self._ended = not more
        return not self._ended
