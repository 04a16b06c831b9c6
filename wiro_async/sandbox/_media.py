"""Stand-in files, made of nothing but bytes. Pure."""

from __future__ import annotations

import functools
import struct
import zlib

__all__ = ["ImageRejected", "canned_clip", "padded_png", "plain_png"]


class ImageRejected(ValueError):
    """The image breaks a rule of the service; the message names the rule and the value."""


def canned_clip(marker: str) -> bytes:
    """A tiny MP4 without frames: the boxes are in order, and ``marker`` makes every clip's bytes its own."""
    header = struct.pack(">4I", 0, 0, 1000, 6000) + struct.pack(">IHxx8x", 0x00010000, 0x0100)
    matrix = struct.pack(">9I", 0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000)
    movie = _box(b"mvhd", bytes(4) + header + matrix + bytes(24) + struct.pack(">I", 1))
    brand = _box(b"ftyp", b"isom" + struct.pack(">I", 0x200) + b"isomiso2mp41")
    return brand + _box(b"moov", movie) + _box(b"free", marker.encode()) + _box(b"mdat", b"")


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


@functools.cache
def plain_png(width: int = 1280, height: int = 720, rgb: tuple[int, int, int] = (38, 70, 110)) -> bytes:
    """A PNG of one colour: the first frame of a video that was asked for without an image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\x00" + bytes(rgb) * width) * height
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows, 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def padded_png(size: int) -> bytes:
    """A small PNG of exactly so many bytes, at least 200: a chunk that readers skip fills it up."""
    picture = plain_png(64, 64)
    head, end = picture[:-12], picture[-12:]
    return head + _chunk(b"paDd", bytes(size - len(picture) - 12)) + end


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
