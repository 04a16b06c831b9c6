"""Stand-in files."""

from __future__ import annotations

import io
import struct

from PIL import Image

from wiro_async.sandbox._media import canned_clip, plain_png


def test_a_canned_clip_is_a_chain_of_boxes() -> None:
    """Each box's length leads to the next, and the last ends with the file."""
    clip, kinds, at = canned_clip("marker"), [], 0
    while at < len(clip):
        length, kind = struct.unpack_from(">I4s", clip, at)
        kinds.append(kind)
        at += length
    assert (kinds, at) == ([b"ftyp", b"moov", b"free", b"mdat"], len(clip))


def test_canned_clips_differ_by_their_marker() -> None:
    """So that a test notices when two downloads are mixed up."""
    assert canned_clip("a") != canned_clip("b")


def test_a_plain_picture_is_a_png_of_its_size() -> None:
    """Other programs can read it."""
    picture = Image.open(io.BytesIO(plain_png(64, 48, (1, 2, 3))))
    picture.load()
    assert (picture.format, picture.size, picture.getpixel((9, 9))) == ("PNG", (64, 48), (1, 2, 3))
