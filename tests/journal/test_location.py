"""Where a journal may be, and what is done to a file that it may be in."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.journals import databases_are_closed as databases_are_closed
from tests.journals import intend, opened
from wiro_async import JournalError

MOUNTS = r"""
/dev/vda / ext4 rw 0 0
host:/home {root}/home nfs4 rw 0 0
/dev/vdb {root}/home/local ext4 rw 0 0
//box/share {root}/mnt/my\040share cifs rw 0 0
user@host: {root}/home/me/remote fuse.sshfs rw 0 0
auto {root}/auto autofs rw 0 0
host:/auto {root}/auto nfs rw 0 0
/dev/vdc {root}/auto ext4 rw 0 0
broken line
"""


def refusal(path: Path | str, **options: Any) -> JournalError:
    """Return why a journal cannot be there; the error must name the file."""
    with pytest.raises(JournalError) as caught:
        opened(Path(path), **options)
    assert caught.value.path == str(path)
    assert repr(str(path)) in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("var/a.db", ""),
        ("home/a.db", "nfs4"),
        ("home", "nfs4"),
        ("homework/a.db", ""),
        ("home/local/a.db", ""),
        ("home/me/remote/x/a.db", "fuse.sshfs"),
        ("mnt/my share/a.db", "cifs"),
        ("auto/a.db", ""),
    ],
)
def test_network_file_systems_are_told_from_disks(tmp_path: Path, name: str, kind: str) -> None:
    """By the innermost mount, of several on one point the last; blanks in names are escaped."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS.format(root=tmp_path))
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind:
        refused = refusal(path, mounts=str(mounts))
        assert refused.reason == "network"
        assert f"is on {kind}, where locks" in refused.message
        assert not path.exists()
    else:
        opened(path, mounts=str(mounts)).close()


def test_without_a_list_of_mounts_every_place_is_local(tmp_path: Path) -> None:
    """Other systems than Linux have none."""
    for _ in ("new", "old"):
        opened(tmp_path / "a.db", mounts=str(tmp_path / "no mounts")).close()


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """Folders, pipes (which would block), sockets."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for name in ("", "pipe", "s"):
            assert refusal(tmp_path / name).reason == "foreign"


def test_a_file_without_the_rights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would call it a disk that fails."""
    (tmp_path / "a.db").touch()
    asked: list[int] = []

    def no_right(path: str, right: int) -> bool:
        asked.append(right)
        return False

    monkeypatch.setattr(os, "access", no_right)
    assert refusal(tmp_path / "a.db").reason == "readonly"
    assert asked == [os.R_OK | os.W_OK]


def test_a_file_of_two_names_is_refused(tmp_path: Path) -> None:
    """Each name would get a -wal file of its own, and one of them would be lost."""
    (tmp_path / "a.db").touch()
    os.link(tmp_path / "a.db", tmp_path / "b.db")
    assert refusal(tmp_path / "a.db").reason == "foreign"


def test_the_folder_is_not_made(tmp_path: Path) -> None:
    """A mistyped folder is an error, and so is one that is a file."""
    (tmp_path / "a").touch()
    for folder in ("a", "no"):
        refused = refusal(tmp_path / folder / "b.db")
        assert refused.reason == "missing"
        assert "folder that does not exist; make the folder first" in refused.message
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_name_that_no_file_can_have_is_refused() -> None:
    """NUL ends a name."""
    assert refusal("a\0b").reason == "missing"


def test_links_are_followed(tmp_path: Path) -> None:
    """SQLite puts its other file beside the real one."""
    (tmp_path / "link").symlink_to(tmp_path / "real.db")
    store = opened(tmp_path / "link")
    assert store.path == str((tmp_path / "real.db").resolve())
    assert (tmp_path / "real.db-wal").exists()
    store.close()


@pytest.mark.parametrize(("before", "after"), [(0o666, 0o600), (0o704, 0o700), (0o600, 0o600)])
def test_a_file_that_was_there_becomes_private(tmp_path: Path, before: int, after: int) -> None:
    """With its -wal file, as a crash leaves it; what its owner may do stays as it is."""
    store = opened(tmp_path / "a.db")
    with store.transaction():
        intend(store, "k")
    files = [tmp_path / "b.db", tmp_path / "b.db-wal"]
    for file in files:
        shutil.copyfile(tmp_path / file.name.replace("b", "a", 1), file)
        file.chmod(before)
    store.close()
    store = opened(files[0])
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [after, after]
    assert store.find("k") is not None
    store.close()


def test_a_file_that_stays_open_to_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rights are its owner's to change; one that is private already needs nobody's permission."""

    def refuse(*_: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name, rights in (("open.db", 0o640), ("private.db", 0o600)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(rights)
    monkeypatch.setattr("os.chmod", refuse)
    refused = refusal(tmp_path / "open.db")
    assert refused.reason == "readonly"
    assert "is open to other users (640)" in refused.message
    assert "chmod 600" in refused.message
    opened(tmp_path / "private.db").close()


@pytest.mark.parametrize("left", [None, b""])
def test_the_last_writes_of_a_lost_journal_are_not_thrown_away(tmp_path: Path, left: bytes | None) -> None:
    """SQLite deletes a -wal file without its journal; what is paid for may be recorded there only."""
    wal = tmp_path / "a.db-wal"
    wal.write_bytes(b"frames")
    if left is not None:
        (tmp_path / "a.db").write_bytes(left)
    refused = refusal(tmp_path / "a.db")
    assert refused.reason == "corrupt"
    assert "-wal file is there" in refused.message
    assert wal.read_bytes() == b"frames"
    wal.write_bytes(b"")
    opened(tmp_path / "a.db").close()


def test_a_missing_file_is_made_only_on_demand(tmp_path: Path) -> None:
    """Resuming with a mistyped path must not begin anew."""
    refused = refusal(tmp_path / "a.db", create=False)
    assert refused.reason == "missing"
    assert "does not exist; check the path" in refused.message
    assert not (tmp_path / "a.db").exists()


def test_the_new_name_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is flushed too, once: else a loss of power could take the whole journal."""
    flushed: list[int] = []

    def fsync(handle: int) -> None:
        flushed.append(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in ("new", "old"):
        opened(tmp_path / "a.db").close()
    assert flushed == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("refused", ["folder", "file"])
def test_a_refusal_that_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """On Windows no folder can be opened as a file; and another process may have made the file meanwhile."""
    system = os.open

    def refusing(path: Path | str, flags: int, mode: int = 0o777) -> int:
        if refused == "folder" and Path(path).is_dir():
            raise PermissionError(13, "no")
        if refused == "file" and flags & os.O_CREAT:
            os.close(system(path, flags, mode))
        return system(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    opened(tmp_path / "a.db").close()
    assert (tmp_path / "a.db").exists()
