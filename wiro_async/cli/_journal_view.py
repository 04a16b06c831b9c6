"""``wiro journal``: what a journal says, without going on with its batch."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from wiro_async._errors import InvalidInput, JournalError
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import STATES, TURNED_AWAY, JournalCounts, JournalEntry, JournalFailure, State
from wiro_async._types import JSON
from wiro_async.cli._batch_options import MEMORY, Memory
from wiro_async.cli._jobs_file import line_of
from wiro_async.cli._report import Report
from wiro_async.cli._session import Code, Session
from wiro_async.cli._text import clean, clipped, clock, usd

__all__ = ["FAILED", "open_existing", "show_failed", "show_journal", "show_rows"]

FAILED: tuple[State, ...] = ("failed", "cancelled")
"""States of jobs that came to nothing, and that ``wiro resume`` does not run again by itself."""

RESUMED: tuple[State, ...] = ("unknown", "refused")
"""States of jobs that may look lost, and that ``wiro resume`` takes up: in a second batch they would be paid
twice."""

WAITING = frozenset(kind.__name__ for kind in TURNED_AWAY)
"""Why a job was refused that does nothing but wait."""

TURN = "waiting for its turn"

MEANINGS: Mapping[State, str] = {
    "intended": "a run may have left",
    "running": "the task is under way",
    "ended": "succeeded; outputs may be missing on the disk",
    "done": "everything wanted is there",
    "failed": "the task failed",
    "cancelled": "by anybody",
    "unknown": "the run's answer was lost; it may be billed",
    "refused": "no task exists",
}

OLDEST_SHOWN = 5
REASONS_SHOWN = 10
REASON_LENGTH = 200


async def open_existing(path: Path) -> SQLiteJournal:
    """Open a journal that must be there.

    Raises:
        JournalError: It is not there, or cannot be opened.
    """
    try:
        return await SQLiteJournal.open(path, create=False)
    except JournalError as error:
        if error.reason != "missing":
            raise
        problem = error.message.rpartition("; ")[0]
        message = f"{problem}; check the path: `wiro batch` makes one, beside its job file or at --journal"
        raise JournalError(message, path=error.path, reason=error.reason) from None


async def show_journal(path: Path, report: Report) -> int:
    """Show the counts, the cost, the commonest failures, and the oldest tasks that run."""
    async with await open_existing(path) as journal:
        counts = await journal.counts()
        oldest = await _oldest(journal)
    report.record(_journal_record(path, counts, oldest))
    report.show(_table(counts))
    report.say(f"{counts.total} jobs; cost {usd(counts.cost)}", "bold")
    for failure in counts.failures[:REASONS_SHOWN]:
        report.say(f"  {failure.jobs} × {_failure_line(failure)}", "dim" if _waits(failure) else "red")
    for row in oldest:
        since = "" if row.accepted_at is None else f", for {clock(max(time.time() - row.accepted_at, 0.0))}"
        report.say(f"running: {clean(row.key)}, task {clean(row.task_id)}{since}")
    return Code.OK


def _waits(failure: JournalFailure) -> bool:
    return failure.state == "refused" and failure.error in WAITING


def _failure_line(failure: JournalFailure) -> str:
    why = clipped(failure.reason or failure.error, REASON_LENGTH)
    state = TURN if _waits(failure) else failure.state
    return f"{state}: {why}" if why else state


async def _oldest(journal: SQLiteJournal) -> list[JournalEntry]:
    oldest: list[JournalEntry] = []
    async for row in journal.entries("running"):
        oldest.append(row)
        oldest.sort(key=lambda row: math.inf if row.accepted_at is None else row.accepted_at)
        del oldest[OLDEST_SHOWN:]
    return oldest


def _table(counts: JournalCounts) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    waiting = sum(failure.jobs for failure in counts.failures if _waits(failure))
    for state in STATES:
        count = counts.jobs[state] - (waiting if state == "refused" else 0)
        if count:
            table.add_row(str(count), Text(state, "bold"), Text(MEANINGS[state], "dim"))
    if waiting:
        table.add_row(str(waiting), Text("refused", "bold"), Text(f"{TURN}; no task exists yet", "dim"))
    return table


def _journal_record(path: Path, counts: JournalCounts, oldest: list[JournalEntry]) -> JSON:
    return {
        "type": "journal",
        "journal": str(path),
        "total": counts.total,
        "jobs": dict(counts.jobs),
        "cost": f"{counts.cost:f}",
        "failures": [
            {"state": failure.state, "error": failure.error, "reason": failure.reason, "jobs": failure.jobs}
            for failure in counts.failures
        ],
        "oldest_running": [_row_record(row) for row in oldest],
    }


async def show_rows(path: Path, state: State, report: Report) -> int:
    """List the jobs in one state, in the order of their arrival."""
    async with await open_existing(path) as journal:
        async for row in journal.entries(state):
            report.record(_row_record(row))
            saved = ", ".join(file.path for file in row.files if file.path)
            parts = (row.key, row.task_id, row.model, saved or row.reason or row.error)
            report.say("  ".join(clipped(part, REASON_LENGTH) for part in parts if part))
    return Code.OK


def _row_record(row: JournalEntry) -> JSON:
    return {
        "type": "row",
        "key": row.key,
        "model": row.model,
        "state": row.state,
        "attempts": row.runs,
        "task_id": row.task_id or None,
        "accepted_at": _time(row.accepted_at),
        "ended_at": _time(row.ended_at),
        "cost": None if row.cost is None else f"{row.cost:f}",
        "error": row.error or None,
        "reason": row.reason or None,
        "saved": [file.path for file in row.files if file.path],
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


async def show_failed(path: Path, session: Session) -> int:
    """Write the jobs that a resumption does not run again as a job file, for a journal of its own."""
    left: Counter[State] = Counter()
    async with await open_existing(path) as journal:
        retries = Memory.read(await journal.load_stats(MEMORY)).options.retry_failed or 0
        async for row in journal.entries(*FAILED, *RESUMED):
            if row.state in RESUMED or row.runs <= retries:
                left[row.state] += 1
                continue
            try:
                line = line_of(row)
            except InvalidInput as error:
                session.report.problem(error.message)
                continue
            sys.stdout.write(json.dumps(line) + "\n")
    if left:
        told = ", ".join(f"{count} {state}" for state, count in left.items())
        session.report.problem(
            f"not among these: {told}; {session.command('resume', str(path))} takes them up"
        )
    return Code.OK
