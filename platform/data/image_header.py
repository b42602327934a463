"""Kind, size and cost of an encoded image, told from its markers: nothing is decoded, and hostile files end early.

Opening a file with Pillow reads all that stands before its pixels, which may be millions of segments, or a directory
of tags that each claim the whole file; and a JPEG may go over its pixels thousands of times. What a server takes from
strangers is looked at here first, in a time that its bytes bound.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

MOST_SEGMENTS = 20_000  # before the pixels, or of a PNG in all; encoders write some dozens, a large PNG thousands
MOST_SCANS = 100  # of a progressive JPEG; encoders write about ten
MOST_SCANNED_PIXELS = 600_000_000  # pixels times scans; encoders write 50 megapixels in ten scans
MOST_TAG_BYTES = 1_000_000  # that the tags of a directory claim
CHEAP_PIXELS = 12_000_000
CHEAP_JPEG_PIXELS = 25_000_000
CHEAP_SCANNED_PIXELS = 130_000_000
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # what ends coded pixels
_TURNED = (5, 6, 7, 8)
_TAG_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101


class UnknownFormat(ValueError):
    """It begins as no image that is known here."""


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself; width and height in pixels as it is shown, turned upright by its EXIF data.

    One that is cheap decodes in a fraction of a second, within memory that follows its pixels.
    """

    format: str
    width: int
    height: int
    is_cheap: bool


def read_header(data: bytes) -> ImageHeader:
    """What an encoded image says of itself.

    Raises UnknownFormat, or a ValueError for a header that is broken or says that decoding takes more than any image
    needs that is none made to hurt.
    """
    for beginnings, read in _READERS:
        if data.startswith(beginnings) and (read is not _webp or data[8:12] == b"WEBP"):
            try:
                return read(data)
            except (struct.error, IndexError):
                raise ValueError("image cannot be decoded: its header is cut short") from None
    raise UnknownFormat("image cannot be decoded: not of a format known here")


def _header(format: str, width: int, height: int, orientation: int, is_cheap: bool) -> ImageHeader:
    if width < 1 or height < 1:
        raise _broken(f"{width} x {height} pixels")
    if orientation in _TURNED:
        width, height = height, width
    return ImageHeader(format, width, height, is_cheap)


