"""The pixels of an image from its first bytes, and nothing else of it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from wiro_async import InvalidInput
from wiro_async._files.images import MOST_SEGMENTS, image_size
from wiro_async._files.upload import look_at

PHOTOS = Path(__file__).parents[2] / "wiro_async" / "sandbox" / "images"


def png(width: int, height: int, kind: bytes = b"IHDR") -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, kind, width, height) + b"\x08\2\0\0\0"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\xf7\0\0"


def webp(kind: bytes, data: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + data


def segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data


def jpeg(width: int, height: int, *before: bytes, kind: int = 0xC0) -> bytes:
    return b"\xff\xd8" + b"".join(before) + segment(kind, struct.pack(">BHHB", 8, height, width, 3))


LOSSY = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640 | 0x4000, 360)
LOSSLESS = b"\x2f" + struct.pack("<I", 639 | 359 << 14 | 1 << 28) + bytes(5)
EXTENDED = bytes(4) + (639).to_bytes(3, "little") + (359).to_bytes(3, "little")
EXIF, TABLE = segment(0xE1, bytes(60_000)), segment(0xC4, bytes(30))


@pytest.mark.parametrize(
    "image",
    [
        png(640, 360),
        gif(640, 360),
        gif(640, 360).replace(b"89a", b"87a"),
        webp(b"VP8 ", LOSSY),
        webp(b"VP8L", LOSSLESS),
        webp(b"VP8X", EXTENDED),
        jpeg(640, 360),
        jpeg(640, 360, EXIF, EXIF, TABLE, kind=0xC2),
        jpeg(640, 360, b"\xff\xff\xff" + EXIF[1:]),
    ],
    ids=["png", "gif", "gif87", "webp", "lossless", "extended", "jpeg", "progressive", "filled"],
)
def test_the_size_of_an_image_is_in_its_first_bytes(image: bytes) -> None:
    """Of the kinds that models take; whatever metadata come before."""
    assert image_size(io.BytesIO(image)) == (640, 360)
    # Where it begins may be in the middle of a file.
    file = io.BytesIO(b"before" + image)
    file.seek(6)
    assert image_size(file) == (640, 360)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"waves", b"BM6\0\0\0", b"\x89PNG\r\n\x1a\n", png(640, 360)[:20], png(640, 360, b"CgBI"),
        png(0, 7),
        gif(640, 0), gif(1, 1)[:8], webp(b"VP8 ", bytes(10)), webp(b"VP8L", bytes(10)), webp(b"VP8X", b""),
        webp(b"ANIM", LOSSY), b"\xff\xd8\xff", jpeg(640, 360)[:-4], b"\xff\xd8\xff\xe1\0\2waves",
        jpeg(0, 360), jpeg(640, 360, *[segment(0xE1, b"")] * MOST_SEGMENTS), b"\xff\xd8" + b"\xff" * 100_000,
    ],
)  # fmt: skip
def test_what_cannot_be_read_has_no_size(content: bytes) -> None:
    """It is not judged then."""
    assert image_size(io.BytesIO(content)) is None


def test_a_file_that_fails_has_no_size() -> None:
    """Its upload tells why."""

    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError("Input/output error")

    assert image_size(Broken()) is None


@given(
    st.sampled_from([png(1, 1), gif(1, 1), webp(b"VP8 ", LOSSY), jpeg(1, 1, TABLE)]), st.binary(max_size=60)
)
@examples(200)
def test_no_bytes_break_it(begin: bytes, more: bytes) -> None:
    """Cut off, and gone on with, anywhere."""
    for length in range(len(begin) + 1):
        size = image_size(io.BytesIO(begin[:length] + more))
        assert size is None or min(size) > 0


def test_real_photographs_are_read() -> None:
    """Those that come with the sandbox."""
    sizes = [look_at(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    assert sizes
    assert all(size is not None and min(size) > 300 for size in sizes)


def test_an_open_file_is_left_where_it_was() -> None:
    """An upload sends it from there; one that stands at its end is sent from its beginning."""
    file = io.BytesIO(b"before" + png(3, 4))
    file.seek(6)
    assert look_at(file) == (3, 4)
    assert file.tell() == 6
    whole = io.BytesIO(gif(5, 6))
    whole.seek(0, io.SEEK_END)
    assert look_at(whole) == (5, 6)
    assert whole.tell() == 0


def test_what_cannot_be_uploaded_is_refused(tmp_path: Path) -> None:
    """In the words of the upload."""
    (tmp_path / "empty.png").touch()
    with pytest.raises(InvalidInput, match=r"'empty\.png' is empty; there is nothing to upload"):
        look_at(tmp_path / "empty.png")
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        look_at(tmp_path / "none.png")
