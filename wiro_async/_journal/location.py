"""Where a journal may be: in a plain file of its own, on a disk of this machine, with its own -wal file.

Blocking; for one thread.
"""

from __future__ import annotations

import mmap
import os
import re
import sqlite3
import stat
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from wiro_async._errors import JournalError

__all__ = [
    "MARK", "Mark", "check_place", "check_whole", "identity", "keep_private", "kept_wal", "make_file",
    "network_mount", "resolved", "unusable", "wal_id",
]  # fmt: skip

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
        "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs",
        "fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph", "fuse.ceph-fuse", "fuse.curlftpfs", "fuse.davfs2",
        "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mount-s3", "fuse.rclone",
        "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs",
    }
)  # fmt: skip
"""Where locks and fsync may not keep the promises that they keep on a disk."""


def unusable(path: str, reason: str, message: str) -> JournalError:
    """Return the error that says what is the matter with a journal."""
    return JournalError(f"the journal {path[:300]!r} {message}", path=path, reason=reason)


def resolved(path: str | os.PathLike[str]) -> str:
    """Return the absolute path without symbolic links: SQLite puts its -wal file beside the real one.

    Raises:
        JournalError: No file can have that name.
    """
    name = os.fspath(path)
    try:
        return os.path.realpath(name)
    except ValueError as error:
        raise unusable(name, "missing", f"has a name that no file can have ({error}); give another") from None


def network_mount(mounts: str, path: str) -> str:
    """Return the type of the network file system that a path is on ("" for a local one).

    Args:
        mounts: What ``/proc/mounts`` says.
        path: An absolute path without symbolic links.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        # Of two mounts on one point the later hides the earlier.
        if f"{path}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind if kind in NETWORK_FILE_SYSTEMS else ""


def check_place(path: str, mounts: str) -> None:
    """Refuse what is no plain file of its own on a local disk.

    Args:
        path: The resolved path.
        mounts: The file that lists the mounted file systems, where the system has one.

    Raises:
        JournalError: It is something else.
        OSError: The system does not tell.
    """
    table = ""
    with suppress(OSError):
        table = Path(mounts).read_text("utf-8", "surrogateescape")
    kind = network_mount(table, path)
    if kind:
        raise unusable(
            path,
            "network",
            f"is on {kind}, where locks and writes may not hold; put it on a disk of this machine",
        )
    try:
        facts = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(facts.st_mode):
        raise unusable(path, "foreign", "is a folder or a device; give the name of a file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise unusable(path, "readonly", "cannot be read and written by this user; change the file's rights")
    if facts.st_nlink > 1:
        raise unusable(
            path,
            "foreign",
            f"has {facts.st_nlink} names (hard links), each with a -wal file of its own; copy it instead",
        )


def make_file(path: str, *, create: bool) -> None:
    """Make the file if it is not there: for its owner only, because the tasks' tokens are in it.

    Raises:
        JournalError: It is not there, and is not to be made or cannot be.
        OSError: The system refuses.
    """
    file = Path(path)
    if _size(file):
        return
    if _size(Path(f"{path}-wal")):
        # SQLite would delete it.
        raise unusable(
            path,
            "corrupt",
            "is missing or empty, but its -wal file is there, with the last writes of a journal: put the "
            "journal back beside it, or move that file away",
        )
    if file.exists():
        return
    if not create:
        raise unusable(path, "missing", "does not exist; check the path")
    if not file.parent.is_dir():
        raise unusable(path, "missing", "is in a folder that does not exist; make the folder first")
    # Where another process has made it meanwhile, its lock decides.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    _sync_folder(file.parent)


def keep_private(path: str) -> None:
    """Take away what rights others have to a journal that was there before; on Windows it changes nothing.

    The files are named, not opened: to close one would drop the process's locks on it.

    Raises:
        JournalError: Others can read or write it, and this user cannot change that.
    """
    for file in (Path(path), Path(f"{path}-wal")):
        rights = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0
        if not rights & 0o077:
            continue
        try:
            file.chmod(rights & 0o700)
        except OSError as error:
            raise unusable(
                path,
                "readonly",
                f"is open to other users ({rights:03o}), with tokens in it, and this user cannot change that "
                f"({error.strerror}); let its owner run chmod 600 on it, or put it on another disk",
            ) from error


def identity(path: str) -> tuple[object, ...]:
    """Return what tells a journal's two files from others of their names; None for one that is not there."""
    return tuple(_file_number(name) for name in (path, f"{path}-wal"))


def _file_number(name: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(name)  # noqa: PTH116 - often: a Path would cost as much again
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _sync_folder(folder: Path) -> None:
    """Make the file's name durable. A folder that cannot be opened (as on Windows) is left to the system."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- whether its two files belong together -----------------------------------------------------------------

# While a journal is open, its last writes are in its -wal file alone. The main file says so itself, in a row
# of "meta", so that it cannot be taken for the whole journal where the other file was left behind:
#
#     open 1a2b3c4d       it needs the -wal file of this id
#     opening 1a2b3c4d    only within a -wal file: it was begun on the file that was closed with this id
#     closed 1a2b3c4d     it is whole
#
# The id of a -wal file is its first salt less its checkpoint sequence number. Both are in the header that
# SQLite's file format documents; both grow by one with each checkpoint, so that their difference lasts as
# long as the file.

MARK = "wal"
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
        if Path(f"{path}-wal-kept").exists():
            name = Path(path).name
            problem = (
                f"{problem}; {name}-wal-kept may be it, if closing was cut short: rename it to {name}-wal"
            )
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
            found = alone.execute("SELECT value FROM meta WHERE name = ?", (MARK,)).fetchone()
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
    """Keep a -wal file that SQLite would remove on closing, while the main file says that it is needed."""
    wal, kept = Path(f"{path}-wal"), Path(f"{path}-wal-kept")
    with suppress(OSError):
        # An earlier process may have left one, of another -wal file.
        kept.unlink(missing_ok=True)
        os.link(wal, kept)
    try:
        yield
    finally:
        with suppress(OSError):
            if wal.exists():
                kept.unlink()
            else:
                kept.rename(wal)