def _jpeg(data: bytes) -> ImageHeader:
    """Segments up to the first scan; where more may follow they are counted whether they stand in the first image or
    not, and only where that is too many one by one."""
    exif, is_light, frame, several, at = b"", True, None, 0, 2
    for _ in range(MOST_SEGMENTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            raise _broken("no scan")
        marker, begin = data[found.end() - 1], found.end()
        if marker == 0xDA:
            break
        if not 0xC0 <= marker <= 0xFE or marker in (0xD8, 0xD9) or 0xF0 <= marker <= 0xFD:
            at = begin
            continue
        (length,) = struct.unpack_from(">H", data, begin)
        at = begin + length
        if marker in _FRAMES:
            frame = struct.unpack_from(">HH", data, begin + 3)
            several = 256 if marker in _PROGRESSIVE else data[begin + 7]  # components that are more than the scan has
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", begin + 2):
            exif += data[begin + 8 : at]
        elif marker == 0xE2 and data.startswith(b"MPF\0", begin + 2):
            is_light = is_light and _read_tags(data[begin + 6 : at])[1]
    else:
        raise _broken(f"more than {MOST_SEGMENTS} segments")
    if frame is None:
        raise _broken("a scan without a frame")
    tags, exif_is_light = _read_tags(exif)
    pixels = frame[0] * frame[1]
    scans = 1
    if data[begin + 2] < several:
        scans = data.count(b"\xff\xda")
        if scans > MOST_SCANS or scans * pixels > MOST_SCANNED_PIXELS:
            scans = _count_scans(data, found.start())
        if scans > MOST_SCANS or scans * pixels > MOST_SCANNED_PIXELS:
            raise _broken(f"more scans than the {MOST_SCANS}, or fewer of many pixels, that are decoded")
    cheap = pixels <= CHEAP_JPEG_PIXELS and scans * pixels <= CHEAP_SCANNED_PIXELS and is_light and exif_is_light
    return _header("JPEG", frame[1], frame[0], tags.get(_ORIENTATION, 1), cheap)


def _count_scans(data: bytes, at: int) -> int:
    """Scans from a marker to the end of its image, or one more than allowed; others are of previews."""
    scans = 0
    while scans <= MOST_SCANS:
        found = _JPEG_MARKER.search(data, at)
        if found is None or data[found.end() - 1] == 0xD9:
            break
        scans += data[found.end() - 1] == 0xDA
        at = found.end() + (struct.unpack_from(">H", data, found.end())[0] if found.end() + 2 <= len(data) else 2)
    return scans


def _png(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 16)
    if data[12:16] != b"IHDR":
        raise _broken("no IHDR chunk at its begin")
    exif, at = b"", 8
    for _ in range(MOST_SEGMENTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf" and not exif:
            exif = data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            break
        at += 12 + length
    else:
        raise _broken(f"more than {MOST_SEGMENTS} chunks")
    tags, is_light = _read_tags(exif)
    return _header("PNG", width, height, tags.get(_ORIENTATION, 1), is_light and width * height <= CHEAP_PIXELS)


def _webp(data: bytes) -> ImageHeader:
    exif, at, size = b"", 12, None
    for _ in range(MOST_SEGMENTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if size is None:
            size = _webp_size(kind, data, at + 8)
        elif kind == b"EXIF" and not exif:
            exif = data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
        at += 8 + length + (length & 1)
    else:
        raise _broken(f"more than {MOST_SEGMENTS} chunks")
    if size is None:
        raise _broken("no chunk")
    tags, is_light = _read_tags(exif)
    return _header("WEBP", *size, tags.get(_ORIENTATION, 1), is_light and size[0] * size[1] <= CHEAP_PIXELS)


def _webp_size(kind: bytes, data: bytes, at: int) -> tuple[int, int]:
    """(width, height) by the first chunk: of a canvas, a lossless or a lossy image."""
    if kind == b"VP8X":
        wide, high = data[at + 4 : at + 7], data[at + 7 : at + 10]
        if len(high) < 3:
            raise _broken("its header is cut short")
        return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, at + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    raise _broken(f"a first chunk {kind!r}")


def _gif(data: bytes) -> ImageHeader:
    """Of the screen, or of the first frame where that reaches beyond."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in range(MOST_SEGMENTS):
        kind = data[at]
        if in_extension:  # a block of its data, by its length; the last one is empty
            at, in_extension = at + 1 + kind, kind > 0
        elif kind == 0x2C:
            left, top, wide, high = struct.unpack_from("<HHHH", data, at + 1)
            return _header("GIF", max(width, left + wide), max(height, top + high), 1, False)
        elif kind == 0x3B:
            raise _broken("no frame")
        else:
            at, in_extension = (at + 2, True) if kind == 0x21 else (at + 1, False)
    raise _broken(f"more than {MOST_SEGMENTS} blocks")


def _bmp(data: bytes) -> ImageHeader:
    (length,) = struct.unpack_from("<I", data, 14)
    if length == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return _header("BMP", width, height, 1, width * height <= CHEAP_PIXELS)
    width, height = struct.unpack_from("<ii", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    # Packed ones are unpacked by Python, pixel by pixel.
    is_cheap = compression in (0, 3) and abs(width * height) <= CHEAP_PIXELS
    return _header("BMP", abs(width), abs(height), 1, is_cheap)


def _tiff(data: bytes) -> ImageHeader:
    tags, is_light = _read_tags(data)
    if not is_light:
        raise _broken(f"tags that claim more than {MOST_TAG_BYTES} bytes and the file together")
    return _header("TIFF", tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0), tags.get(_ORIENTATION, 1), False)


def _read_tags(block: bytes) -> tuple[dict[int, int], bool]:
    """Size and orientation of the first directory of a TIFF file or EXIF block, and whether its tags together claim
    no more bytes than the block has and a million; of a damaged one what can be read."""
    tags: dict[int, int] = {}
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return tags, True
    is_big = block[2:4] in (b"+\0", b"\0+")
    count, entry, inline = ("Q", "HHQ8s", 8) if is_big else ("H", "HHI4s", 4)
    claimed = 0
    try:
        at = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", block, 8 if is_big else 4)[0]
        (number,) = struct.unpack_from(order + count, block, at)
        at += struct.calcsize(order + count)
        for _ in range(min(number, MOST_SEGMENTS)):
            tag, kind, length, value = struct.unpack_from(order + entry, block, at)
            at += struct.calcsize(order + entry)
            size = _TAG_SIZES.get(kind, 0) * length
            claimed += size if size > inline else 0
            if tag in (_ORIENTATION, _WIDTH, _HEIGHT) and length == 1 and kind in (1, 3, 4, 16):
                tags[tag] = struct.unpack_from(order + {1: "B", 3: "H", 4: "I", 16: "Q"}[kind], value)[0]
        is_light = number <= MOST_SEGMENTS and claimed <= MOST_TAG_BYTES + len(block)
    except struct.error:
        is_light = claimed <= MOST_TAG_BYTES + len(block)
    return tags, is_light


def _broken(reason: str) -> ValueError:
    return ValueError(f"image cannot be decoded: {reason}")


_READERS = (
    ((b"\xff\xd8\xff",), _jpeg),
    ((b"\x89PNG\r\n\x1a\n",), _png),
    ((b"RIFF",), _webp),
    ((b"GIF87a", b"GIF89a"), _gif),
    ((b"BM",), _bmp),
    ((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+"), _tiff),
)
