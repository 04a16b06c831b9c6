"""Where a journal may be."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from wiro_async import JournalError
from wiro_async._journal.location import (
    check_place,
    identity,
    keep_private,
    make_file,
    network_mount,
    resolved,
)

MOUNTS = r"""
/dev/vda / ext4 rw 0 0
host:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//box/share /mnt/my\040share cifs rw 0 0
user@host: /home/me/remote fuse.sshfs rw 0 0
auto /auto autofs rw 0 0
host:/auto /auto nfs rw 0 0
/dev/vdc /auto ext4 rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/a.db", ""),
        ("/home/a.db", "nfs4"),
        ("/home", "nfs4"),
        ("/homework/a.db", ""),
        ("/home/local/a.db", ""),
        ("/home/me/remote/x/a.db", "fuse.sshfs"),
        ("/mnt/my share/a.db", "cifs"),
        ("/auto/a.db", ""),
    ],
)
def test_network_file_systems_are_told_from_disks(path: str, kind: str) -> None:
    """By the innermost mount, of several on one point the last; blanks in names are escaped."""
    assert network_mount(MOUNTS, path) == kind


def test_without_a_list_of_mounts_every_place_is_local(tmp_path: Path) -> None:
    """Other systems than Linux have none."""
    assert network_mount("", "/a.db") == ""
    for name in ("new.db", "old.db"):
        (tmp_path / "old.db").touch()
        check_place(str(tmp_path / name), str(tmp_path / "no mounts"))


def refusal(path: Path, mounts: str = "/proc/mounts") -> str:
    with pytest.raises(JournalError) as caught:
        check_place(str(path), mounts)
    assert caught.value.path == str(path)
    assert repr(str(path)) in caught.value.message
    return caught.value.reason


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """Its locks may not hold."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"host:/ {tmp_path} nfs4 rw 0 0\n")
    assert refusal(tmp_path / "a.db", str(mounts)) == "network"


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """Folders, pipes (which would block), sockets."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for name in ("", "pipe", "s"):
            assert refusal(tmp_path / name) == "foreign"


