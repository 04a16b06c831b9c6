"""A journal's two files belong together, and the main file tells, wherever it was copied, moved, restored."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.journals import apply, databases_are_closed, intend, opened, quick
from wiro_async import JournalError, Secret
from wiro_async._journal import location as mark
from wiro_async._journal.steps import Accepted, Confirmed
from wiro_async._journal.store import Store

__all__ = ["databases_are_closed"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def killed(path: Path, copy: Path, *keys: str, first: str = "") -> Path:
    """Record jobs, and return a copy of both files as a killed process would have left them."""
    store = opened(path, *([first] if first else []))
    for key in keys:
        with store.transaction():
            intend(store, key)
        with store.transaction():
            apply(store, Accepted(key, f"task-{key}", Secret("token")))
    copied(path, copy)
    store.close()
    return copy


def copied(path: Path, copy: Path, *, wal: bool = True) -> Path:
    shutil.copyfile(path, copy)
    wal_of(copy).unlink(missing_ok=True)
    if wal and wal_of(path).exists():
        shutil.copyfile(wal_of(path), wal_of(copy))
    return copy


def wal_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def keys_in(path: Path, **options: Any) -> set[str]:
    """Return the keys in a journal, as opening it finds them."""
    store = opened(path, **options)
    try:
        return {entry.key for _, entry in store.page(None, 0)}
    finally:
        store.close()


def put_together(path: Path) -> None:
    """Read a killed journal as another program does, which moves its -wal file into it."""
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    db.close()
    assert not wal_of(path).exists()


def confirm(path: Path) -> None:
    store = opened(path, accepted=True)
    with store.transaction():
        apply(store, Confirmed(()))
    store.close()


def refusal(path: Path, **options: Any) -> str:
    """Return why a journal's files are refused; that must leave both as they are."""
    before = contents(path)
    with pytest.raises(JournalError) as caught:
        opened(path, **options)
    assert caught.value.reason == "apart"
    assert contents(path) == before
    return caught.value.message


def keys_alone(path: Path) -> set[str] | None:
    """Return the keys in a main file without its -wal file (None: it is refused)."""
    try:
        return keys_in(path)
    except JournalError as error:
        if error.reason != "apart":
            raise
        return None


def contents(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in (path, wal_of(path)) if file.exists()]


# -- moved and copied ------------------------------------------------------------------------------------


def test_a_killed_journal_without_its_wal_file_is_refused(path: Path, tmp_path: Path) -> None:
    """Its last writes are missing: jobs would look new, and be paid for again."""
    left = killed(path, tmp_path / "left.db", "k")
    assert keys_in(copied(left, tmp_path / "whole.db")) == {"k"}
    said = refusal(copied(left, tmp_path / "moved.db", wal=False))
    assert "put its own -wal file beside it" in said
    assert "sqlite3 or DB Browser" in said
    assert "`wiro journal accept`" in said


def test_an_empty_wal_file_is_none(path: Path, tmp_path: Path) -> None:
    """Nor is one that has a header and no page."""
    left = killed(path, tmp_path / "left.db", "k")
    for size in (0, 20, 32, 4000):
        wal_of(left).write_bytes(wal_of(left).read_bytes()[:size])
        assert "is not here" in refusal(left)


def test_anothers_wal_file_is_refused(path: Path, tmp_path: Path) -> None:
    """SQLite would mix it into the journal."""
    one = killed(path, tmp_path / "one.db", "k")
    two = killed(tmp_path / "b.db", tmp_path / "two.db", "other")
    shutil.copyfile(wal_of(two), wal_of(one))
    assert "the -wal file beside it is another's" in refusal(one)
    assert "another's" in refusal(one, accepted=True)


def test_an_older_copy_that_was_put_over_a_killed_journal_is_refused(path: Path, tmp_path: Path) -> None:
    """The -wal file that was left has what the copy lacks."""
    assert keys_in(path) == set()
    copied(path, tmp_path / "backup.db")
    left = killed(path, tmp_path / "left.db", "k")
    shutil.copyfile(tmp_path / "backup.db", left)
    assert "an older copy was put" in refusal(left)
    wal_of(left).unlink()
    assert keys_in(left) == set()


def test_a_closed_journal_is_one_file(path: Path, tmp_path: Path) -> None:
    """It can be copied, and changed by other programs, as often as anybody likes."""
    killed(path, tmp_path / "left.db", "k")
    assert not wal_of(path).exists()
    copy = copied(path, tmp_path / "copy.db")
    with sqlite3.connect(copy) as db:
        db.execute("UPDATE runs SET token = NULL")
    db.execute("VACUUM")
    db.close()
    assert keys_in(copy) == keys_in(copy) == keys_in(path) == {"k"}


