"""A table of figures, each beside what it should be at most."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import attrs

__all__ = ["Line", "show"]


@attrs.frozen
class Line:
    """One figure and what it should be at most (None: whatever it is)."""

    name: str
    value: float
    target: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is at most its target."""
        return self.target is None or self.value <= self.target

    @property
    def row(self) -> str:
        """It as a row of a Markdown table."""
        if self.target is None:
            return f"| {self.name} | {self.value:.3f} | | | {self.note} |"
        reached = "yes" if self.reached else "**no**"
        return f"| {self.name} | {self.value:.3f} | {self.target:.3f} | {reached} | {self.note} |"


def show(lines: Iterable[Line], path: Path | None, **settings: object) -> bool:
    """Print lines as a Markdown table as they come, and write them to a file.

    Args:
        lines: The figures.
        path: Where they go as JSON (None: nowhere).
        settings: What is written beside them.

    Returns:
        Whether all of them are what they should be.
    """
    found = []
    print("| what | figure | at most | reached | |\n|---|---|---|---|---|")
    for line in lines:
        found.append({**attrs.asdict(line), "reached": line.reached})
        print(line.row, flush=True)
    if path is not None:
        path.write_text(json.dumps({**settings, "lines": found}, indent=1) + "\n", "utf-8")
    return all(line["reached"] for line in found)
