"""Seeded chaos: nothing is paid twice, lost or stuck. The machinery is in ``chaos.py``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest

from tests import chaos
from tests.chaos import Backend, Job, Record, Report, Story
from tests.depth import plays
from wiro_async import ConnectionFailed

STEP = plays(80, 200)
"""How many schedules one test plays."""


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """Sandboxes that start at the same time wait for each other's imports, which is theirs to do."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first_seed", range(0, plays(STEP, 2000), STEP))
def test_chaos(first_seed: int) -> None:
    """Schedules on asyncio, with native and anyio cancellations; replay one by its seed."""
    report = chaos.spread(range(first_seed, first_seed + STEP))
    assert not report.failures, str(report)
    assert report.schedules == STEP


@pytest.mark.timeout(300)
def test_chaos_on_trio() -> None:
    """The same on trio, with anyio's cancellations."""
    report = chaos.spread(range(plays(40, 200)), "trio")
    assert not report.failures, str(report)
    assert report.schedules == plays(40, 200)


# -- the suite itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_seed_is_a_schedule(backend: Backend) -> None:
    """The same seed draws the same schedule, another one another; trio has no native cancellations."""
    assert chaos.draw(7, backend) == chaos.draw(7, backend)
    assert chaos.draw(7, backend) != chaos.draw(8, backend)
    cancels = {job.cancel for seed in range(50) for job in chaos.draw(seed, backend).jobs}
    assert cancels == {"", "scope"} | ({"native", "twice", "timeout"} if backend == "asyncio" else set())


@pytest.mark.parametrize(
    ("sabotage", "finding"),
    [
        # A Run whose answer was lost is sent again blindly.
        (("wiro_async._jobs.submit.unknown", lambda *_: ConnectionFailed("reset", sent=False)), "times"),
        # The doubts of cancelled callers are dropped.
        (
            ("wiro_async._jobs.pipeline.Pipeline._reconcile", mock.AsyncMock(side_effect=KeyError)),
            "KeyError",
        ),
        # A connection is never given back.
        (("wiro_async._http.connections.ConnectionStack.release", mock.AsyncMock()), "connections"),
    ],
)
def test_the_suite_finds_what_it_is_for(sabotage: tuple[str, Any], finding: str) -> None:
    """A client that is broken on purpose does not get through twenty schedules."""
    with mock.patch(*sabotage):
        report = chaos.run(range(20))
    assert finding in str(report)
    assert re.search(r"Replay it: python -m tests\.chaos --seed \d+ --backend asyncio\n", f"{report}\n")


def entry(task_id: str, prompt: str = "a", pexit: str = "0") -> dict[str, Any]:
    """Return the ledger's entry of one task."""
    return {"id": task_id, "prompt": prompt, "pexit": pexit, "totalcost": "0.35"}


def told(prompt: str = "a", *ids: str, **endings: str) -> Record:
    """Return the record of a caller that knows these tasks to be its own."""
    job = mock.Mock(spec=Job, number=0, prompt=prompt)
    return Record(job, ids=set(ids), endings={name.removeprefix("t"): how for name, how in endings.items()})


@pytest.mark.parametrize(
    ("tasks", "story", "finding"),
    [
        ([entry("1")], Story([told("a", "1", t1="succeeded")]), None),
        ([entry("1")], Story([told()], late=["1"]), None),
        ([entry("1")], Story([told()], found=["1"]), None),
        ([entry("1"), entry("2")], Story([told("a", "1"), told("a", "2")]), None),
        ([entry("1")], Story([told()]), "nobody was told of task 1"),
        ([entry("1"), entry("2")], Story([told("a", "1")], late=["2"]), "was wanted 1 times, and accepted 2"),
        ([entry("1")], Story([told("a", "1"), told("a", "1")]), "2 callers were given task 1"),
        ([], Story([told("a", "1")]), "a caller was given task 1, which is not"),
        ([entry("1", "b")], Story([told("a", "1"), told("b")]), "which is another's"),
        ([entry("1", pexit="1")], Story([told("a", "1", t1="succeeded")]), "task 1 succeeded"),
        ([entry("1"), entry("2")], Story([told("a", "1", "2"), told()]), "several tasks"),
        ([entry("1"), entry("2")], Story([told(), told()], named={"1"}), None),
        ([entry("1"), entry("2", "b")], Story([told(), told("b")], named={"1"}), "nobody was told of task 2"),
        ([entry("1")], Story([Record(told().job, ids={"1"}, costs={"1": None})]), None),
        ([entry("1")], Story([Record(told().job, ids={"1"}, costs={"1": Decimal("0.350")})]), None),
        ([entry("1")], Story([Record(told().job, ids={"1"}, costs={"1": Decimal(0)})]), "task 1 cost 0"),
    ],
)
def test_the_checker(tasks: list[dict[str, Any]], story: Story, finding: str | None) -> None:
    """Every way in which the books and the callers can differ is found, and nothing else."""
    wrong = chaos.check({"tasks": tasks, "credentials_leaked": 0}, story)
    if finding is None:
        assert wrong == []
    else:
        assert finding in " / ".join(wrong)


def test_a_leaked_key_is_found() -> None:
    """The CDN must never see a credential."""
    assert chaos.check({"tasks": [], "credentials_leaked": 1}, Story([])) == ["a key was sent to the CDN"]


def test_a_replay_tells_all() -> None:
    """One seed, with the schedule, the faults, the ledger and the callers."""
    stories: list[str] = []
    chaos.run([3], tell=stories.append)
    for part in ("=== seed 3 ===", "The schedule:", "The faults:", "The ledger:", "The callers:", "--seed 3"):
        assert part in stories[0]


def test_reports_add_up() -> None:
    """Processes work at the same time; the worst of all counts."""
    report = Report(2, 1.0, overruns={"wait": 0.1})
    report.add(Report(3, 2.0, overruns={"wait": 0.2, "stop": 0.0}, failures={4: "text"}))
    assert report == Report(5, 2.0, overruns={"wait": 0.2, "stop": 0.0}, failures={4: "text"})
