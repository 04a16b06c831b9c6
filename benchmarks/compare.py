"""Show what changed between two results: ``python -m benchmarks.compare old.json new.json``.

A figure has changed when the two ranges of its rounds do not touch; all else may be noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import Row, rows_of, shown

__all__ = ["compared", "differences"]


def compared(old: Iterable[Row], new: Iterable[Row], *, everything: bool = False) -> Iterator[str]:
    """Yield the lines of a Markdown table.

    Args:
        old: The figures before.
        new: The figures now.
        everything: Show what has not changed, too.
    """
    before = {row.key: row for row in old}
    yield "| section | n | contender | metric | old | new | new / old | |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in new:
        was = before.pop(row.key, None)
        verdict = "new" if was is None else _verdict(was, row)
        if everything or verdict:
            yield _line(row, was, row, verdict)
    for row in before.values():
        yield _line(row, row, None, "gone")


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what else differs between two documents: machine, versions, mode."""
    facts = [{"mode": data["mode"], **data["environment"]} for data in (old, new)]
    names = [name for name in {**facts[0], **facts[1]} if name not in ("date", "load before")]
    return [
        f"{name}: {facts[0].get(name, 'none')}, then {facts[1].get(name, 'none')}"
        for name in names
        if facts[0].get(name) != facts[1].get(name)
    ]


def _verdict(old: Row, new: Row) -> str:
    if old.reached is not None and new.reached is not None and old.reached != new.reached:
        return "target now reached" if new.reached else "**target no more reached**"
    return "changed" if new.min > old.max or new.max < old.min else ""


def _line(row: Row, old: Row | None, new: Row | None, verdict: str) -> str:
    ratio = f"{new.median / old.median:.2f}" if old and new and old.median else ""
    figures = " | ".join(shown(side.median, side.unit) if side else "" for side in (old, new))
    what = f"{row.section} | {row.n} | {row.contender} | {row.metric}"
    return f"| {what} | {figures} | {ratio} | {verdict} |"


def main() -> None:
    """Compare two files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--all", action="store_true", help="show what has not changed, too")
    options = parser.parse_args()
    old, new = (json.loads(path.read_text("utf-8")) for path in (options.old, options.new))
    for line in differences(old, new):
        print(f"- {line}")
    for line in compared(rows_of(old), rows_of(new), everything=options.all):
        print(line)


if __name__ == "__main__":
    main()
