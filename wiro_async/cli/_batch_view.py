"""How a batch looks while it runs: one picture on a terminal, lines elsewhere, records for programs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from wiro_async import (
    BatchPlan,
    BatchProgress,
    JobOutcome,
    TaskFailed,
    TaskTimeout,
    WiroError,
)
from wiro_async.cli._report import Report
from wiro_async.cli._text import JSON, clipped, clock, usd

__all__ = ["BatchView", "outcome_record", "plan_record", "progress_record", "stacked"]

REFRESHES_PER_SECOND = 4
PLAIN_SECONDS = 30.0
"""How often a line tells how it stands where nothing can be redrawn."""

FAILURES_SHOWN = 5
WIDEST = 100

STAGES: tuple[tuple[str, str, str], ...] = (
    ("skipped", "━", "dim green"),
    ("failed_before", "━", "dim red"),
    ("succeeded", "━", "green"),
    ("failed", "━", "red"),
    ("cancelled", "━", "magenta"),
    ("unknown", "━", "yellow"),
    ("not_started", "─", "dim magenta"),
    ("downloading", "━", "cyan"),
    ("running", "━", "blue"),
    ("submitting", "╍", "blue"),
    ("waiting", "─", "dim"),
)
"""Where a job can be, how the bar shows it, and in which colour."""


# -- records -------------------------------------------------------------------------------------------------


def plan_record(plan: BatchPlan, journal: str) -> JSON:
    """What a batch is going to do."""
    cost = plan.estimated_cost
    return {
        "type": "plan",
        "jobs": plan.jobs,
        "taken_up": plan.taken_up,
        "ended_before": plan.ended,
        "failed_before": plan.failed,
        "duplicates": plan.duplicates + plan.failed_before - plan.ended,
        "invalid_jobs": plan.invalid_jobs,
        "invalid": [{"where": invalid.where, "reason": invalid.reason} for invalid in plan.invalid],
        "estimated_cost": None if cost is None else f"{cost:f}",
        "unpriced": plan.unpriced,
        "price_sources": list(plan.price_sources),
        "estimated_seconds": plan.estimated_seconds,
        "notes": list(plan.notes),
        "journal": journal,
    }


def progress_record(progress: BatchProgress) -> JSON:
    """How a batch stands."""
    return {
        "type": "progress",
        "total": progress.total,
        "read": progress.read,
        **{name: getattr(progress, name) for name, _, _ in STAGES},
        "spent": f"{progress.spent:f}",
        "reserved": f"{progress.reserved:f}",
        "rate": round(progress.rate, 4),
        "eta": None if progress.eta is None else round(progress.eta, 1),
        "elapsed": round(progress.elapsed, 3),
    }


def outcome_record(outcome: JobOutcome) -> JSON:
    """How one job ended."""
    error = outcome.error
    return {
        "type": "outcome",
        "key": outcome.key,
        "succeeded": outcome.succeeded,
        "not_started": outcome.not_started,
        "task_id": outcome.task_id or None,
        "attempts": outcome.attempts,
        "cost": None if outcome.cost is None else f"{outcome.cost:f}",
        "saved": [str(path) for path in outcome.paths],
        "error": None if error is None else type(error).__name__,
        "reason": None if error is None else _reason(error),
    }


def _reason(error: WiroError | OSError) -> str:
    match error:
        case TaskTimeout():
            return f"still running after {clock(error.waited)}"
        case TaskFailed(reason=reason) if reason:
            return reason
        case WiroError():
            return error.message
        case _:
            return str(error)


# -- the view ------------------------------------------------------------------------------------------------


class BatchView:
    """Shows a batch, of which it is told in records.

    Args:
        report: Where to.
        max_cost: USD that may be spent, as the user wrote it (None: no limit).
    """

    def __init__(self, report: Report, max_cost: str | None = None) -> None:
        self._report: Report = report
        self._max_cost: str | None = max_cost
        self._standing: Mapping[str, Any] = {}
        self._told_at: float = time.monotonic()
        self._counts: tuple[Any, ...] = ()
        self._failures: deque[str] = deque(maxlen=FAILURES_SHOWN)
        self._live: Live | None = None
        self._line_at: float = time.monotonic()

    @contextmanager
    def shown(self, *, by_itself: bool = False) -> Iterator[None]:
        """Keep the picture on the screen, where it can be redrawn; it goes when the block is left.

        Args:
            by_itself: Whether a thread redraws it. Else it is redrawn whenever it is told how it stands.
        """
        if not self._report.is_live:
            yield
            return
        live = Live(
            self,
            console=self._report.console,
            auto_refresh=by_itself,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )
        with live:
            self._live = None if by_itself else live
            yield
        self._live = None

    def progress(self, record: JSON) -> None:
        """Take note of how the batch stands."""
        self._standing, self._told_at = record, time.monotonic()
        counts = tuple(record[name] for name, _, _ in STAGES)
        if counts != self._counts:
            self._counts = counts
            self._report.record(record)
        if self._live is not None:
            self._live.refresh()
        elif not self._report.is_live and self._told_at - self._line_at >= PLAIN_SECONDS:
            self._line_at = self._told_at
            self._report.say("; ".join((_counts(record), _pace(record, 0.0, self._max_cost))), "dim")

    def outcome(self, record: JSON) -> None:
        """Take note of how a job ended; one that was not begun is no news."""
        self._report.record(record)
        if record["not_started"]:
            return
        line = _outcome_line(record)
        if not record["succeeded"]:
            self._failures.append(line)
        if not self._report.is_live:
            self._report.say(line)

    def __rich__(self) -> Group:
        standing = self._standing
        if not standing:
            return Group(Text("starting", "dim"))
        width = min(self._report.console.width, WIDEST)
        since = time.monotonic() - self._told_at
        lines = [Text(clipped(line, width), "red", no_wrap=True) for line in self._failures]
        return Group(
            *lines,
            stacked(standing, width),
            Text(_counts(standing)),
            Text(_pace(standing, since, self._max_cost), "dim"),
        )


def _outcome_line(record: Mapping[str, Any]) -> str:
    if record["succeeded"]:
        saved = ", ".join(record["saved"]) or f"task {record['task_id']}"
        return f"✓ {record['key']}  {saved}"
    reason, name = record["reason"] or record["error"], f"task {record['task_id']}"
    task = f" ({name})" if record["task_id"] and name not in reason else ""
    mark = "…" if record["error"] == TaskTimeout.__name__ else "✗"
    return f"{mark} {record['key']}  {reason}{task}"


def stacked(standing: Mapping[str, Any], width: int) -> Text:
    """Return a bar in which every stage has its share of the jobs."""
    counts = {name: standing[name] for name, _, _ in STAGES}
    total = max(standing["total"] or 0, sum(counts.values()), 1)
    # Those that were not read yet wait, too.
    counts["waiting"] += total - sum(counts.values())
    bar, seen, drawn = Text(no_wrap=True), 0, 0
    for name, mark, style in STAGES:
        seen += counts[name]
        end = round(width * seen / total)
        bar.append(mark * (end - drawn), style)
        drawn = end
    return bar


def _counts(standing: Mapping[str, Any]) -> str:
    """Say how many jobs are where: ``12 of 40: 7 succeeded, 1 failed, 4 running``."""
    at = [f"{standing[name]} {name.replace('_', ' ')}" for name, _, _ in STAGES if standing[name]]
    total = standing["read"] if standing["total"] is None else standing["total"]
    ended = sum(standing[name] for name, _, _ in STAGES[:6])
    return f"{ended} of {total}" + (": " if at else "") + ", ".join(at)


def _pace(standing: Mapping[str, Any], since: float, max_cost: str | None) -> str:
    """Say what it took so far, and what is to come: ``$1.40 of $25; 5.2 a minute; 1:02; 3:10 to go``."""
    spent = usd(Decimal(standing["spent"]))
    limit = "" if max_cost is None else f" of ${max_cost}"
    parts = [f"{spent}{limit}"]
    if standing["rate"]:
        parts.append(f"{60 * standing['rate']:.1f} a minute")
    parts.append(clock(standing["elapsed"] + since))
    if standing["eta"] and standing["rate"]:
        parts.append(f"{clock(max(standing['eta'] - since, 0.0))} to go")
    return "; ".join(parts)
