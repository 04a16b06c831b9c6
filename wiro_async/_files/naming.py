"""File names and file types: names from elsewhere are made harmless and kept distinct. Pure."""

from __future__ import annotations

import hashlib
import mimetypes
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from wiro_async._protocol.records import Output

__all__ = [
    "HEAD", "KINDS", "Kind", "extension_by", "extension_of", "folder_names", "is_page",
    "retyped", "safe_name", "upload_name",
]  # fmt: skip


class Kind(NamedTuple):
    """A kind of file that can be told by its first bytes.

    Attributes:
        extension: The extension of such files.
        media_types: The media types whose files always begin so.
        offset: Where in the file the mark stands.
        marks: The marks, one of which is there.
    """

    extension: str
    media_types: frozenset[str]
    offset: int
    marks: tuple[bytes, ...]


HEAD = 64
"""Leading bytes that tell the kind of a file."""

KINDS: tuple[Kind, ...] = (
    Kind(".png", frozenset({"image/png"}), 0, (b"\x89PNG\r\n\x1a\n",)),
    Kind(".jpg", frozenset({"image/jpeg"}), 0, (b"\xff\xd8\xff",)),
    Kind(".gif", frozenset({"image/gif"}), 0, (b"GIF87a", b"GIF89a")),
    Kind(".webp", frozenset({"image/webp"}), 8, (b"WEBP",)),
    Kind(".wav", frozenset({"audio/wav", "audio/x-wav"}), 8, (b"WAVE",)),
    Kind(".webm", frozenset({"video/webm", "video/x-matroska"}), 0, (b"\x1a\x45\xdf\xa3",)),
    # Some PDFs have other bytes before the mark, so no file is refused for want of it.
    Kind(".pdf", frozenset(), 0, (b"%PDF",)),
    Kind(".avif", frozenset({"image/avif"}), 4, (b"ftypavif", b"ftypavis")),
    Kind(
        ".mp4",
        frozenset({"video/mp4", "video/quicktime"}),
        4,
        (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"),
    ),
)
"""The kinds of file that models read and make. Outputs are named by the same table."""

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that Windows keeps for devices, with any extension."""


def extension_by(head: bytes) -> str:
    """Return the extension of a file that begins with *head* (".bin": its kind is not known)."""
    for kind in KINDS:
        if head[kind.offset :].startswith(kind.marks):
            return kind.extension
    return ".bin"


def extension_of(content_type: str) -> str:
    """Return the extension of a media type's files (".bin": the type is not known)."""
    return mimetypes.guess_extension(content_type) or ".bin"


def is_page(head: bytes) -> bool:
    """Return whether a file that begins with *head* is a web page, as an edge sends it in place of a file."""
    return head.lstrip().lower().startswith((b"<!doctype html", b"<html"))


def safe_name(output: Output) -> str | None:
    """Return the file name of *output* in a folder: ``{task_id}_{name}``, of harmless characters only.

    Returns:
        None if the service's name would leave the folder: such a name is hostile, and is not repaired.
    """
    name = output.name
    if any(character in name for character in "/\\\0") or name in (".", ".."):
        return None
    clean = re.sub(r"[^\w.()+,=@ -]", "_", name).strip(" .")
    if clean:
        stem, extension = _split(clean)
        if len(extension) > 11 or not extension.isascii():
            stem, extension = clean, ""
        if clean != name or len(stem.encode()) > 60:
            # A digest keeps two names distinct that differ only in what was replaced or cut off.
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            stem = f"{stem.encode()[:51].decode(errors='ignore')}-{digest}"
        name = f"{stem}{extension}"
    else:
        name = f"{output.index}{extension_of(output.content_type)}"
    task = re.sub(r"[^A-Za-z0-9-]", "_", output.task_id)[:60]
    name = f"{task}_{name}" if task else name
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def folder_names(outputs: Iterable[Output]) -> list[str | None]:
    """Return the file names of outputs that go into one folder: as ``safe_name``, and no two alike.

    An output whose name is taken gets its index added, so the same outputs get the same names each time.
    """
    names: list[str | None] = []
    taken: set[str] = set()
    for output in outputs:
        name = safe_name(output)
        names.append(None if name is None else _free_name(name, output.index, taken))
    return names


def retyped(name: str, extension: str, index: int, taken: set[str]) -> str:
    """Return a name in a folder with another extension, unlike the others there.

    Args:
        name: The name, as ``folder_names`` gave it.
        extension: What the file turned out to be.
        index: The output's place among the task's.
        taken: The other names; it is added.
    """
    folded = {_folded(other) for other in taken}
    taken.add(free := _free_name(f"{_split(name)[0]}{extension}", index, folded))
    return free


def _free_name(name: str, index: int, taken: set[str]) -> str:
    """Return *name*, with the index added if it is taken, and take it; *taken* has folded names."""
    while _folded(name) in taken:
        stem, extension = _split(name)
        name = f"{stem}-{index}{extension}"
    taken.add(_folded(name))
    return name


def upload_name(name: str, salt: str) -> str:
    """Return *name* with only harmless characters, at most 100 of them, and *salt* before its extension."""
    stem, extension = _split(re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "file")
    return f"{stem[:70]}-{salt}{extension[:12]}"


def _split(name: str) -> tuple[str, str]:
    """Return what stands before a name's extension, and the extension with its dot ("": it has none)."""
    stem, _, extension = name.rpartition(".")
    return (stem, f".{extension}") if stem and extension else (name, "")


def _folded(name: str) -> str:
    """Return what is equal for names that some file systems take for one: Clip.mp4 and clip.mp4."""
    return unicodedata.normalize("NFC", name).casefold()