def test_a_file_without_the_rights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would call it a disk that fails."""
    (tmp_path / "a.db").touch()
    asked: list[int] = []

    def no_right(path: str, right: int) -> bool:
        asked.append(right)
        return False

    monkeypatch.setattr(os, "access", no_right)
    assert refusal(tmp_path / "a.db") == "readonly"
    assert asked == [os.R_OK | os.W_OK]


def test_a_file_of_two_names_is_refused(tmp_path: Path) -> None:
    """Each name would get a -wal file of its own, and one of them would be lost."""
    (tmp_path / "a.db").touch()
    os.link(tmp_path / "a.db", tmp_path / "b.db")
    assert refusal(tmp_path / "a.db") == "foreign"


def test_a_path_below_a_file_is_left_to_the_next_step(tmp_path: Path) -> None:
    """Which says that there is no such folder."""
    (tmp_path / "a").touch()
    check_place(str(tmp_path / "a" / "b.db"), "/proc/mounts")
    with pytest.raises(JournalError, match="folder that does not exist"):
        make_file(str(tmp_path / "a" / "b.db"), create=True)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    """NUL ends a name."""
    with pytest.raises(JournalError) as caught:
        resolved("a\0b")
    assert caught.value.reason == "missing"


def test_links_are_followed(tmp_path: Path) -> None:
    """SQLite puts its other file beside the real one."""
    (tmp_path / "link").symlink_to(tmp_path / "real.db")
    assert resolved(tmp_path / "link") == str((tmp_path / "real.db").resolve())


def test_a_new_file_is_its_owners_only(tmp_path: Path) -> None:
    """Whatever the umask: there are tokens in it."""
    before = os.umask(0)
    try:
        make_file(str(tmp_path / "a.db"), create=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("before", "after"), [(0o666, 0o600), (0o704, 0o700), (0o600, 0o600), (0o440, 0o400)]
)
def test_a_file_that_was_there_becomes_private(tmp_path: Path, before: int, after: int) -> None:
    """With its -wal file; what its owner may do stays as it is."""
    files = [tmp_path / "a.db", tmp_path / "a.db-wal"]
    for file in files:
        file.touch()
        file.chmod(before)
        keep_private(str(tmp_path / "a.db"))
        assert stat.S_IMODE(file.stat().st_mode) == after


def test_a_file_that_stays_open_to_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rights are its owner's to change; one that is private already needs nobody's permission."""

    def refuse(*_: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    file = tmp_path / "a.db"
    file.touch(0o600)
    file.chmod(0o640)
    with monkeypatch.context() as patched:
        patched.setattr("os.chmod", refuse)
        with pytest.raises(JournalError, match=r"640.*chmod 600") as caught:
            keep_private(str(file))
    assert (caught.value.reason, caught.value.path) == ("readonly", str(file))
    file.chmod(0o600)
    monkeypatch.setattr("os.chmod", refuse)
    keep_private(str(file))
    keep_private(str(tmp_path / "missing.db"))


def test_a_file_is_known_by_its_number(tmp_path: Path) -> None:
    """The journal's and its -wal file's: another file of either name is another journal."""
    file, wal = tmp_path / "a.db", tmp_path / "a.db-wal"
    known = [identity(str(file))]
    for change in (file.touch, wal.touch, lambda: wal.rename(tmp_path / "old"), wal.touch, file.unlink):
        change()
        known.append(identity(str(file)))
    assert known[0] == (None, None)
    assert len(set(known)) == 5
    assert known[1] == known[3]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """Empty or not; its rights are another's concern."""
    for name, content in (("full.db", b"x"), ("empty.db", b"")):
        file = tmp_path / name
        file.write_bytes(content)
        file.chmod(0o640)
        make_file(str(file), create=False)
        assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (content, 0o640)


@pytest.mark.parametrize("left", [None, b""])
def test_the_last_writes_of_a_lost_journal_are_not_thrown_away(tmp_path: Path, left: bytes | None) -> None:
    """SQLite deletes a -wal file without its journal; what is paid for may be recorded there only."""
    (tmp_path / "a.db-wal").write_bytes(b"frames")
    if left is not None:
        (tmp_path / "a.db").write_bytes(left)
    with pytest.raises(JournalError, match="-wal file is there") as caught:
        make_file(str(tmp_path / "a.db"), create=True)
    assert caught.value.reason == "corrupt"
    (tmp_path / "a.db-wal").write_bytes(b"")
    make_file(str(tmp_path / "a.db"), create=True)


def test_a_missing_file_is_made_only_on_demand(tmp_path: Path) -> None:
    """Resuming with a mistyped path must not begin anew."""
    with pytest.raises(JournalError, match="does not exist; check the path") as caught:
        make_file(str(tmp_path / "a.db"), create=False)
    assert caught.value.reason == "missing"
    assert not (tmp_path / "a.db").exists()


def test_the_folder_is_not_made(tmp_path: Path) -> None:
    """A mistyped folder is an error."""
    with pytest.raises(JournalError, match="make the folder first") as caught:
        make_file(str(tmp_path / "no" / "a.db"), create=True)
    assert caught.value.reason == "missing"


def test_the_new_name_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is flushed too: else a loss of power could take the whole journal."""
    flushed: list[int] = []

    def fsync(handle: int) -> None:
        flushed.append(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    make_file(str(tmp_path / "a.db"), create=True)
    assert flushed == [tmp_path.stat().st_ino]


def test_a_folder_that_cannot_be_opened_is_left_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a folder cannot be opened as a file."""
    system = os.open

    def refuse(path: Path | str, flags: int, mode: int = 0o777) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "no")
        return system(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    make_file(str(tmp_path / "a.db"), create=True)
    assert (tmp_path / "a.db").exists()


def test_another_process_may_have_made_it_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its lock decides who may use it."""

    def made(path: Path | str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise FileExistsError(17, "there")
        return system(path, flags, mode)

    system = os.open
    monkeypatch.setattr(os, "open", made)
    make_file(str(tmp_path / "a.db"), create=True)
