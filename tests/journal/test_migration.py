"""Journals of earlier versions: everything in them is there, and no crash loses any of it."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.journal.test_store import WAL_HEADER, torn
from tests.journals import databases_are_closed as databases_are_closed
from tests.journals import dump, error, intend, opened, quick
from wiro_async import JournalEntry, JournalError, JournalReader
from wiro_async._journal import store as _store
from wiro_async._journal.steps import Blob, LocalFile
from wiro_async._journal.store import Store

DATA = Path(__file__).parents[1] / "data"

VERSION = 2
"""The schema's version."""

SAID: Any = json.loads((DATA / "journal-v1.json").read_text("utf-8"))
"""What the first edition read from its own journal."""

SAID["by_state"]["stalled"] = []
SAID["counts"]["jobs"]["stalled"] = 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return first_edition(tmp_path / "a.db")


def first_edition(path: Path, *changes: str) -> Path:
    """Make the first edition's journal."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript((DATA / "journal-v1.sql").read_text("utf-8"))
    for sql in changes:
        db.execute(sql)
    db.close()
    return path


def told(value: Any) -> Any:
    """Return inputs in the form of the record."""
    match value:
        case LocalFile(path):
            return {"LocalFile": path.encode("utf-8", "surrogateescape").hex()}
        case Blob(sha256, size):
            return {"Blob": [sha256, size]}
        case dict():
            return {name: told(item) for name, item in value.items()}
        case list():
            return [told(item) for item in value]
    return value


def record_of(entry: JournalEntry) -> Any:
    """Return an entry in the form of the record, without what the first edition did not know."""
    kept = {field.name: getattr(entry, field.name) for field in attrs.fields(JournalEntry)}
    # Only an open attempt can still have a task that nobody knows; today's defaults tell until when.
    assert kept.pop("open") == (entry.state in {"intended", "unknown"})
    # What it counted for a charge is taken as told: it made no difference.
    assert kept.pop("cost_final") == (entry.outcome is not None)
    assert entry.fingerprint.quiet_at == entry.fingerprint.sent_at + 85
    return kept | {
        "model": entry.model,
        "inputs": told(entry.inputs),
        "fingerprint": [list(each) if isinstance(each, tuple) else each for each in entry.fingerprint[:5]],
        "token": entry.token and entry.token.reveal(),
        "cost": None if entry.cost is None else str(entry.cost),
        # Nobody noted whether a file was certain to be whole, so none is.
        "files": [list(attrs.astuple(file)[:-1]) for file in entry.files if not file.whole],
    }


def everything(path: Path) -> Any:
    """Return what a journal says now, in the form of the record."""
    store = Store(path, connect=quick()[0], clock=lambda: SAID["clock"], create=False)
    counts = store.counts()
    said = {
        "clock": SAID["clock"],
        "entries": [record_of(entry) for _, entry in store.page(None, 0)],
        "by_state": {state: [entry.key for _, entry in store.page(state, 0)] for state in counts.jobs},
        "counts": {
            "jobs": counts.jobs,
            "cost": str(counts.cost),
            "failures": [list(attrs.astuple(failure)) for failure in counts.failures],
        },
        "uploads": {sha256: store.url_of(sha256) for sha256 in SAID["uploads"]},
        "task_ids": store.task_ids(),
        "stats": {name: store.load_stats(name) for name in SAID["stats"]},
    }
    store.close()
    return said


def test_a_journal_of_the_first_edition_reads_as_it_did_there(path: Path) -> None:
    """Jobs, costs, files, uploads, tokens, what was learned; and again when it was migrated."""
    for _ in range(2):
        assert everything(path) == SAID
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        maker = db.execute("SELECT value FROM meta WHERE name = 'created_by'").fetchone()
        assert maker == ("wiro_async 0.1.0",)
        assert "status" not in [column[1] for column in db.execute("PRAGMA table_info(runs)")]
    db.close()


def test_earlier_attempts_are_kept(path: Path) -> None:
    """Every row of every table, but for the columns that went."""
    with sqlite3.connect(path) as db:
        runs = db.execute("SELECT * FROM runs ORDER BY job, attempt").fetchall()
        others = [
            db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("jobs", "files", "uploads", "learned")
        ]
    db.close()
    jobs, kept, tasks, *rest = dump(opened(path, clock=lambda: SAID["clock"]))
    assert [run[:6] + run[11:16] + run[17:] for run in kept] == [run[:9] + run[11:] for run in runs]
    assert tasks == sorted((run[6], *run[:2], "answer", run[8]) for run in runs if run[6])
    files, *rest = rest
    assert all(file[-1] == 0 for file in files)
    assert [jobs, [file[:-1] for file in files], *rest] == others


def test_a_migrated_journal_goes_on(path: Path) -> None:
    """The rules hold for the jobs that it had."""
    store = opened(path)
    with pytest.raises(JournalError, match="'running'"):
        intend(store, "running")
    for key in ("failed", "refused", "given up", "new"):
        intend(store, key)
    found = store.find("failed")
    assert found is not None
    assert (found.state, found.attempt) == ("intended", 2)


async def test_reading_brings_it_up_to_date_too(path: Path) -> None:
    """Nobody else can read it meanwhile, and the next batch would do the same."""
    async with JournalReader(path) as journal:
        counts = await journal.counts()
    assert (counts.jobs, str(counts.cost)) == (SAID["counts"]["jobs"], SAID["counts"]["cost"])


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """With the way out; and not a byte is changed."""
    path = first_edition(tmp_path / "later.db", f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="upgrade with pip install") as caught:
        opened(path)
    assert caught.value.reason == "newer"
    assert path.read_bytes() == before


def test_there_is_a_journal_of_every_earlier_version_and_a_way_from_each(tmp_path: Path) -> None:
    """A new version must not come without both."""
    store = opened(tmp_path / "new.db")
    version = store._value("PRAGMA user_version")
    assert version == VERSION
    for earlier in range(1, version):
        path = tmp_path / f"{earlier}.db"
        db = sqlite3.connect(path, isolation_level=None)
        db.executescript((DATA / f"journal-v{earlier}.sql").read_text("utf-8"))
        assert db.execute("PRAGMA user_version").fetchone() == (earlier,)
        db.close()
        assert opened(path)._value("PRAGMA user_version") == version


def test_each_step_is_made_in_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that is two versions behind goes through both."""
    more = f"CREATE TABLE more (version_{VERSION} INTEGER)"
    monkeypatch.setattr(_store, "MIGRATIONS", {**_store.MIGRATIONS, VERSION: (more,)})
    monkeypatch.setattr(_store, "VERSION", VERSION + 1)
    monkeypatch.setattr(_store, "SCHEMA", {**_store.SCHEMA, "more": more})
    assert everything(path) == SAID
    assert opened(path)._value("PRAGMA user_version") == VERSION + 1


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE runs",
        "ALTER TABLE runs RENAME COLUMN token TO other",
        "CREATE TABLE runs_1 (x)",
        "DROP TABLE meta",
    ],
)
def test_what_others_have_changed_is_refused_and_left_as_it_is(tmp_path: Path, change: str) -> None:
    """It is of no version that we know."""
    path = first_edition(tmp_path / "a.db", change)
    before = contents(path)
    with pytest.raises(JournalError) as caught:
        opened(path)
    assert caught.value.reason == "corrupt"
    assert contents(path) == before


