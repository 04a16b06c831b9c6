"""``wiro journal``: what a journal says, without going on with its batch."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from rich.table import Table
from rich.text import Text

from wiro_async import (
    Client,
    ConcurrencyLimited,
    ConnectionFailed,
    InvalidInput,
    JournalCounts,
    JournalEntry,
    JournalError,
    JournalFailure,
    JournalReader,
    RateLimited,
)
from wiro_async.cli._batch_options import Memory
from wiro_async.cli._jobs_file import line_of
from wiro_async.cli._report import Report
from wiro_async.cli._session import Code, Session
from wiro_async.cli._text import JSON, clean, clipped, clock, usd

__all__ = ["State", "accept", "open_existing", "show_failed", "show_journal", "show_rows"]

State: TypeAlias = Literal[
    "intended", "running", "stalled", "ended", "done", "failed", "cancelled", "unknown", "refused"
]

MEANINGS: Mapping[State, str] = {
    "intended": "a run may have left",
    "running": "the task is under way",
    "stalled": "the task stands in task_error; it may go on and be billed",
    "ended": "the task has ended; outputs may be missing on the disk, or it is not clear how it ended",
    "done": "complete",
    "failed": "the task failed, or was given up",
    "cancelled": "the task was cancelled",
    "unknown": "the run's answer was lost; it may be billed",
    "refused": "no task exists",
}

FAILED: tuple[State, ...] = ("failed", "cancelled")
"""States of jobs that came to nothing, and that ``wiro resume`` does not run again by itself."""

RESUMED: tuple[State, ...] = ("unknown", "refused")
"""States of jobs that may look lost, and that ``wiro resume`` takes up: in a second batch they would be paid
twice."""

WAITING = frozenset(kind.__name__ for kind in (ConcurrencyLimited, RateLimited, ConnectionFailed))
"""Why a job was refused that does nothing but wait: it was not sent, or turned away unread."""

TURN = "waiting for its turn"

OLDEST_SHOWN = 5
REASONS_SHOWN = 10
REASON_LENGTH = 200


@asynccontextmanager
async def open_existing(path: Path) -> AsyncIterator[JournalReader]:
    """Open a journal that must be there.

    Raises:
        JournalError: It is not there, or cannot be opened.
    """
    async with AsyncExitStack() as stack:
        try:
            journal = await stack.enter_async_context(JournalReader(path))
        except JournalError as error:
            if error.reason != "missing":
                raise
            raise JournalError(
                f"the journal {str(path)!r} does not exist; check the path: `wiro batch` makes one, beside "
                f"its job file or at --journal",
                path=error.path,
                reason=error.reason,
            ) from None
        yield journal


async def show_journal(path: Path, report: Report) -> int:
    """Show the counts, the cost, the commonest failures, and the oldest tasks that run."""
    oldest: list[JournalEntry] = []
    async with open_existing(path) as journal:
        counts = await journal.counts()
        async for entry in journal.entries("running"):
            oldest.append(entry)
            oldest.sort(key=lambda entry: math.inf if entry.accepted_at is None else entry.accepted_at)
            del oldest[OLDEST_SHOWN:]
    report.record(
        {
            "type": "journal",
            "journal": str(path),
            "total": counts.total,
            "jobs": dict(counts.jobs),
            "cost": f"{counts.cost:f}",
            "uncharged": counts.uncharged,
            "failures": [
                {"state": each.state, "error": each.error, "reason": each.reason, "jobs": each.jobs}
                for each in counts.failures
            ],
            "oldest_running": [_entry_record(entry) for entry in oldest],
        }
    )
    report.show(_table(counts))
    # Estimates count until the service records a charge.
    late = f", with estimates for {counts.uncharged} not recorded yet" if counts.uncharged else ""
    report.say(f"{counts.total} jobs; cost {usd(counts.cost)}{late}", "bold")
    for failure in counts.failures[:REASONS_SHOWN]:
        why = clipped(failure.reason or failure.error, REASON_LENGTH)
        state = TURN if _waits(failure) else failure.state
        line = f"{state}: {why}" if why else state
        report.say(f"  {failure.jobs} × {line}", "dim" if _waits(failure) else "red")
    for entry in oldest:
        age = None if entry.accepted_at is None else max(time.time() - entry.accepted_at, 0.0)
        since = "" if age is None else f", for {clock(age)}"
        report.say(f"running: {clean(entry.key)}, task {clean(entry.task_id)}{since}")
    return Code.OK


def _table(counts: JournalCounts) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    waiting = sum(failure.jobs for failure in counts.failures if _waits(failure))
    for state, meaning in MEANINGS.items():
        count = counts.jobs[state] - (waiting if state == "refused" else 0)
        if count:
            table.add_row(str(count), Text(state, "bold"), Text(meaning, "dim"))
    if waiting:
        table.add_row(str(waiting), Text("refused", "bold"), Text(f"{TURN}; no task exists yet", "dim"))
    return table


def _waits(failure: JournalFailure) -> bool:
    return failure.state == "refused" and failure.error in WAITING


async def show_rows(path: Path, state: State, report: Report) -> int:
    """List the jobs in one state, in the order of their arrival."""
    async with open_existing(path) as journal:
        async for entry in journal.entries(state):
            report.record(_entry_record(entry))
            saved = ", ".join(file.path for file in entry.files if file.path)
            parts = (entry.key, entry.task_id, entry.model, saved or entry.reason or entry.error)
            report.say("  ".join(clipped(part, REASON_LENGTH) for part in parts if part))
    return Code.OK


def _entry_record(entry: JournalEntry) -> JSON:
    return {
        "type": "row",
        "key": entry.key,
        "model": entry.model,
        "state": entry.state,
        "attempts": entry.runs,
        "task_id": entry.task_id or None,
        "accepted_at": _time(entry.accepted_at),
        "ended_at": _time(entry.ended_at),
        "cost": None if entry.cost is None else f"{entry.cost:f}",
        "cost_final": entry.cost_final,
        "error": entry.error or None,
        "reason": entry.reason or None,
        "saved": [file.path for file in entry.files if file.path],
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


async def show_failed(path: Path, session: Session) -> int:
    """Write the jobs that a resumption does not run again as a job file, for a journal of its own."""
    left: Counter[State] = Counter()
    async with open_existing(path) as journal:
        retries = Memory.read(await journal.memo()).options.retry_failed or 0
        async for entry in journal.entries(*FAILED, *RESUMED):
            if entry.state in RESUMED or entry.runs <= retries:
                left[entry.state] += 1
                continue
            try:
                line = line_of(entry)
            except InvalidInput as error:
                session.report.problem(error.message)
                continue
            sys.stdout.write(json.dumps(line) + "\n")
    if left:
        told = ", ".join(f"{count} {state}" for state, count in left.items())
        session.report.problem(
            f"not among these: {told}; {session.command('resume', str(path))} resumes them"
        )
    return Code.OK


async def accept(client: Client, path: Path, session: Session) -> int:
    """Confirm a journal, and show what the account has that it does not know."""
    comparison = await client.accept_journal(path)
    report = session.report
    report.record(
        {
            "type": "accepted",
            "journal": str(path),
            "tasks": comparison.tasks,
            "complete": comparison.complete,
            "missing": list(comparison.missing),
            "others": [task.id for task in comparison.others],
        }
    )
    for task_id in comparison.missing:
        fetch = session.command("download", task_id)
        report.problem(
            f"task {clean(task_id)} was run from this journal or a copy of it; {fetch} has its files"
        )
    for task in comparison.others:
        report.say(
            f"task {clean(task.id)}, {clean(task.model)}: not the journal's, or from a run without a callback"
        )
    if not comparison.complete:
        report.problem("the account has more newer tasks than could be compared")
    missing = len(comparison.missing)
    report.say(
        f"accepted; of {comparison.tasks} newer tasks {missing} are of runs that the journal lacks, and "
        f"{len(comparison.others)} of runs that may be others'",
        "bold",
    )
    return Code.OK
