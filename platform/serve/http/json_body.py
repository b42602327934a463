"""The JSON body of a prediction, read from the left and refused at its first mistake.

A parser of whatever JSON there is builds the whole tree before anybody looks at it: 26 megabytes of empty objects
become 700. Here nothing is kept but the images and options that a request may have, and no more images than allowed.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator
from typing import Any

from maskray.platform.serve.http.parameters import NAMES
from maskray.platform.serve.http.request_checks import RequestError, too_large, too_many

FIELD = "image"
LIST_FIELD = "images"
DATA_FIELD = "data"
LONGEST_SCALAR = 1000  # letters of an option; and of a key, which is quoted in the refusal
_SPACE = re.compile(rb"[ \t\n\r]*")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: keeps nothing to go back to
_LITERAL = re.compile(rb"-?[0-9.eE+-]+|true|false|null")
_MARK = b"\xef\xbb\xbf"


class JsonImages:
    """What a JSON body holds: encoded images in their order, options, and whether the images stood in a list."""

    def __init__(self, text: bytes, max_bytes: int, max_images: int) -> None:
        """Raises RequestError: 422 for what is not such a body, 413 for more images, or bytes of them, than allowed."""
        self.images: list[bytes] = []
        self.options: dict[str, Any] = {}
        self.is_list = False
        self._text = text
        self._at = len(_MARK) if text.startswith(_MARK) else 0
        self._left = self._max_bytes = max_bytes
        self._max_images = max_images
        self._read()

    def _read(self) -> None:
        if self._look() != b"{":
            self._refuse_unless_json()
            raise RequestError(422, f"the body is not a JSON object with {FIELD} or {LIST_FIELD}")
        known = (FIELD, LIST_FIELD, *NAMES)
        seen: set[str] = set()
        for name in self._keys("", known, seen):
            if name in NAMES:
                self.options[name] = self._scalar()
            elif name == FIELD:
                self._image(FIELD)
            else:
                self._image_list()
        if self._look():
            raise self._broken("there is more after its end")
        if (FIELD in seen) == (LIST_FIELD in seen):
            raise RequestError(422, f"a JSON body has either {FIELD} or {LIST_FIELD}")

    def _keys(self, where: str, known: tuple[str, ...], seen: set[str]) -> Iterator[str]:
        """The keys of the object that begins here, each known and new; the caller reads the value of each."""
        self._expect(b"{")
        if self._take(b"}"):
            return
        while True:
            name = self._string(LONGEST_SCALAR).decode("utf-8", "replace")
            if name in seen:
                raise self._broken(f"key {name[:100]!r} stands twice")
            if name not in known:
                raise RequestError(422, f"{where}unknown key {name[:100]!r}; there {_are(known)}")
            seen.add(name)
            self._expect(b":")
            yield name
            if not self._take(b","):
                break
        self._expect(b"}")

    def _image_list(self) -> None:
        self.is_list = True
        if not self._take(b"[") or self._look() == b"]":
            raise RequestError(422, f"{LIST_FIELD} is a list of at least one image")
        while True:
            if len(self.images) >= self._max_images:
                raise too_many(self._max_images)
            self._image(f"{LIST_FIELD}.{len(self.images)}")
            if not self._take(b","):
                break
        self._expect(b"]")

    def _image(self, where: str) -> None:
        """An image: base64 text, or an object with that text under `data`."""
        wanted = f"{where}: an image is text in base64, or an object with such text under {DATA_FIELD}"
        before = len(self.images)
        if self._look() == b"{":
            for _ in self._keys(f"{where}: ", (DATA_FIELD,), set()):
                self._base64(where, wanted)
        else:
            self._base64(where, wanted)
        if len(self.images) == before:
            raise RequestError(422, wanted)

    def _base64(self, where: str, wanted: str) -> None:
        if self._look() != b'"':
            raise RequestError(422, wanted)
        try:
            image = binascii.a2b_base64(self._string(len(self._text)), strict_mode=True)
        except binascii.Error:
            raise RequestError(422, f"{where}: not base64") from None
        self._left -= len(image)
        if self._left < 0:
            raise too_large(self._max_bytes)
        self.images.append(image)

    def _scalar(self) -> Any:
        """A number, text, true, false or null; what is none of them is refused by the check of the options."""
        if self._look() == b'"':
            return self._string(LONGEST_SCALAR).decode("utf-8", "replace")
        if self._look() in (b"[", b"{"):
            self._at += 1
            return []
        found = _LITERAL.match(self._text, self._at, self._at + LONGEST_SCALAR)
        if found is None:
            raise self._broken(f"no value at byte {self._at}")
        self._at = found.end()
        try:
            return json.loads(found.group())
        except ValueError:
            raise self._broken(f"no value at byte {found.start()}") from None

    def _string(self, longest: int) -> bytes:
        """The text that begins here, as UTF-8."""
        is_text = self._look() == b'"'
        begin = self._at + 1
        end = self._text.find(b'"', begin, begin + longest + 1) if is_text else -1
        if end >= 0 and self._text.find(b"\\", begin, end) < 0:  # as base64 mostly is, found at the speed of memory
            self._at = end + 1
            return self._text[begin:end]
        found = _TEXT.match(self._text, self._at, begin + longest + 1)
        if found is None:
            raise self._broken(f"no text, or one too long or without an end, at byte {self._at}")
        self._at = found.end()
        try:
            return str(json.loads(found.group())).encode("utf-8", "replace")
        except ValueError as error:
            raise self._broken(str(error)) from None

    def _look(self) -> bytes:
        found = _SPACE.match(self._text, self._at)
        assert found is not None, "space may be nothing"
        self._at = found.end()
        return self._text[self._at : self._at + 1]

    def _take(self, letter: bytes) -> bool:
        if self._look() != letter:
            return False
        self._at += 1
        return True

    def _expect(self, letter: bytes) -> None:
        if not self._take(letter):
            raise self._broken(f"{letter.decode()} expected at byte {self._at}")

    def _refuse_unless_json(self) -> None:
        """Tell what is no JSON at all from a JSON value of another kind, by its first letter."""
        if self._look() not in (b"[", b'"') and _LITERAL.match(self._text, self._at) is None:
            raise self._broken(f"no value at byte {self._at}")

    def _broken(self, reason: str) -> RequestError:
        return RequestError(422, f"the body is not JSON: {' '.join(reason.split())[:200]}")


def _are(known: tuple[str, ...]) -> str:
    return f"{'is' if len(known) == 1 else 'are'} {', '.join(known)}"