def test_a_killed_journal_that_a_tool_has_put_together_can_be_accepted(path: Path, tmp_path: Path) -> None:
    """Nothing is missing from it, but only a person can know that."""
    left = killed(path, tmp_path / "left.db", "k")
    put_together(left)
    assert "sqlite3 or DB Browser" in refusal(left)
    # To look into it confirms nothing.
    assert keys_in(left, accepted=True) == {"k"}
    assert "sqlite3 or DB Browser" in refusal(left)
    confirm(left)
    assert keys_in(left) == {"k"}


@pytest.mark.parametrize("broken", ["COMMIT", "REPLACE INTO meta"])
def test_a_confirmation_that_is_not_written_confirms_nothing(path: Path, tmp_path: Path, broken: str) -> None:
    """The disk was full: the person has to give the word again."""
    left = killed(path, tmp_path / "left.db", "k")
    put_together(left)
    connecting, databases = quick()
    store = Store(left, accepted=True, connect=connecting)
    databases[0].fail = lambda sql: sqlite3.OperationalError("full") if broken in sql else None
    with pytest.raises(sqlite3.OperationalError), store.transaction():
        apply(store, Confirmed(()))
    databases[0].fail = lambda _: None
    store.close()
    assert "sqlite3 or DB Browser" in refusal(left)
    # Once it is given, no later rollback takes it back.
    store = opened(left, accepted=True)
    with store.transaction():
        apply(store, Confirmed(()))
    with pytest.raises(JournalError), store.transaction():
        apply(store, Accepted("unknown", "1", None))
    store.close()
    assert keys_in(left) == {"k"}


def test_any_number_of_checkpoints_keeps_the_two_together(path: Path, tmp_path: Path) -> None:
    """Each begins the -wal file anew."""
    store = opened(path, "PRAGMA wal_autocheckpoint = 3")
    ids = set()
    for number in range(40):
        with store.transaction():
            intend(store, str(number))
        header = wal_of(path).read_bytes()[:32]
        ids.add(header[12:24])
        copy = copied(path, tmp_path / f"{number}.db")
        assert len(keys_in(copied(copy, tmp_path / "whole.db"))) == number + 1
        refusal(copied(copy, tmp_path / "alone.db", wal=False))
    assert len(ids) > 5
    store.close()


def test_a_killed_journal_that_is_resumed_and_killed_again(path: Path, tmp_path: Path) -> None:
    """The -wal file is gone on with, or begun anew: either way the two belong together."""
    left = killed(path, tmp_path / "0.db", "0")
    for number in range(1, 6):
        left = killed(left, tmp_path / f"{number}.db", str(number), first="PRAGMA wal_autocheckpoint = 2")
        refusal(copied(left, tmp_path / "alone.db", wal=False))
    assert keys_in(left) == set("012345")


def test_a_header_that_a_power_cut_left_half_written(path: Path, tmp_path: Path) -> None:
    """A -wal file is begun anew when all of it is in the main file: nothing is missing."""
    left = killed(path, tmp_path / "left.db", "k", first="PRAGMA wal_autocheckpoint = 1")
    # With the next sequence number, the salt of before, and sums that fit neither.
    head = bytearray(wal_of(left).read_bytes())
    head[12:16] = (int.from_bytes(head[12:16], "big") + 1).to_bytes(4, "big")
    wal_of(left).write_bytes(head)
    assert keys_in(left) == {"k"}
    assert keys_in(left) == {"k"}


# -- cut off while it is opened or closed ------------------------------------------------------------------


def moments(path: Path, folder: Path) -> list[Path]:
    """Open and close, and keep what a killed process would have left before each statement, and after all."""
    connecting, databases = quick()
    kept: list[Path] = []

    def keep(_: str) -> None:
        kept.append(copied(path, folder / f"{len(kept)}.db"))

    def watched(file: str) -> sqlite3.Connection:
        db = connecting(file)
        databases[0].fail = keep
        return db

    store = Store(path, connect=watched)
    with store.transaction():
        intend(store, "last")
    recorded = len(kept)
    store.close()
    keep("")
    return [*kept[:recorded], *kept[recorded:]]


