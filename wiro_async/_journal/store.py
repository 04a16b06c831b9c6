"""The journal's file: opening it with care, and every statement that is ever run on it. For one thread.

SQLite in WAL mode with ``synchronous=FULL``: a transaction is on the disk when its commit returns.
``locking_mode=EXCLUSIVE`` keeps every other connection out, and with it the WAL-reset fault of SQLite before
3.51.3, which needs two of them.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from wiro_async._aio import uptime
from wiro_async._errors import JournalError
from wiro_async._journal import steps
from wiro_async._journal.journal import Conflict, Page
from wiro_async._journal.location import (
    MARK,
    Mark,
    check_place,
    check_whole,
    identity,
    keep_private,
    kept_wal,
    make_file,
    resolved,
    unusable,
    wal_id,
)
from wiro_async._journal.steps import (
    Accepted,
    Charged,
    Confirmed,
    Doubted,
    Ended,
    Intended,
    JobStep,
    JournalCounts,
    JournalEntry,
    JournalFailure,
    JournalFile,
    Late,
    Learned,
    Released,
    Saved,
    Stalled,
    State,
    Step,
    UnchargedRun,
    Uploaded,
)
from wiro_async._protocol.envelope import is_utf8
from wiro_async._protocol.matching import RunFingerprint
from wiro_async._types import JSON, Secret
from wiro_async._version import __version__

__all__ = ["Connect", "Store", "connect"]

APPLICATION_ID = 0x5769726F
"""What tells a journal from other SQLite files: "Wiro"."""

VERSION = 2
"""The schema's version, in ``PRAGMA user_version``. A journal of a later one is refused."""

_RUNS_2 = """CREATE TABLE runs (
        job INTEGER NOT NULL, attempt INTEGER NOT NULL,
        names TEXT NOT NULL, digest TEXT NOT NULL, marker TEXT NOT NULL,
        sent_at REAL NOT NULL, not_after REAL NOT NULL, quiet_at REAL NOT NULL,
        boot TEXT NOT NULL DEFAULT '', quiet_ticks REAL NOT NULL DEFAULT 0, open INTEGER NOT NULL DEFAULT 1,
        task_id TEXT NOT NULL DEFAULT '', token TEXT, accepted_at REAL,
        outcome TEXT, cost INTEGER, cost_final INTEGER NOT NULL DEFAULT 0, elapsed REAL, ended_at REAL,
        error TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (job, attempt)) WITHOUT ROWID"""

_UNCHARGED_2 = "CREATE INDEX runs_uncharged ON runs (ended_at) WHERE NOT cost_final AND ended_at IS NOT NULL"

_ONE_OPEN_2 = "CREATE UNIQUE INDEX runs_one_open ON runs (job) WHERE open"

_TASKS_2 = """CREATE TABLE tasks (
        task_id TEXT PRIMARY KEY, job INTEGER NOT NULL, attempt INTEGER NOT NULL,
        how TEXT NOT NULL, noted_at REAL NOT NULL) WITHOUT ROWID"""

_FILES_2 = """CREATE TABLE files (
        job INTEGER NOT NULL, attempt INTEGER NOT NULL, n INTEGER NOT NULL,
        name TEXT NOT NULL DEFAULT '', url TEXT NOT NULL DEFAULT '', content_type TEXT NOT NULL DEFAULT '',
        size INTEGER, path TEXT NOT NULL DEFAULT '', sha256 TEXT NOT NULL DEFAULT '', saved_at REAL,
        whole INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (job, attempt, n)) WITHOUT ROWID"""

SCHEMA: Mapping[str, str] = {
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # By rowid: WITHOUT ROWID, by key, 100 000 jobs take 3 times as long to write and a fifth more room.
    "jobs": """CREATE TABLE jobs (
        job INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, inputs TEXT NOT NULL,
        state TEXT NOT NULL, attempt INTEGER NOT NULL)""",
    "jobs_state": "CREATE INDEX jobs_state ON jobs (state, job)",
    "runs": _RUNS_2,
    "runs_one_open": _ONE_OPEN_2,
    "runs_uncharged": _UNCHARGED_2,
    "tasks": _TASKS_2,
    "files": _FILES_2,
    "uploads": """CREATE TABLE uploads (
        sha256 TEXT PRIMARY KEY, url TEXT NOT NULL, size INTEGER, uploaded_at REAL NOT NULL) WITHOUT ROWID""",
    "learned": """CREATE TABLE learned (
        name TEXT PRIMARY KEY, data TEXT NOT NULL, learned_at REAL NOT NULL) WITHOUT ROWID""",
}

