"""The journal's file: opening it with care, and every statement that is ever run on it. For one thread.

SQLite in WAL mode with ``synchronous=FULL``: a transaction is on the disk when its commit returns.
``locking_mode=EXCLUSIVE`` keeps every other connection out, and with it the WAL-reset fault of SQLite before
3.51.3, which needs two of them.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

from wiro_async._errors import JournalError
from wiro_async._journal import steps
from wiro_async._journal.location import check_place, identity, keep_private, make_file, resolved, unusable
from wiro_async._journal.steps import (
    Counts,
    Ending,
    ErrorNote,
    Failure,
    FileRow,
    Intent,
    Row,
    Settled,
    State,
    Step,
)
from wiro_async._protocol.envelope import is_utf8
from wiro_async._protocol.matching import RunFingerprint
from wiro_async._types import JSON, Secret
from wiro_async._version import __version__

__all__ = ["Connect", "Store", "connect"]

APPLICATION_ID = 0x5769726F
"""What tells a journal from other SQLite files: "Wiro"."""

VERSION = 1
"""The schema's version, in ``PRAGMA user_version``; a journal of a later one is refused."""

SCHEMA: Mapping[str, str] = {
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # By rowid: WITHOUT ROWID, by key, 100 000 jobs take 3 times as long to write and a fifth more room.
    "jobs": """CREATE TABLE jobs (
        job INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, inputs TEXT NOT NULL,
        state TEXT NOT NULL, attempt INTEGER NOT NULL)""",
    "jobs_state": "CREATE INDEX jobs_state ON jobs (state, job)",
    "runs": """CREATE TABLE runs (
        job INTEGER NOT NULL, attempt INTEGER NOT NULL,
        names TEXT NOT NULL, digest TEXT NOT NULL, marker TEXT NOT NULL, sent_at REAL NOT NULL,
        task_id TEXT NOT NULL DEFAULT '', token TEXT, accepted_at REAL,
        status TEXT NOT NULL DEFAULT '', status_at REAL,
        outcome TEXT, cost INTEGER, elapsed REAL, ended_at REAL,
        error TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (job, attempt)) WITHOUT ROWID""",
    "files": """CREATE TABLE files (
        job INTEGER NOT NULL, attempt INTEGER NOT NULL, n INTEGER NOT NULL,
        name TEXT NOT NULL DEFAULT '', url TEXT NOT NULL DEFAULT '', content_type TEXT NOT NULL DEFAULT '',
        size INTEGER, path TEXT NOT NULL DEFAULT '', sha256 TEXT NOT NULL DEFAULT '', saved_at REAL,
        PRIMARY KEY (job, attempt, n)) WITHOUT ROWID""",
    "uploads": """CREATE TABLE uploads (
        sha256 TEXT PRIMARY KEY, url TEXT NOT NULL, size INTEGER, uploaded_at REAL NOT NULL) WITHOUT ROWID""",
    "learned": """CREATE TABLE learned (
        name TEXT PRIMARY KEY, data TEXT NOT NULL, learned_at REAL NOT NULL) WITHOUT ROWID""",
}

DEEP_CHECK_BYTES = 512 * 1024 * 1024
"""Up to this size opening checks every index against its table, which takes 0.6 s for 100 000 jobs (100 MB);
a larger journal gets SQLite's quick check, which takes a third of that."""

PAGE = 200
"""Rows read at a time."""

Connect: TypeAlias = Callable[[str], sqlite3.Connection]