@pytest.mark.parametrize("before", [None, "closed", "killed"])
def test_killed_at_any_statement_it_opens_again(path: Path, tmp_path: Path, before: str | None) -> None:
    """And its main file alone opens only where nothing is missing from it."""
    known = set[str]()
    if before is not None:
        left = killed(path, tmp_path / "left.db", "k")
        known = {"k"}
        if before == "killed":
            copied(left, path)
    has_last = False
    for copy in moments(path, tmp_path):
        alone = copied(copy, tmp_path / "alone.db", wal=False)
        whole = keys_in(copied(copy, tmp_path / "whole.db"))
        assert whole in (known, known | {"last"})
        has_last = has_last or "last" in whole
        assert ("last" in whole) == has_last
        if (found := keys_alone(alone)) is not None:
            assert found == whole
    assert has_last


def test_a_close_that_fails_keeps_the_wal_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would remove it, while the main file says that it is needed."""
    for broken in ("FULL", "REPLACE INTO meta", "TRUNCATE"):
        connecting, databases = quick()
        store = Store(path, connect=connecting)

        def fail(sql: str, broken: str = broken) -> sqlite3.Error | None:
            return sqlite3.OperationalError("disk I/O error") if broken in sql else None

        databases[0].fail = fail
        store.close()
        assert wal_of(path).exists()
        assert keys_in(path) == set()
        assert [file.name for file in path.parent.iterdir()] == ["a.db"]

    # Where the system has no links, that journal has to be accepted.
    def no_link(*_: object) -> None:
        raise PermissionError

    connecting, databases = quick()
    store = Store(path, connect=connecting)
    databases[0].fail = lambda sql: sqlite3.OperationalError("i/o") if "FULL" in sql else None
    monkeypatch.setattr(os, "link", no_link)
    store.close()
    refusal(path)
    confirm(path)
    assert keys_in(path) == set()


def test_a_reading_that_another_process_has_overtaken_is_repeated(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was closed between the look at the one file and that at the other."""
    left = killed(path, tmp_path / "left.db", "k")
    looks: list[str] = []
    look = mark.wal_id

    def closing(of: str) -> str:
        looks.append(of)
        if len(looks) == 1:
            assert keys_in(left) == {"k"}
        return look(of)

    found = look(str(left))
    with monkeypatch.context() as patched:
        # The look of the store that closes it is the real one, being imported by its name.
        patched.setattr(mark, "wal_id", closing)
        assert mark.check_whole(str(left)) == ("closed", found)
    assert len(looks) >= 2


def test_what_says_nothing_is_left_to_sqlite(path: Path) -> None:
    """A file that is new, foreign, damaged, or of an earlier version."""
    for content in (b"", b"no database", b"SQLite format 3\0" + bytes(84)):
        path.write_bytes(content)
        assert mark.check_whole(str(path)) == ("", "")
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE meta (name TEXT, value TEXT)")
        db.execute("INSERT INTO meta VALUES ('wal', 'open wide')")
    db.close()
    assert mark.check_whole(str(path)) == ("", "")


def test_a_forked_child_is_not_kept_out_by_its_parents_journal(path: Path) -> None:
    """What is held is held by a process: the parent's lock is the parent's affair."""
    store = opened(path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            opened(path)
        except JournalError as error:
            code = 0 if "SQLITE" not in error.message and error.reason == "locked" else 2
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    store.close()


@pytest.mark.parametrize("removed", [False, True])
def test_a_wal_that_is_still_needed_is_kept(tmp_path: Path, removed: bool) -> None:
    """If SQLite removes it on closing, it is put back; if not, nothing is left beside it."""
    wal = tmp_path / "a.db-wal"
    wal.write_bytes(b"frames")
    with mark.kept_wal(str(tmp_path / "a.db")):
        if removed:
            wal.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db-wal"]
    assert wal.read_bytes() == b"frames"


def test_a_wal_that_an_earlier_close_has_left_is_not_put_back(tmp_path: Path) -> None:
    """It is not the one that is needed now."""
    wal = tmp_path / "a.db-wal"
    wal.write_bytes(b"frames")
    Path(f"{wal}-kept").write_bytes(b"earlier")
    with mark.kept_wal(str(tmp_path / "a.db")):
        wal.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db-wal"]
    assert wal.read_bytes() == b"frames"


def test_a_close_that_was_cut_short_can_be_made_good(path: Path, tmp_path: Path) -> None:
    """SQLite had removed the -wal file: its other name is told, and has all that is missing."""
    left = killed(path, tmp_path / "left.db", "k")
    assert "-kept" not in refusal(copied(left, tmp_path / "alone.db", wal=False))
    kept = wal_of(left).rename(f"{wal_of(left)}-kept")
    assert "left.db-wal-kept may be it, if closing was cut short: rename it to left.db-wal" in refusal(left)
    kept.rename(wal_of(left))
    assert keys_in(left) == {"k"}
