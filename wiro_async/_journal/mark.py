"""Whether a journal's two files belong together. Blocking; for one thread.

While a journal is open, its last writes are in its ``-wal`` file alone. The main file says so itself, in a row
of ``meta``, so that it cannot be taken for the whole journal where the other file was left behind:

    open 1a2b3c4d       it needs the -wal file of this id
    opening 1a2b3c4d    only within a -wal file: it was begun on the file that was closed with this id
    closed 1a2b3c4d     it is whole

The id of a -wal file is its first salt less its checkpoint sequence number. Both are in the header that
SQLite's file format documents; both grow by one with each checkpoint, so that their difference lasts as long
as the file.
"""

from __future__ import annotations

import mmap
import os
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from wiro_async._errors import JournalError
from wiro_async._journal.location import unusable

__all__ = ["NAME", "Mark", "check_whole", "kept_wal", "wal_id"]

NAME = "wal"
"""The mark's name in ``meta``."""

_HEADER = struct.Struct(">IIIIIIII")
"""The header of a -wal file: magic, version, page size, checkpoint sequence number, two salts, two sums."""

_FRAME_HEADER = 24
"""Bytes before each page in a -wal file."""

_ADVICE = (
    "If the file was copied or moved, put its own -wal file beside it. If a program such as sqlite3 or DB "
    "Browser has opened it since its batch was killed, that program has moved the -wal file into it: then "
    "`wiro journal accept` compares it with the account's tasks and confirms it. An older copy lacks runs "
    "that would be paid again"
)


class Mark(NamedTuple):
    """What a main file says of its -wal file.

    Attributes:
        state: ``open``, ``opening`` or ``closed`` ("" where nothing is said: it is new, or of version 1).
        wal: The id of the -wal file.
    """

    state: str
    wal: str

    def __str__(self) -> str:
        return f"{self.state} {self.wal}"


def check_whole(path: str, *, accepted: bool = False) -> Mark:
    """Refuse a main file without its -wal file, or with another's, before SQLite sees either.

    SQLite would take the one for a whole database, and mix the other into it.

    Args:
        path: The main file. This process must not have it open: that would drop its locks.
        accepted: Whether somebody has confirmed that nothing is missing from it.

    Returns:
        The mark of the main file alone.

    Raises:
        JournalError: ``apart``: they do not belong together.
    """
    while True:
        mark = _read_mark(path)
        wal = wal_id(path)
        if mark.state == "" or (wal and _is_same(mark.wal, wal)):
            return mark
        if not wal and (accepted or mark.state != "open"):
            return mark
        if mark.state != "open" and _was_opened_on(path, mark):
            return mark
        # Where another process opens or closes it just now, what was read first may be over.
        if _read_mark(path) == mark and wal_id(path) == wal:
            raise _apart(path, mark, wal)


def _is_same(noted: str, found: str) -> bool:
    """Tell whether an id is the one that was noted.

    A power cut while the header is written may leave the new sequence number with the old salt.
    """
    return (int(noted, 16) - int(found, 16)) % 2**32 in (0, 1)


def _apart(path: str, mark: Mark, wal: str) -> JournalError:
    if not wal:
        problem = "was open when it was last written, and its -wal file, with the last writes, is not here"
        return unusable(path, "apart", f"{problem}. {_ADVICE}")
    if mark.state == "open":
        problem = "was open when it was last written, and the -wal file beside it is another's"
        return unusable(path, "apart", f"{problem}. Move that file away, but do not delete it. {_ADVICE}")
    return unusable(
        path,
        "apart",
        "was closed when it was last written, but beside it is a -wal file that is not its own: perhaps the "
        "last writes of a newer journal of this name, over which an older copy was put. Put back the newer "
        "one if so; else move the -wal file away",
    )


def _read_mark(path: str) -> Mark:
    """Read the mark from the main file alone, as if there were no -wal file.

    What cannot be read has no mark: opening it will say what is the matter.
    """
    try:
        with closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro&immutable=1", uri=True)) as alone:
            found = alone.execute("SELECT value FROM meta WHERE name = ?", (NAME,)).fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        return Mark("", "")
    match = re.fullmatch(r"(open|opening|closed) ([0-9a-f]{8})", str(found[0])) if found else None
    return Mark(match[1], match[2]) if match else Mark("", "")


def wal_id(path: str) -> str:
    """Return the id of the -wal file beside a main file ("" if it is missing, or has no page in it).

    Raises:
        OSError: The system refuses.
    """
    header = _wal_header(path)
    return "" if header is None else f"{(header[4] - header[3]) % 2**32:08x}"


def _wal_header(path: str) -> tuple[int, ...] | None:
    try:
        with Path(f"{path}-wal").open("rb") as file:
            head = file.read(_HEADER.size)
            size = file.seek(0, 2)
    except FileNotFoundError:
        return None
    if len(head) < _HEADER.size:
        return None
    header = _HEADER.unpack(head)
    return header if size >= _HEADER.size + _FRAME_HEADER + header[2] else None


def _was_opened_on(path: str, mark: Mark) -> bool:
    """Tell whether a -wal file was begun on this very main file, and then cut off before that could be noted.

    Such a file was never checkpointed, and has what opening a journal writes.
    """
    header = _wal_header(path)
    if header is None or header[3]:
        return False
    with Path(f"{path}-wal").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(str(mark._replace(state="opening")).encode()) >= 0


@contextmanager
def kept_wal(path: str) -> Iterator[None]:
    """Keep a -wal file that SQLite would remove on closing: where the main file still says that it needs it."""
    wal, kept = Path(f"{path}-wal"), Path(f"{path}-wal-kept")
    with suppress(OSError):
        os.link(wal, kept)
    try:
        yield
    finally:
        with suppress(OSError):
            if wal.exists():
                kept.unlink()
            else:
                kept.rename(wal)