def contents(path: Path) -> list[str]:
    """Return a database as SQL, with its version."""
    with sqlite3.connect(path) as db:
        lines = [*db.iterdump(), str(db.execute("PRAGMA user_version").fetchone())]
    db.close()
    return lines


def test_what_others_have_added_stays(tmp_path: Path) -> None:
    """Views, tables, indexes; but for indexes on a table that is made anew."""
    path = first_edition(
        tmp_path / "a.db",
        "CREATE VIEW mine AS SELECT key, task_id FROM jobs JOIN runs USING (job, attempt)",
        "CREATE TABLE notes (text)",
        "CREATE INDEX jobs_model ON jobs (model)",
        "CREATE INDEX runs_task ON runs (task_id)",
    )
    store = opened(path)
    names = {name for (name,) in store._db.execute("SELECT name FROM sqlite_master")}
    assert {"mine", "notes", "jobs_model"} <= names
    assert store._db.execute("SELECT task_id FROM mine WHERE key = 'running'").fetchone() == ("5001",)


def test_a_damaged_journal_is_not_migrated(path: Path) -> None:
    """What can be saved is saved from the file as it was."""
    content = path.read_bytes()
    place = content.index(b"waves of done")
    damaged = content[: place - 200] + bytes(200) + content[place:]
    path.write_bytes(damaged)
    with pytest.raises(JournalError) as caught:
        opened(path)
    assert caught.value.reason == "corrupt"
    assert path.read_bytes() == damaged


