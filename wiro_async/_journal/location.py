"""Where a journal may be: in a plain file of its own, on a disk of this machine. Blocking; for one thread."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from wiro_async._errors import JournalError

__all__ = ["check_place", "identity", "keep_private", "make_file", "network_mount", "resolved", "unusable"]

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
