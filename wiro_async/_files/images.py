"""How many pixels an image has, from its first bytes: PNG, JPEG, WebP and GIF. Nothing is decoded."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

__all__ = ["image_size"]

MOST_SEGMENTS = 200
"""How many segments of a JPEG are passed over: metadata are cut into pieces of 64 kB."""

_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""Markers of a JPEG among those of frames that are none: tables, and a reserved one."""


def image_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return the width and the height of an image, before any rotation (None: it is of another kind). Blocks.

    Args:
        file: The file, where the image begins. Where it stands afterwards is not told.
    """
    try:
        head = file.read(30)
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
            return _sized(*struct.unpack(">II", head[16:24]))
        if head.startswith((b"GIF87a", b"GIF89a")):
            return _sized(*struct.unpack("<HH", head[6:10]))
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp_size(head)
        if head.startswith(b"\xff\xd8\xff"):
            file.seek(2 - len(head), os.SEEK_CUR)
            return _jpeg_size(file)
    except (struct.error, OSError):  # It is cut off, or cannot be read; an upload tells.
        pass
    return None


def _sized(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if width and height else None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    kind, data = head[12:16], head[20:]
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", data[6:10])
        return _sized(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and data[:1] == b"\x2f":
        (bits,) = struct.unpack("<I", data[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(data) == 10:
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    return None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Pass over segments until one tells of the frame."""
    for _ in range(MOST_SEGMENTS):
        mark, kind = struct.unpack(">BB", file.read(2))
        if mark != 0xFF:
            break
        if kind == 0xFF:  # a byte that fills
            file.seek(-1, os.SEEK_CUR)
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= kind <= 0xCF and kind not in _NO_FRAME:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return _sized(width, height)
        file.seek(max(length - 2, 0), os.SEEK_CUR)
    return None