MIGRATIONS: Mapping[int, Sequence[str]] = {
    # A task's status is the service's to tell. Not by ALTER TABLE: SQLite before 3.35 cannot drop a column,
    # and what text of the schema a rename leaves is its own affair.
    1: (
        "CREATE TABLE runs_1 AS SELECT * FROM runs",
        "DROP TABLE runs",
        _RUNS_2,
        # Version 1 knew no send window: 10 s, and 75 s for the way and for the list, are today's defaults.
        """INSERT INTO runs SELECT job, attempt, names, digest, marker,
        sent_at, sent_at + 10, sent_at + 85, '', 0, state IN ('intended', 'unknown') AND attempt = latest,
        task_id, token, accepted_at, outcome, cost, outcome IS NOT NULL, elapsed, ended_at, error, reason
        FROM runs_1 JOIN (SELECT job, state, attempt AS latest FROM jobs) USING (job)""",
        "DROP TABLE runs_1",
        "CREATE TABLE files_1 AS SELECT * FROM files",
        "DROP TABLE files",
        _FILES_2,
        """INSERT INTO files SELECT job, attempt, n, name, url, content_type, size, path, sha256, saved_at, 0
        FROM files_1""",
        "DROP TABLE files_1",
        _ONE_OPEN_2,
        _UNCHARGED_2,
        _TASKS_2,
        # Nothing kept one task from being recorded for two jobs: it is the first one's.
        """INSERT OR IGNORE INTO tasks SELECT task_id, job, attempt, 'answer', coalesce(accepted_at, sent_at)
        FROM runs WHERE task_id != '' ORDER BY sent_at, job, attempt""",
    ),
}
"""What makes a journal of that version one of the next; all that are needed run in one transaction.

Later versions add to it. A schema that an entry mentions is written out, and never changes.
"""

DEEP_CHECK_BYTES = 512 * 1024 * 1024
"""Up to this size opening checks every index against its table, which takes 0.6 s for 100 000 jobs (100 MB);
a larger journal gets SQLite's quick check, which takes a third of that."""

PAGE = 200
"""Rows read at a time."""

Connect: TypeAlias = Callable[[str], sqlite3.Connection]

_MEANINGS: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: (
        "locked",
        "is in use by another process, or opened twice by this one; one at a time",
    ),
    sqlite3.SQLITE_LOCKED: ("locked", "is in use within this process; one at a time"),
    sqlite3.SQLITE_READONLY: (
        "readonly",
        "cannot be written; give this user the right to write file and folder",
    ),
    sqlite3.SQLITE_PERM: ("readonly", "may not be opened; give this user the right to write file and folder"),
    sqlite3.SQLITE_CANTOPEN: (
        "readonly",
        "or its -wal file cannot be opened; check the rights of file and folder",
    ),
    sqlite3.SQLITE_FULL: ("full", "has no room left on its disk; make some, and open it again"),
    sqlite3.SQLITE_IOERR: (
        "io",
        "cannot be read or written, its disk fails or is full; mend that, and open it again",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "corrupt",
        "is damaged; restore a copy, or save what can be saved: docs/journal.md",
    ),
    sqlite3.SQLITE_NOTADB: ("foreign", "is no SQLite file; give the journal a file of its own"),
}
"""From SQLite's primary error code to our reason, what is the matter, and the way out."""

_AS_SQLITE = {
    errno.EACCES: sqlite3.SQLITE_PERM,
    errno.EPERM: sqlite3.SQLITE_PERM,
    errno.EROFS: sqlite3.SQLITE_PERM,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
    errno.EIO: sqlite3.SQLITE_IOERR,
}

_TURNED_AWAY = ", ".join(f"'{kind.__name__}'" for kind in steps.TURNED_AWAY)

_ENTRIES = (
    "SELECT jobs.job, key, inputs, state, jobs.attempt, (SELECT count(*) FROM runs AS tried "  # noqa: S608
    f"WHERE tried.job = jobs.job AND (tried.task_id != '' OR tried.error NOT IN ({_TURNED_AWAY}))), "
    "model, names, digest, marker, sent_at, quiet_at, boot, quiet_ticks, open, task_id, "
    "token, accepted_at, outcome, cost, cost_final, elapsed, ended_at, error, reason "
    "FROM jobs JOIN runs ON runs.job = jobs.job AND runs.attempt = jobs.attempt"
)

_PART = 10**9
"""Costs are summed in two parts, because a sum beyond 64 bits is an error to SQLite."""

RECENT = 25 * 3600.0
"""Seconds around a Run in which a search for its lost answer minds tasks that are like it, and some more."""

TRUSTED = 3600.0
"""Seconds by which the wall clock may have been set since this computer was started; see ``_restamp``."""