_MEANINGS: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: (
        "locked",
        "is in use by another process, or by another Journal of this one; one at a time",
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

_ROWS = (
    "SELECT jobs.job, key, inputs, state, jobs.attempt, (SELECT count(*) FROM runs AS tried "  # noqa: S608
    f"WHERE tried.job = jobs.job AND (tried.task_id != '' OR tried.error NOT IN ({_TURNED_AWAY}))), "
    "model, names, digest, marker, sent_at, task_id, "
    "token, accepted_at, status, status_at, outcome, cost, elapsed, ended_at, error, reason "
    "FROM jobs JOIN runs ON runs.job = jobs.job AND runs.attempt = jobs.attempt"
)

_PART = 10**9
"""Costs are summed in two parts, because a sum beyond 64 bits is an error to SQLite."""

RECENT = 25 * 3600.0
"""Seconds around a Run in which a look for its lost answer minds tasks that are like it, and some more."""

MOST_TASKS = 100_000
"""Task ids that are told at most: as many as a client remembers."""

# To close a file drops all of this process's locks on it, SQLite's too: nobody may open it in between.
_making = threading.Lock()


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


class _Hidden:
    """A token on its way to its column. As a text it would be in the locals that some tracebacks show."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def __conform__(self, _: object) -> str:
        """Return the token to SQLite."""
        return self._token.reveal()


def _hidden(token: Secret | None) -> _Hidden | None:
    """Return a token for its column, unless it is no text that can be stored."""
    return None if token is None or not is_utf8(token.reveal()) else _Hidden(token)


class Store:
    """An open journal, for the thread that opened it.

    Args:
        path: The file; its folder must exist.
        create: Whether to make it when it is not there.
        connect: How to open the database.
        clock: The time, in unix seconds.
        mounts: The file that lists the mounted file systems, where the system has one.

    Raises:
        JournalError: It cannot be opened, or cannot be trusted.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        connect: Connect = connect,
        clock: Callable[[], float] = time.time,
        mounts: str = "/proc/mounts",
    ) -> None:
        self.path: str = resolved(path)
        self._clock = clock
        self._is_checked: bool = False
        try:
            check_place(self.path, mounts)
            with _making:
                make_file(self.path, create=create)
            keep_private(self.path)
            self._db: sqlite3.Connection = connect(self.path)
            self._open(create)
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

    # -- opening and closing -----------------------------------------------------------------------------

    def _open(self, create: bool) -> None:
        try:
            # Before the first look at the file: then SQLite makes no shared-memory file.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.execute("PRAGMA cell_size_check = ON")
            is_new = self._identify(create)
            self._set_up()
            with self.transaction():
                if is_new:
                    self._create()
            self._opened: tuple[object, ...] = identity(self.path)
            self._check()
        except BaseException:
            self._db.close()
            raise

    def _identify(self, create: bool) -> bool:
        """Tell whether the file is empty; refuse another program's, and a later version's."""
        application = self._value("PRAGMA application_id")
        version = self._value("PRAGMA user_version")
        if self._value("SELECT count(*) FROM sqlite_master") == 0 and application == version == 0:
            if not create:
                raise self._error("missing", "is empty; check the path, or pass create=True to begin one")
            return True
        if application != APPLICATION_ID:
            raise self._error("foreign", "is another program's database; give the journal a file of its own")
        if version > VERSION:
            raise self._error(
                "newer",
                f"has schema version {version}, and this wiro_async ({__version__}) reads up to {VERSION}; "
                f"upgrade with pip install -U wiro-async",
            )
        return False

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

    def _create(self) -> None:
        for sql in SCHEMA.values():
            self._db.execute(sql)
        facts = {"created_by": f"wiro_async {__version__}", "created_at": f"{self._clock():.3f}"}
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _check(self) -> None:
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_master"))
        altered = [name for name, sql in SCHEMA.items() if found.get(name) != sql]
        if altered:
            raise self._error(
                "corrupt", f"has no {', '.join(altered)} as it should be; restore a copy of the file"
            )
        size = self._value("PRAGMA page_count") * self._value("PRAGMA page_size")
        pragma = "integrity_check" if size <= DEEP_CHECK_BYTES else "quick_check"
        faults = "; ".join(str(row[0]) for row in self._db.execute(f"PRAGMA {pragma}(3)"))
        if faults != "ok":
            raise self._error(
                "corrupt",
                f"is damaged ({faults[:300]}); restore a copy, or save what can be saved: docs/journal.md",
            )

    def close(self) -> None:
        """Move all into the one file and let go of it; where that fails, the -wal file has the rest."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is done within durable together, or not at all."""
        # IMMEDIATE: the lock is asked for before anything is read, not in the middle.
        self._db.execute("BEGIN IMMEDIATE")
        self._is_checked = False
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # After some errors SQLite has rolled back by itself.
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    # -- writes: each within a transaction, and with its checks before its first change -------------------

    def intend(self, intent: Intent, inputs: str) -> None:
        """Record a Run before it leaves; *inputs* is the recorded form of the intent's inputs."""
        self._check_files()
        fingerprint = intent.fingerprint
        job, state = self._step(intent.key, "intend")
        values = (fingerprint.model, inputs, state, intent.key)
        if job.state is None:
            self._db.execute(
                "INSERT INTO jobs (model, inputs, state, key, attempt) VALUES (?, ?, ?, ?, 1)", values
            )
        else:
            self._db.execute(
                "UPDATE jobs SET model = ?, inputs = ?, state = ?, attempt = attempt + 1 WHERE key = ?",
                values,
            )
        self._db.execute(
            "INSERT INTO runs (job, attempt, names, digest, marker, sent_at) "
            "SELECT job, attempt, ?, ?, ?, ? FROM jobs WHERE key = ?",
            (
                _names_text(fingerprint.names),
                fingerprint.digest,
                fingerprint.marker,
                fingerprint.sent_at,
                intent.key,
            ),
        )

    def accepted(self, key: str, task_id: str, token: Secret | None) -> None:
        """Record the task of a Run; the same one again changes nothing but a token that was not known."""
        job = self._find(key)
        if not is_utf8(task_id):
            raise self._error("conflict", f"cannot keep {task_id[:60]!r} as a task id; it has to be UTF-8")
        if job.task_id and job.task_id != task_id:
            raise self._error(
                "conflict",
                f"has the task {job.task_id} for the job {key!r}, not {task_id}; where the former turned out "
                f"to be another's, call doubted() first",
            )
        if not job.task_id:
            job, state = self._step(key, "accepted")
            self._move(job, state)
        self._set_run(
            job,
            "task_id = ?, token = coalesce(?, token), accepted_at = coalesce(accepted_at, ?), "
            "error = '', reason = ''",
            (task_id, _hidden(token), self._clock()),
        )

    def released(self, key: str, error: ErrorNote) -> None:
        """Record that no task came of a Run."""
        job, state = self._step(key, "released")
        self._move(job, state)
        self._note(job, error)

    def doubted(self, key: str, cause: str) -> None:
        """Record that nobody knows what came of a Run; a task that it had was not its own."""
        job, state = self._step(key, "doubted")
        self._move(job, state)
        self._set_run(job, "task_id = '', token = NULL, accepted_at = NULL, status = '', status_at = NULL")
        self._note(job, ErrorNote("SubmissionUnknown", cause))

    def status(self, key: str, status: str, at: float) -> None:
        """Record what a task does, if the job is known."""
        self._set_run(self._find(key), "status = ?, status_at = ?", (steps.clean(status), steps.seconds(at)))

    def ended(self, key: str, ending: Ending) -> None:
        """Record how a task ended, and what it made; what was saved before stays saved."""
        job = self._find(key)
        state = steps.end(job.state, ending.outcome)
        if state is None:
            raise self._refusal(key, job.state, "ended")
        self._move(job, state)
        self._set_run(
            job,
            "outcome = ?, cost = ?, elapsed = ?, ended_at = ?, error = '', reason = ?",
            (
                ending.outcome,
                steps.picos(ending.cost),
                steps.seconds(ending.elapsed),
                steps.seconds(ending.at),
                steps.clean(ending.reason, steps.MAX_REASON),
            ),
        )
        for out in ending.outputs:
            texts = map(steps.clean, (out.name, out.url, out.content_type))
            self._db.execute(
                "INSERT INTO files (job, attempt, n, name, url, content_type, size) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, attempt, n) DO UPDATE SET "
                "name = excluded.name, url = excluded.url, content_type = excluded.content_type, "
                "size = CASE WHEN saved_at IS NULL THEN excluded.size ELSE size END",
                (job.id, job.attempt, out.n, *texts, steps.whole(out.size)),
            )

    def saved(self, key: str, n: int, path: str, size: int, sha256: str) -> None:
        """Record that an output is on the disk."""
        job, _ = self._step(key, "saved")
        self._db.execute(
            "INSERT INTO files (job, attempt, n, path, size, sha256, saved_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, attempt, n) DO UPDATE SET "
            "path = excluded.path, size = excluded.size, sha256 = excluded.sha256, "
            "saved_at = excluded.saved_at",
            (job.id, job.attempt, n, steps.path_value(path), steps.whole(size), sha256, self._clock()),
        )

    def settled(self, key: str, state: Settled, error: ErrorNote | None) -> None:
        """Record that nothing more is to be done for a job."""
        job, after = self._step(key, state)
        self._move(job, after)
        if error is not None:
            self._note(job, error)

    def uploaded(self, sha256: str, url: str, size: int) -> None:
        """Record where an upload of that content is."""
        self._db.execute(
            "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)",
            (sha256, steps.clean(url), steps.whole(size), self._clock()),
        )

    def save_stats(self, name: str, data: str) -> None:
        """Record what was learned, as JSON text."""
        self._db.execute("INSERT OR REPLACE INTO learned VALUES (?, ?, ?)", (name, data, self._clock()))

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
            "SELECT job, state, attempt, task_id FROM jobs JOIN runs USING (job, attempt) WHERE key = ?",
            (key,),
        ).fetchone()
        return _Job(0, None, 0, "") if found is None else _Job(*found)

    def _step(self, key: str, made: Step) -> tuple[_Job, State]:
        """Return the job, and the state that the step brings it to."""
        job = self._find(key)
        after = steps.step(job.state, made)
        if after is None:
            raise self._refusal(key, job.state, made)
        return job, after

    def _refusal(self, key: str, state: State | None, made: Step) -> JournalError:
        has = f"has the job {key!r} as {state!r}" if state else f"knows no job {key!r}"
        return self._error("conflict", f"{has}; {made!r} is for jobs that are {steps.before(made)}")

    def _move(self, job: _Job, state: State) -> None:
        self._db.execute("UPDATE jobs SET state = ? WHERE job = ?", (state, job.id))

    def _note(self, job: _Job, error: ErrorNote) -> None:
        message = steps.clean(error.message, steps.MAX_REASON)
        self._set_run(job, "error = ?, reason = ?", (steps.clean(error.kind), message))

    def _set_run(self, job: _Job, columns: str, values: Sequence[object] = ()) -> None:
        sql = f"UPDATE runs SET {columns} WHERE job = ? AND attempt = ?"  # noqa: S608  # written in this file
        self._db.execute(sql, (*values, job.id, job.attempt))

    # -- reads -------------------------------------------------------------------------------------------

    def find(self, key: str) -> Row | None:
        """Return one job."""
        found = self._db.execute(f"{_ROWS} WHERE key = ?", (key,)).fetchone()
        return None if found is None else self._row(*found)[1]

    def page(self, state: State | None, after: int) -> list[tuple[int, Row]]:
        """Return the next jobs in that state (None: in any) by their numbers, in the order of arrival."""
        # Two statements, so that each can use its index.
        among = "" if state is None else "state = :state AND "
        found = self._db.execute(
            f"{_ROWS} WHERE {among}jobs.job > :after ORDER BY jobs.job LIMIT {PAGE}",
            {"state": state, "after": after},
        )
        return [self._row(*columns) for columns in found.fetchall()]

    def _row(self, job: int, *columns: Any) -> tuple[int, Row]:
        (key, inputs, state, attempt, runs, model, names, digest, marker, sent_at, task_id, token,
         accepted_at, status, status_at, outcome, cost, elapsed, ended_at, error,
         reason) = columns  # fmt: skip
        row = Row(
            key=key,
            inputs=steps.recalled(inputs),
            state=state,
            attempt=attempt,
            runs=runs,
            fingerprint=RunFingerprint(model, tuple(json.loads(names)), digest, sent_at, marker),
            task_id=task_id,
            token=None if token is None else Secret(token),
            accepted_at=accepted_at,
            status=status,
            status_at=status_at,
            outcome=outcome,
            cost=None if cost is None else steps.usd(cost),
            elapsed=elapsed,
            ended_at=ended_at,
            error=error,
            reason=reason,
            files=tuple(self._files(job, attempt)),
        )
        return job, row

    def _files(self, job: int, attempt: int) -> Iterator[FileRow]:
        rows = self._db.execute(
            "SELECT n, name, url, content_type, size, path, sha256, saved_at FROM files "
            "WHERE job = ? AND attempt = ? ORDER BY n",
            (job, attempt),
        )
        for n, name, url, content_type, size, path, sha256, saved_at in rows:
            yield FileRow(n, name, url, content_type, size, steps.path_of(path), sha256, saved_at)

    def counts(self) -> Counts:
        """Count all jobs; it reads an index, and every run for its cost."""
        jobs: dict[State, int] = dict.fromkeys(steps.STATES, 0)
        jobs.update(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
        high, low = self._db.execute(
            "SELECT coalesce(sum(cost / :part), 0), coalesce(sum(cost % :part), 0) FROM runs WHERE cost > 0",
            {"part": _PART},
        ).fetchone()
        failures = self._db.execute(
            "SELECT state, error, reason, count(*) AS n FROM jobs JOIN runs USING (job, attempt) "
            "WHERE state IN ('failed', 'cancelled', 'unknown', 'refused') "
            "GROUP BY state, error, reason ORDER BY n DESC, state, error, reason LIMIT 50"
        )
        return Counts(jobs, steps.usd(high * _PART + low), tuple(Failure(*row) for row in failures))

    def url_of(self, sha256: str, max_age: float) -> str | None:
        """Return where an upload of that content is, if it is young enough."""
        found = self._db.execute(
            "SELECT url FROM uploads WHERE sha256 = ? AND uploaded_at >= ?", (sha256, self._clock() - max_age)
        ).fetchone()
        return None if found is None else str(found[0])

    def load_stats(self, name: str) -> JSON | None:
        """Return what was learned under that name."""
        found = self._db.execute("SELECT data FROM learned WHERE name = ?", (name,)).fetchone()
        return None if found is None else cast(JSON, json.loads(found[0]))

    def task_ids(self) -> list[str]:
        """Return the tasks that a lost answer might be taken to have been about, oldest first.

        These are the ones that run, and those of Runs sent in the last day, or since a day before the first
        Run in doubt. It reads every run, as adding up their costs does.
        """
        found = self._db.execute(
            "SELECT task_id FROM runs WHERE task_id != '' AND (sent_at >= :recent "
            "OR sent_at >= (SELECT min(sent_at) FROM jobs JOIN runs USING (job, attempt) "
            "WHERE state IN ('intended', 'unknown')) - :span "
            "OR job IN (SELECT job FROM jobs WHERE state = 'running')) "
            "ORDER BY sent_at DESC LIMIT :most",
            {"recent": self._clock() - RECENT, "span": RECENT, "most": MOST_TASKS},
        )
        return [str(task_id) for (task_id,) in found][::-1]

    def _value(self, sql: str) -> int:
        return int(self._db.execute(sql).fetchone()[0])


def _names_text(names: Sequence[str]) -> str:
    return json.dumps(names, separators=(",", ":"))
