"""Whenever the power goes: every key has one paid run, every clip is whole, and nothing is orphaned."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import POINTS
from tests.depth import plays

ROOT = Path(__file__).parent.parent
EACH = plays(1, 10)
MOMENTS = plays(12, 200)


def crash(*options: str) -> tuple[int, str]:
    """Run schedules in processes of their own, which fork before they have threads; return code and words."""
    # Children that are killed write no coverage, and measuring it would only slow them down.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *options],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def cuts_in(said: str) -> dict[str, int]:
    """Return how often the power was cut, by point."""
    cuts: dict[str, int] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return cuts


@pytest.mark.timeout(900)
def test_the_power_may_go_at_any_point() -> None:
    """Some times at each of the fifteen points of a job's life, now and then again while it is resumed."""
    code, said = crash("--each", str(EACH), "--random", "0", "--moved", "0")
    assert code == 0, said
    cuts = cuts_in(said)
    assert set(cuts) == set(POINTS)
    assert min(cuts.values()) >= EACH


@pytest.mark.timeout(900)
def test_the_power_may_go_at_any_moment() -> None:
    """Many batches, each cut one to three times."""
    code, said = crash("--each", "0", "--random", str(MOMENTS), "--moved", "0")
    assert code == 0, said
    assert cuts_in(said)["a random moment"] >= MOMENTS / 2
    met = dict(re.findall(r"(stalled|recorded late): (\d+)", said))
    assert int(met["stalled"]) >= 1
    assert int(met["recorded late"]) >= 1


@pytest.mark.timeout(900)
def test_the_journal_may_be_moved() -> None:
    """Half of a killed one is refused or whole, and a restored one pays for nothing again."""
    code, said = crash("--each", "0", "--random", "0", "--moved", str(EACH + 5))
    assert code == 0, said
    cuts = cuts_in(said)
    assert cuts["half"] >= 1
    assert cuts["restored"] >= 1


@pytest.mark.timeout(300)
def test_a_careless_batch_is_found_out() -> None:
    """What is paid twice if nobody looks for a lost answer's task is found; a command shows it again."""
    drawn = ("--each", "1", "--random", "0", "--moved", "0", "--points", "answer lost", "answer read")
    code, said = crash(*drawn, "--careless")
    assert code == 1
    assert "was paid 2 times" in said
    replay = re.findall(r"Replay it: python -m tests\.crash (.*)", said)[-1]
    assert "--points 'answer read'" in replay
    code, said = crash(*shlex.split(replay))
    assert code == 1
    assert "was paid 2 times" in said
    assert said.startswith("1 schedules")