MOST_UNCHARGED = 5000
"""Attempts whose charges are looked for at a time: what one reading of the service's list holds."""

MOST_TASKS = 100_000
"""Task ids that are told at most: as many as a client remembers."""

# To close a file drops all of this process's locks on it, SQLite's too: nobody may open it in between.
_making = threading.Lock()

_held: set[tuple[int, object]] = set()
"""The journals that are open in this process, and in those that it was forked from."""


def connect(path: str) -> sqlite3.Connection:
    """Open the database of a file that exists."""
    # mode=rw: a file that vanished meanwhile is an error, not a new journal.
    return sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)


class _Job(NamedTuple):
    """What decides whether a step can be made; without a state there is no such job."""

    id: int
    state: State | None
    attempt: int
    task_id: str
    unclear: bool = False


class _Hidden:
    """A token on its way to its column. As a text it would be in the locals that some tracebacks show."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def __conform__(self, _: object) -> str:
        """Return the token to SQLite."""
        return self._token.reveal()


def boot_id() -> str:
    """Return what tells this start of the computer from all others ("" where the system does not tell)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # Not Linux.
        return ""


class Store:
    """An open journal, for the thread that opened it.

    Args:
        path: The file; its folder must exist.
        create: Whether to make it when it is not there.
        accepted: Whether somebody has confirmed that nothing is missing from it, if its -wal file is.
        connect: How to open the database.
        clock: The time, in unix seconds.
        boot: What tells this start of the computer from all others.
        ticks: A clock that nobody sets, and that goes on while the computer sleeps.
        mounts: The file that lists the mounted file systems, where the system has one.

    Raises:
        JournalError: It cannot be opened, or cannot be trusted.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        accepted: bool = False,
        connect: Connect = connect,
        clock: Callable[[], float] = time.time,
        boot: str | None = None,
        ticks: Callable[[], float] = uptime,
        mounts: str = "/proc/mounts",
    ) -> None:
        self.path: str = resolved(path)
        self._clock = clock
        self._boot: str = boot_id() if boot is None else boot
        self._ticks = ticks
        self._is_checked: bool = False
        try:
            check_place(self.path, mounts)
            with _making:
                make_file(self.path, create=create)
                self._holding = (os.getpid(), identity(self.path)[0])
                if self._holding in _held:
                    raise self._error(*_MEANINGS[sqlite3.SQLITE_BUSY])
                self._mark: Mark = check_whole(self.path, accepted=accepted)
                # Taken for whole on a person's word, which has not been given yet.
                self._is_doubtful: bool = self._mark.state == "open" and not wal_id(self.path)
                _held.add(self._holding)
            try:
                keep_private(self.path)
                self._db: sqlite3.Connection = connect(self.path)
                self._open(create)
            except BaseException:
                _held.discard(self._holding)
                raise
        # What SQLite says of a damaged file may be no UTF-8 itself.
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            raise self.explained(error) from error

    def explained(self, error: Exception) -> JournalError:
        """Return any error as ours: what is the matter, and what to do about it."""
        if isinstance(error, JournalError):
            return error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if isinstance(error, OSError):
            code = _AS_SQLITE.get(error.errno or 0, 0)
        # What follows is the column's text, which may be a token.
        said, quoted, _ = str(error).partition(" with text ")
        if quoted or isinstance(error, UnicodeDecodeError):
            code = sqlite3.SQLITE_CORRUPT
        reason, meaning = _MEANINGS.get(code, ("failed", "cannot be used any more; open it again to go on"))
        return self._error(reason, f"{meaning} ({type(error).__name__}: {said})")

    def _error(self, reason: str, message: str) -> JournalError:
        return unusable(self.path, reason, message)

    def _conflict(self, message: str, held_by: tuple[str, int] | None = None) -> Conflict:
        return Conflict(self._error("conflict", message).message, path=self.path, held_by=held_by)

    # -- opening and closing -----------------------------------------------------------------------------

    def _open(self, create: bool) -> None:
        try:
            # Before the first look at the file: then SQLite makes no shared-memory file.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.execute("PRAGMA cell_size_check = ON")
            version = self._version(create)
            self._set_up()
            # Before anything is changed: what is damaged stays as it is.
            self._check_pages()
            self._begin(version)
            self._opened: tuple[object, ...] = identity(self.path)
        except BaseException:
            self._db.close()
            raise

    def _version(self, create: bool) -> int:
        """Return the schema's version (0: the file is empty); refuse another program's, and a later one."""
        application = self._value("PRAGMA application_id")
        version = self._value("PRAGMA user_version")
        if self._value("SELECT count(*) FROM sqlite_master") == 0 and application == version == 0:
            if not create:
                raise self._error("missing", "is an empty file, and no journal yet; check the path")
            return 0
        if application != APPLICATION_ID:
            raise self._error("foreign", "is another program's database; give the journal a file of its own")
        if version > VERSION:
            raise self._error(
                "newer",
                f"has schema version {version}, and this wiro_async ({__version__}) reads up to {VERSION}; "
                f"upgrade with pip install -U wiro-async",
            )
        if version < 1:
            raise self._altered("schema version")
        return version

    def _set_up(self) -> None:
        mode = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise self._error(
                "failed", f"cannot be in WAL mode here, only in {mode}; put it on a disk of this machine"
            )
        self._db.execute("PRAGMA synchronous = FULL")
        # On macOS fsync leaves the data in the drive's memory; elsewhere these two mean nothing.
        self._db.execute("PRAGMA fullfsync = ON")
        self._db.execute("PRAGMA checkpoint_fullfsync = ON")
        self._db.execute("PRAGMA journal_size_limit = 67108864")
        self._db.execute("PRAGMA cache_size = -16000")

    def _check_pages(self) -> None:
        size = self._value("PRAGMA page_count") * self._value("PRAGMA page_size")
        pragma = "integrity_check" if size <= DEEP_CHECK_BYTES else "quick_check"
        faults = "; ".join(str(row[0]) for row in self._db.execute(f"PRAGMA {pragma}(3)"))
        if faults != "ok":
            raise self._error(
                "corrupt",
                f"is damaged ({faults[:300]}); restore a copy, or save what can be saved: docs/journal.md",
            )

    def _begin(self, version: int) -> None:
        """Bring the schema up to date, and have the main file say that it needs its -wal file from here on.

        SQLite gives the -wal file its id with the first page in it. Until the main file has that id, what is
        in the -wal file is of no value but for a migration, which is tried again.
        """
        # A checkpoint in between would leave a main file that needs a -wal file, and does not know which.
        pages = self._value("PRAGMA wal_autocheckpoint")
        self._db.execute("PRAGMA wal_autocheckpoint = 0")
        with self.transaction():
            self._bring_up(version)
            if self._mark.state != "open":
                self._set_mark(self._mark._replace(state="opening"))
            self._set_meta("opened_at", f"{self._clock():.3f}")
            self.tag: str = self._meta("tag") or secrets.token_hex(4)
            self._set_meta("tag", self.tag)
        if not self._is_doubtful:
            self._mark = Mark("open", wal_id(self.path))
            with self.transaction():
                self._set_mark(self._mark)
            self._checkpoint("FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def _set_mark(self, mark: Mark) -> None:
        self._set_meta(MARK, str(mark))

    def _meta(self, name: str) -> str:
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return "" if found is None else str(found[0])

    def _set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _checkpoint(self, mode: str) -> bool:
        """Move the -wal file into the main file; return whether all of it is there."""
        busy, pages, moved = self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return not busy and pages == moved

    def _bring_up(self, version: int) -> None:
        """Make a new journal, or bring one of an earlier version to this one; check the schema.

        Whatever cuts this short, the file is as it was before, or whole.
        """
        if version == 0:
            for sql in SCHEMA.values():
                self._db.execute(sql)
            self._set_meta("created_by", f"wiro_async {__version__}")
            self._set_meta("created_at", f"{self._clock():.3f}")
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        try:
            for earlier in range(version or VERSION, VERSION):
                for sql in MIGRATIONS[earlier]:
                    self._db.execute(sql)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            raise self._altered(f"schema of version {version}") from error
        if version != VERSION:
            self._db.execute(f"PRAGMA user_version = {VERSION}")
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_master"))
        altered = [name for name, sql in SCHEMA.items() if found.get(name) != sql]
        if altered:
            raise self._altered(", ".join(altered))
        self._restamp()

    def _restamp(self) -> None:
        """Count the quiet times of open attempts anew if the computer was started since, or is another one.

        Their Runs may have been on their way just now, and its clock may have been ahead. Where that would be
        by more than an hour, the clock is believed.
        """
        now = self._clock()
        self._db.execute(
            "UPDATE runs SET boot = :boot, quiet_at = :now + (quiet_at - sent_at), "
            "quiet_ticks = :ticks + (quiet_at - sent_at) "
            "WHERE open AND boot != :boot AND quiet_at > :now - :trusted",
            {"boot": self._boot, "ticks": self._ticks(), "now": now, "trusted": TRUSTED},
        )

    def _altered(self, what: str) -> JournalError:
        return self._error("corrupt", f"has no {what} as it should be; restore a copy of the file")

    def close(self) -> None:
        """Move all into the one file and let go of it; where that fails, the -wal file has the rest."""
        is_whole = self._is_doubtful
        try:
            # In two steps, so that no main file is called closed before all of it is there.
            if not self._is_doubtful and self._checkpoint("FULL"):
                with self.transaction():
                    self._set_mark(self._mark._replace(state="closed"))
                is_whole = self._checkpoint("TRUNCATE")
        except sqlite3.Error:
            is_whole = False
        # A main file that says that it needs a -wal file must not lose it.
        with nullcontext() if is_whole else kept_wal(self.path), suppress(sqlite3.Error):
            self._db.close()
        _held.discard(self._holding)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is done within durable together, or not at all."""
        # IMMEDIATE: the lock is asked for before anything is read, not in the middle.
        self._db.execute("BEGIN IMMEDIATE")
        self._is_checked = False
        was_doubtful = self._is_doubtful
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._is_doubtful = was_doubtful
            # After some errors SQLite has rolled back by itself.
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    # -- writing -----------------------------------------------------------------------------------------

    def apply(self, step: Step, text: str) -> None:
        """Make a step, within a transaction. All its checks come before its first change.

        Args:
            step: The step.
            text: The JSON that it brings; see ``steps.text_of``.

        Raises:
            JournalError: ``conflict``: it cannot follow what is recorded; nothing was changed.
        """
        now = self._clock()
        match step:
            case Uploaded(sha256, url, size):
                values = (sha256, steps.clean(url), steps.whole(size), now)
                self._db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", values)
            case Learned(name):
                self._db.execute("INSERT OR REPLACE INTO learned VALUES (?, ?, ?)", (name, text, now))
            case Confirmed(tasks):
                self._is_doubtful = False
                self._set_meta("confirmed_at", f"{now:.3f}")
                self._set_meta("confirmed_tasks", json.dumps(sorted({*self._confirmed(), *tasks})))
            case Intended():
                self._intend(step, text)
            case _:
                job = self._find(step.key)
                self._check_attempt(step, job)
                state = self._after(job, step)
                if state != job.state:
                    self._db.execute("UPDATE jobs SET state = ? WHERE job = ?", (state, job.id))
                self._note(job, step, now)

    def _check_attempt(self, step: JobStep, job: _Job) -> None:
        """Refuse a step that names another attempt than its own: the latest, or of an intent the next one.

        Raises:
            JournalError: It does.
        """
        named = getattr(step, "attempt", 0)
        expected = job.attempt + 1 if isinstance(step, Intended) else job.attempt
        if named not in (0, expected):
            raise self._conflict(
                f"is at attempt {job.attempt} of the job {step.key!r}; {type(step).__name__} names attempt "
                f"{named}, not {expected}"
            )

    def _after(self, job: _Job, step: JobStep) -> State:
        """Return the state that a step brings a job to.

        Raises:
            JournalError: It cannot be made.
        """
        if isinstance(step, Accepted):
            if not step.task_id or not is_utf8(step.task_id):
                raise self._conflict(f"cannot keep {step.task_id[:60]!r} as a task id; it is no text")
            if job.state and job.task_id == step.task_id:
                return job.state
            if job.task_id:
                raise self._conflict(
                    f"has the task {job.task_id} for the job {step.key!r}, not {step.task_id}; where the "
                    f"former is another job's, record Doubted first",
                )
            self._check_free(job, step)
        state = steps.after(job.state, step, unclear=job.unclear)
        if state is None:
            has = f"has the job {step.key!r} as {job.state!r}" if job.state else f"knows no job {step.key!r}"
            name, origins = type(step).__name__, steps.origins_of(step)
            raise self._conflict(f"{has}; {name} is for jobs that are {origins}")
        return state

    def _check_free(self, job: _Job, step: Accepted) -> None:
        """Refuse a task that is another attempt's: each is one attempt's, for ever.

        Raises:
            Conflict: It is.
        """
        held = self._db.execute(
            "SELECT key, tasks.attempt FROM tasks JOIN jobs USING (job) "
            "WHERE task_id = ? AND (job, tasks.attempt) != (?, ?)",
            (step.task_id, job.id, job.attempt),
        ).fetchone()
        if held is not None:
            raise self._conflict(
                f"has the task {step.task_id} for attempt {held[1]} of the job {held[0]!r}; a task is one "
                f"attempt's, so it is not attempt {job.attempt}'s of the job {step.key!r}",
                held_by=held,
            )

    def _intend(self, step: Intended, inputs: str) -> None:
        self._check_files()
        job = self._find(step.key)
        self._check_attempt(step, job)
        state = self._after(job, step)
        model, names, digest, sent_at, marker, quiet_at = step.fingerprint
        self._db.execute(
            "INSERT INTO jobs (key, model, inputs, state, attempt) VALUES (?, ?, ?, ?, 1) ON CONFLICT (key) "
            "DO UPDATE SET model = excluded.model, inputs = excluded.inputs, state = excluded.state, "
            "attempt = attempt + 1",
            (step.key, model, inputs, state),
        )
        self._db.execute(
            "INSERT INTO runs (job, attempt, names, digest, marker, sent_at, not_after, quiet_at, boot, "
            "quiet_ticks) SELECT job, attempt, ?, ?, ?, ?, ?, ?, ?, ? FROM jobs WHERE key = ?",
            (
                json.dumps(names, separators=(",", ":")),
                digest,
                marker,
                sent_at,
                sent_at if step.not_after is None else step.not_after,
                quiet_at,
                self._boot,
                self._ticks() + (quiet_at - self._clock()),
                step.key,
            ),
        )

    def _note(self, job: _Job, step: JobStep, now: float) -> None:
        """Record what a step tells of the latest Run, and of its outputs."""
        match step:
            case Accepted(_, task_id, token, _, how):
                # The same task again brings nothing but a token that was not known. One that is no text that
                # can be stored is left out: the task is polled without it.
                kept = None if token is None or not is_utf8(token.reveal()) else _Hidden(token)
                self._set_run(
                    job,
                    "task_id = ?, token = coalesce(?, token), accepted_at = coalesce(accepted_at, ?), "
                    "open = 0, error = '', reason = ''",
                    (task_id, kept, now),
                )
                self._db.execute(
                    "INSERT OR IGNORE INTO tasks VALUES (?, ?, ?, ?, ?)",
                    (task_id, job.id, job.attempt, how, now),
                )
            case Released(_, error, message):
                told = (steps.clean(error), steps.clean(message, steps.MAX_REASON))
                self._set_run(job, "open = 0, error = ?, reason = ?", told)
            case Doubted(_, cause):
                # The task was never this attempt's: whose it is may take it.
                self._db.execute(
                    "DELETE FROM tasks WHERE task_id = ? AND (job, attempt) = (?, ?)",
                    (job.task_id, job.id, job.attempt),
                )
                self._set_run(
                    job,
                    "task_id = '', token = NULL, accepted_at = NULL, open = 1, "
                    "error = 'SubmissionUnknown', reason = ?",
                    (steps.clean(cause, steps.MAX_REASON),),
                )
            case Late(_, quiet_at):
                self._set_run(
                    job,
                    "quiet_ticks = CASE WHEN open THEN max(quiet_ticks, quiet_ticks + (? - quiet_at)) "
                    "ELSE quiet_ticks END, quiet_at = CASE WHEN open THEN max(quiet_at, ?) ELSE quiet_at END",
                    (quiet_at, quiet_at),
                )
            case Stalled(_, reason):
                self._set_run(
                    job, "error = 'TaskStalled', reason = ?", (steps.clean(reason, steps.MAX_REASON),)
                )
            case Ended():
                self._end(job, step, now)
            case Charged(_, task_id, cost):
                self._db.execute(
                    "UPDATE runs SET cost = ?, cost_final = 1 "
                    "WHERE job = ? AND task_id = ? AND ended_at IS NOT NULL AND NOT cost_final",
                    (steps.picos(cost), job.id, task_id),
                )
            case Saved(_, n, path, size, sha256, whole):
                place = steps.path_value(path)
                self._db.execute(
                    "INSERT INTO files (job, attempt, n, path, size, sha256, saved_at, whole) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, attempt, n) DO UPDATE SET "
                    "path = excluded.path, size = excluded.size, sha256 = excluded.sha256, "
                    "saved_at = excluded.saved_at, whole = excluded.whole",
                    (job.id, job.attempt, n, place, steps.whole(size), sha256, now, int(whole)),
                )

    def _end(self, job: _Job, step: Ended, now: float) -> None:
        self._set_run(
            job,
            "outcome = coalesce(?, outcome), cost = CASE WHEN cost_final THEN cost ELSE ? END, "
            "cost_final = max(cost_final, ?), elapsed = ?, ended_at = ?, error = ?, reason = ?",
            (
                step.outcome,
                steps.picos(step.cost),
                step.cost_final,
                steps.seconds(step.elapsed),
                steps.seconds(now if step.at is None else step.at),
                "TaskUnclear" if step.outcome is None else "",
                steps.clean(step.reason, steps.MAX_REASON),
            ),
        )
        # What was saved before stays saved.
        for file in step.outputs:
            self._db.execute(
                "INSERT INTO files (job, attempt, n, name, url, content_type, size) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, attempt, n) DO UPDATE SET "
                "name = excluded.name, url = excluded.url, content_type = excluded.content_type, "
                "size = CASE WHEN saved_at IS NULL THEN excluded.size ELSE size END",
                (
                    job.id,
                    job.attempt,
                    file.n,
                    *map(steps.clean, (file.name, file.url, file.content_type)),
                    steps.whole(file.size),
                ),
            )

    def _set_run(self, job: _Job, columns: str, values: Sequence[object]) -> None:
        sql = f"UPDATE runs SET {columns} WHERE job = ? AND attempt = ?"  # noqa: S608  # written in this file
        self._db.execute(sql, (*values, job.id, job.attempt))

    def _check_files(self) -> None:
        """Refuse to begin what no later process would find; once in a transaction.

        Raises:
            JournalError: ``missing``: the file, or its -wal file, was deleted or replaced.
        """
        if self._is_checked:
            return
        if identity(self.path) != self._opened:
            raise self._error(
                "missing",
                "was deleted, moved or replaced while it was open, with its -wal file or without; put both "
                "back if they are left, and open it again",
            )
        self._is_checked = self._db.in_transaction

    def _find(self, key: str) -> _Job:
        found = self._db.execute(
            "SELECT job, state, attempt, task_id, state = 'ended' AND outcome IS NULL "
            "FROM jobs JOIN runs USING (job, attempt) WHERE key = ?",
            (key,),
        ).fetchone()
        return _Job(0, None, 0, "") if found is None else _Job(*found)

    # -- reading -----------------------------------------------------------------------------------------

    def find(self, key: str) -> JournalEntry | None:
        """Return one job."""
        found = self._db.execute(f"{_ENTRIES} WHERE key = ?", (key,)).fetchone()
        return None if found is None else self._entry(*found)[1]

    def page(self, state: State | None, last: int) -> Page:
        """Return the next jobs in that state (None: in any) after a number, in the order of arrival."""
        # Two statements, so that each can use its index.
        among = "" if state is None else "state = :state AND "
        found = self._db.execute(
            f"{_ENTRIES} WHERE {among}jobs.job > :last ORDER BY jobs.job LIMIT {PAGE}",
            {"state": state, "last": last},
        )
        return [self._entry(*columns) for columns in found.fetchall()]

    def _entry(self, job: int, *columns: Any) -> tuple[int, JournalEntry]:
        (key, inputs, state, attempt, runs, model, names, digest, marker, sent_at, quiet_at, boot,
         quiet_ticks, is_open, task_id, token,
         accepted_at, outcome, cost, cost_final, elapsed, ended_at, error, reason) = columns  # fmt: skip
        entry = JournalEntry(
            key=key,
            inputs=steps.recalled(inputs),
            state=state,
            attempt=attempt,
            runs=runs,
            fingerprint=RunFingerprint(
                model,
                tuple(json.loads(names)),
                digest,
                sent_at,
                marker,
                self._quiet_at(quiet_at, boot, quiet_ticks) if is_open else quiet_at,
            ),
            open=bool(is_open),
            task_id=task_id,
            token=None if token is None else Secret(token),
            accepted_at=accepted_at,
            outcome=outcome,
            cost=None if cost is None else steps.usd(cost),
            cost_final=bool(cost_final),
            elapsed=elapsed,
            ended_at=ended_at,
            error=error,
            reason=reason,
            files=tuple(self._files(job, attempt)),
        )
        return job, entry

    def _quiet_at(self, quiet_at: float, boot: str, quiet_ticks: float) -> float:
        """Return when an attempt is quiet by the wall clock of now, which may have been set since."""
        if not boot or boot != self._boot:
            return quiet_at
        by_ticks = self._clock() + (quiet_ticks - self._ticks())
        # A second is what slewing and our own delays make of it.
        return by_ticks if abs(by_ticks - quiet_at) > 1.0 else quiet_at

    def _files(self, job: int, attempt: int) -> Iterator[JournalFile]:
        rows = self._db.execute(
            "SELECT n, name, url, content_type, size, path, sha256, saved_at, whole FROM files "
            "WHERE job = ? AND attempt = ? ORDER BY n",
            (job, attempt),
        )
        for n, name, url, content_type, size, path, sha256, saved_at, whole in rows:
            place = steps.path_of(path)
            yield JournalFile(n, name, url, content_type, size, place, sha256, saved_at, bool(whole))

    def counts(self) -> JournalCounts:
        """Count all jobs; it reads an index, and every run for its cost."""
        jobs: dict[State, int] = dict.fromkeys(steps.STATES, 0)
        jobs.update(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
        high, low = self._db.execute(
            "SELECT coalesce(sum(cost / :part), 0), coalesce(sum(cost % :part), 0) FROM runs WHERE cost > 0",
            {"part": _PART},
        ).fetchone()
        failures = self._db.execute(
            "SELECT state, error, reason, count(*) AS n FROM jobs JOIN runs USING (job, attempt) "
            "WHERE state IN ('failed', 'cancelled', 'stalled', 'unknown', 'refused') "
            "GROUP BY state, error, reason ORDER BY n DESC, state, error, reason LIMIT 50"
        )
        uncharged = self._value("SELECT count(*) FROM runs WHERE NOT cost_final AND ended_at IS NOT NULL")
        return JournalCounts(
            jobs, steps.usd(high * _PART + low), tuple(JournalFailure(*row) for row in failures), uncharged
        )

    def uncharged(self) -> list[UnchargedRun]:
        """Return the newest attempts whose charges are not recorded yet."""
        found = self._db.execute(
            "SELECT key, model, inputs, task_id, sent_at, ended_at, cost FROM runs JOIN jobs USING (job) "
            "WHERE NOT cost_final AND ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT :most",
            {"most": MOST_UNCHARGED},
        )
        return [
            UnchargedRun(
                key=key,
                model=model,
                inputs=steps.recalled(inputs),
                task_id=task_id,
                sent_at=sent_at,
                ended_at=ended_at,
                counted=None if cost is None else steps.usd(cost),
            )
            for key, model, inputs, task_id, sent_at, ended_at, cost in found
        ]

    def url_of(self, sha256: str) -> str | None:
        """Return where an upload of that content is, if it is young enough to be trusted."""
        found = self._db.execute(
            "SELECT url FROM uploads WHERE sha256 = ? AND uploaded_at >= ?",
            (sha256, self._clock() - steps.UPLOADS_LAST),
        ).fetchone()
        return None if found is None else str(found[0])

    def load_stats(self, name: str) -> JSON | None:
        """Return what was learned under that name ({}: nothing; None: it cannot be read)."""
        found = self._db.execute("SELECT data FROM learned WHERE name = ?", (name,)).fetchone()
        try:
            data: object = {} if found is None else json.loads(found[0])
        except (ValueError, TypeError, RecursionError):  # edited by hand
            return None
        return data if isinstance(data, dict) else None

    def task_ids(self) -> list[str]:
        """Return the tasks that a lost answer might be taken to have been about, oldest first.

        These are the ones that run, and those of Runs sent in the last day, or since a day before the first
        Run in doubt. It reads every run, as adding up their costs does.
        """
        found = self._db.execute(
            "SELECT task_id FROM runs WHERE task_id != '' AND (sent_at >= :recent "
            "OR sent_at >= (SELECT min(sent_at) FROM jobs JOIN runs USING (job, attempt) "
            "WHERE state IN ('intended', 'unknown')) - :span "
            "OR job IN (SELECT job FROM jobs WHERE state IN ('running', 'stalled'))) "
            "ORDER BY sent_at DESC LIMIT :most",
            {"recent": self._clock() - RECENT, "span": RECENT, "most": MOST_TASKS},
        )
        return [str(task_id) for (task_id,) in found][::-1]

    def newest(self) -> float | None:
        """Return when the newest Run was sent, or the journal confirmed, in unix seconds (None: no Run)."""
        sent_at = self._db.execute("SELECT max(sent_at) FROM runs").fetchone()[0]
        return None if sent_at is None else max(float(sent_at), float(self._meta("confirmed_at") or 0))

    def known(self, tasks: Sequence[tuple[str, str]]) -> frozenset[str]:
        """Return the ids of those tasks, given with their markers, that are recorded, or were confirmed."""
        ids = self._db.execute(
            "SELECT task_id FROM tasks WHERE task_id IN (SELECT value FROM json_each(?))",
            (json.dumps([task_id for task_id, _ in tasks]),),
        )
        # A Run whose answer was lost: what is in doubt is looked for, and not missing.
        markers = self._db.execute(
            "SELECT marker FROM runs WHERE marker IN (SELECT value FROM json_each(?))",
            (json.dumps([marker for _, marker in tasks if marker]),),
        )
        told = {str(row[0]) for row in ids} | self._confirmed()
        marked = {str(row[0]) for row in markers}
        return frozenset(task_id for task_id, marker in tasks if task_id in told or marker in marked)

    def _confirmed(self) -> set[str]:
        return set(json.loads(self._meta("confirmed_tasks") or "[]"))

    def _value(self, sql: str) -> int:
        return int(self._db.execute(sql).fetchone()[0])
