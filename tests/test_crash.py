"""Whenever the power goes: every key has one paid run, every clip is whole, and nothing is orphaned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.crash import POINTS

ROOT = Path(__file__).parent.parent

EACH = 10
RANDOM = 200
AT_ONCE = 4
"""Processes at a time: they wait more than they work."""


def crash(*options: str) -> subprocess.Popen[str]:
    """Start schedules in a process of their own: it forks, and has no threads before."""
    # Children that are killed write no coverage, and measuring it would only slow them down.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash", *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def cuts_of(*processes: subprocess.Popen[str]) -> Counter[str]:
    """Wait for schedules; nothing may have failed. Returns how often the power was cut, by point."""
    cuts: Counter[str] = Counter()
    for process in processes:
        said, _ = process.communicate()
        assert process.returncode == 0, said
        cuts.update(json.loads(next(line for line in said.splitlines() if line.startswith("{"))))
    return cuts


@pytest.mark.timeout(900)
def test_the_power_may_go_at_any_point() -> None:
    """Ten times at each of the fourteen points of a job's life, now and then again while it is resumed."""
    parts = [POINTS[part::AT_ONCE] for part in range(AT_ONCE)]
    cuts = cuts_of(*(crash("--each", str(EACH), "--random", "0", "--points", *part) for part in parts))
    assert set(cuts) == set(POINTS)
    assert min(cuts.values()) >= EACH


@pytest.mark.timeout(900)
def test_the_power_may_go_at_any_moment() -> None:
    """Two hundred batches, each cut one to three times."""
    count, seeds = str(RANDOM // AT_ONCE), [str(10_000 * part) for part in range(AT_ONCE)]
    cuts = cuts_of(*(crash("--each", "0", "--random", count, "--seed", seed) for seed in seeds))
    assert cuts["a random moment"] >= RANDOM // 2


@pytest.mark.timeout(300)
def test_a_careless_batch_is_found_out() -> None:
    """The check finds what is paid twice, if the lost answer's task is not looked for."""
    process = crash("--each", "2", "--random", "0", "--points", "answer lost", "answer read", "--careless")
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "was paid 2 times" in said