# -- crashes ---------------------------------------------------------------------------------------------


def moments(path: Path, folder: Path) -> list[tuple[str, Path]]:
    """Migrate, and keep what a killed process would have left before each statement."""
    connecting, databases = quick()
    kept: list[tuple[str, Path]] = []

    def keep(sql: str) -> None:
        if sql == "BEGIN IMMEDIATE":
            # So small that pages go to the -wal file before the commit.
            sqlite3.Connection.execute(databases[0], "PRAGMA cache_size = 1")
        copy = folder / f"{len(kept)}.db"
        for end in ("", "-wal"):
            if Path(f"{path}{end}").exists():
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
        kept.append((sql, copy))

    def watched(file: str) -> sqlite3.Connection:
        db = connecting(file)
        databases[0].fail = keep
        return db

    Store(path, connect=watched).close()
    return kept


def test_killed_at_any_statement_it_is_as_before_or_whole(path: Path, tmp_path: Path) -> None:
    """And the next opening brings it to its end."""
    kept = moments(path, tmp_path)
    begun = [sql for sql, _ in kept].index("BEGIN IMMEDIATE")
    assert [sql.split()[0] for sql, _ in kept[begun:]].count("DROP") == 4
    for _, copy in kept:
        # To look into a copy takes a copy of it: SQLite moves its -wal file into it, and removes that.
        seen = tmp_path / "seen.db"
        for end in ("", "-wal"):
            Path(f"{seen}{end}").unlink(missing_ok=True)
            if Path(f"{copy}{end}").exists():
                shutil.copyfile(f"{copy}{end}", f"{seen}{end}")
        with sqlite3.connect(seen) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            columns = [column[1] for column in db.execute("PRAGMA table_info(runs)")]
        db.close()
        assert (version, "status" in columns) in ((1, True), (VERSION, False))
        assert everything(copy) == SAID


@pytest.mark.parametrize("seed", range(3))
def test_no_loss_of_power_while_migrating_harms(path: Path, tmp_path: Path, seed: int) -> None:
    """Whatever the disk may hold of the commit."""
    kept = moments(path, tmp_path)
    before = next(copy for sql, copy in kept if sql == "BEGIN IMMEDIATE")
    after = next(copy for sql, copy in kept if "wal_checkpoint" in sql)
    old = Path(f"{before}-wal")
    wals = torn(
        old.read_bytes() if old.exists() else b"",
        Path(f"{after}-wal").read_bytes(),
        random.Random(seed),
        WAL_HEADER,
    )
    for number, wal in enumerate(wals):
        copy = tmp_path / f"torn-{number}.db"
        copy.write_bytes(before.read_bytes())
        Path(f"{copy}-wal").write_bytes(wal)
        assert everything(copy) == SAID


KILLED = """
import os, signal, sys
from tests.journals import quick
from wiro_async._journal.store import Store
connecting, databases = quick()
def dying(file):
    db = connecting(file)
    db.fail = lambda sql: os.kill(os.getpid(), signal.SIGKILL) if sql.startswith(sys.argv[2]) else None
    return db
Store(sys.argv[1], connect=dying)
"""


@pytest.mark.parametrize("statement", ["DROP TABLE runs_1", "COMMIT"])
def test_kill_9_while_migrating_loses_nothing(path: Path, statement: str) -> None:
    """For real."""
    run = subprocess.run([sys.executable, "-c", KILLED, str(path), statement], check=False, timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert everything(path) == SAID


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE runs_1", "DROP TABLE runs", "CREATE TABLE runs (", "INSERT", "COMMIT"]
)
def test_a_disk_that_fails_while_migrating_loses_nothing(path: Path, statement: str) -> None:
    """The error is the disk's, and the file is of its old version still."""
    connecting, databases = quick()

    def failing(file: str) -> sqlite3.Connection:
        db = connecting(file)
        full = error(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "full")
        databases[0].fail = lambda sql: full if sql.startswith(statement) else None
        return db

    with pytest.raises(JournalError) as caught:
        Store(path, connect=failing)
    assert caught.value.reason == "full"
    assert everything(path) == SAID
