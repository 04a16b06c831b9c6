"""Figures in, one document out: JSON of one schema, and the Markdown that is made of it. Pure.

The document: ``schema`` (1), ``mode``, ``environment``, ``settings``, ``notices``, and ``results``, a list of
``{section, contender, n, metric, unit, median, min, max, rounds, target, reached}``. Less is better in every
figure that has a target, and ``target`` is the most that it may be.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.targets import TARGETS, Target

__all__ = ["SCHEMA", "Figures", "Row", "document", "markdown", "rows_of", "shown", "summary"]

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One figure of the document.

    Attributes:
        section: What was measured.
        contender: Whom it is of; for a ratio, "ours / theirs".
        n: Of how many: calls in flight, jobs, rows.
        metric: Which figure.
        unit: Its unit.
        median: The median of the rounds.
        min: The least.
        max: The most.
        rounds: How often it was measured.
        target: The most that the median may be (None: there is no target).
        reached: Whether it is (None: there is no target).
    """

    section: str
    contender: str
    n: int
    metric: str
    unit: str
    median: float
    min: float
    max: float
    rounds: int
    target: float | None = None
    reached: bool | None = None

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What the same figure is known by in another document."""
        return self.section, self.contender, self.n, self.metric


_Key = tuple[str, str, int, str, str]


class Figures:
    """Collects what the rounds brought."""

    def __init__(self) -> None:
        self._values: dict[_Key, list[float]] = {}

    def add(self, section: str, contender: str, n: int, seen: Iterable[tuple[str, str, float]]) -> None:
        """Take one round's figures: metric, unit and value of each."""
        for metric, unit, value in seen:
            self._values.setdefault((section, contender, n, metric, unit), []).append(value)

    def rows(self, targets: Iterable[Target] = TARGETS) -> list[Row]:
        """Return every figure, and the ratios that the targets name; each ratio is taken round by round."""
        rows = [_row(key, values) for key, values in self._values.items()]
        found = {row.key: row for row in rows}
        for target in targets:
            for n in sorted({key[2] for key in self._values if key[0] == target.section}):
                if target.applies(n):
                    found.update((row.key, row) for row in self._judged(target, n))
        return list(found.values())

    def _judged(self, target: Target, n: int) -> Iterator[Row]:
        for key, values in list(self._values.items()):
            if key[:4] != (target.section, target.contender, n, target.metric):
                continue
            if not target.against:
                yield _row(key, values, target.at_most)
                continue
            theirs = self._values.get((target.section, target.against, n, target.metric, key[4]), [])
            ratios = [mine / other for mine, other in zip(values, theirs, strict=False) if other > 0]
            if ratios:
                name = f"{target.contender} / {target.against}"
                yield _row((target.section, name, n, target.metric, "ratio"), ratios, target.at_most)


def _row(key: _Key, values: list[float], target: float | None = None) -> Row:
    section, contender, n, metric, unit = key
    median = statistics.median(values)
    reached = None if target is None else median <= target
    return Row(
        section, contender, n, metric, unit, median, min(values), max(values), len(values), target, reached
    )


def document(
    mode: str, environment: dict[str, Any], settings: dict[str, Any], notices: list[str], rows: Iterable[Row]
) -> dict[str, Any]:
    """Return the whole, ready for JSON."""
    return {
        "schema": SCHEMA,
        "mode": mode,
        "environment": environment,
        "settings": settings,
        "notices": notices,
        "results": [asdict(row) for row in rows],
    }


def rows_of(data: dict[str, Any]) -> list[Row]:
    """Return the figures of a document.

    Raises:
        ValueError: It is of another schema.
    """
    if data.get("schema") != SCHEMA:
        raise ValueError(f"schema is {data.get('schema')!r}; it must be {SCHEMA}: measure again")
    return [Row(**row) for row in data["results"]]


def markdown(data: dict[str, Any]) -> str:
    """Return a document as Markdown: the targets first, then a table for each section."""
    rows = rows_of(data)
    facts = ", ".join(f"{name} {value}" for name, value in data["environment"].items())
    lines = ["# What it costs", "", f"Mode {data['mode']}. {facts}.", ""]
    lines += ["Medians, with the least and the most of the rounds in brackets where a target is set.", ""]
    lines += ["## In short", "", *summary(rows), ""]
    lines += _targets([row for row in rows if row.target is not None])
    for section in dict.fromkeys(row.section for row in rows):
        lines += _section(section, [row for row in rows if row.section == section and row.unit != "ratio"])
    if data["settings"]:
        lines += ["## Settings", "", *(f"- {name}: {value}" for name, value in data["settings"].items()), ""]
    if data["notices"]:
        lines += ["## Notices", "", *(f"- {notice}" for notice in data["notices"]), ""]
    return "\n".join(lines).rstrip() + "\n"


SHORT = (
    ("calls", 100, "CPU", "µs"),
    ("jobs", 1000, "CPU a job", "ms"),
    ("jobs", 1000, "requests a job", ""),
    ("jobs", 1000, "lateness p50", "ms"),
    ("jobs", 1000, "lateness p99", "ms"),
    ("jobs", 1000, "peak memory", "MiB"),
)


def summary(rows: Iterable[Row]) -> list[str]:
    """Return the short table that a README shows: a call, and a job among a thousand."""
    found = {row.key: row for row in rows if row.unit != "ratio"}
    names = {"calls": "a call among {n}: {metric}", "jobs": "a job among {n}: {metric}"}
    heads = [
        names[section].format(n=n, metric=metric.removesuffix(" a job")) + (f", {unit}" if unit else "")
        for section, n, metric, unit in SHORT
    ]
    lines = ["| contender | " + " | ".join(heads) + " |", "|---|" + "---|" * len(SHORT)]
    for contender in dict.fromkeys(key[1] for key in found if key[0] in names):
        cells = [found.get((section, contender, n, metric)) for section, n, metric, _ in SHORT]
        if any(cells):
            figures = " | ".join(shown(cell.median, "") if cell else "" for cell in cells)
            lines.append(f"| {contender} | {figures} |")
    return lines


def _targets(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    lines = [
        "## Targets",
        "",
        "| section | what | n | of whom | measured | at most | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = f"{shown(row.median, row.unit)} ({shown(row.min, '')}–{shown(row.max, '')})"
        verdict = "reached" if row.reached else "**not reached**"
        limit = shown(row.target or 0.0, row.unit)
        lines.append(
            f"| {row.section} | {row.metric} | {row.n} | {row.contender} | {span} | {limit} | {verdict} |"
        )
    return [*lines, ""]


def _section(name: str, rows: list[Row]) -> list[str]:
    """One line for each contender and n, one column for each metric."""
    metrics = list(dict.fromkeys((row.metric, row.unit) for row in rows))
    cells = {(row.n, row.contender, row.metric): row for row in rows}
    lines = [
        f"## {name.capitalize()}",
        "",
        "| n | contender | "
        + " | ".join(f"{metric}, {unit}" if unit else metric for metric, unit in metrics)
        + " |",
        "|---|---|" + "---|" * len(metrics),
    ]
    for n, contender in dict.fromkeys((row.n, row.contender) for row in sorted(rows, key=lambda row: row.n)):
        found = [cells.get((n, contender, metric)) for metric, _ in metrics]
        values = " | ".join("" if row is None else shown(row.median, "") for row in found)
        lines.append(f"| {n} | {contender} | {values} |")
    return [*lines, ""]


def shown(value: float, unit: str) -> str:
    """Return a figure with three digits that count, and its unit."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text if unit in ("", "ratio") else f"{text} {unit}"
