"""What the service tells a batch late or never: charges, ends in pieces, what becomes of task_error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.batches import (
    MODEL,
    Fate,
    Made,
    Service,
    alone,
    batch_of,
    job,
    jobs,
    outcomes,
    priced,
    states_of,
)
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import no, task
from tests.journals import NOW, Database, rows_of
from wiro_async import Job, TaskFailed, TaskStalled, TaskUnclear
from wiro_async._jobs.budget import ZERO, Budget, Charges, Prices
from wiro_async._journal.steps import Charged, UnchargedRun
from wiro_async._protocol.records import parse_task


def endless() -> Iterator[Job]:
    return (job(f"p{number}") for number in count())


# -- charges ---------------------------------------------------------------------------------------------


async def test_the_first_charge_tells_what_runs_cost() -> None:
    """It comes within a minute: then the limit is kept by what is known."""
    service = Service()
    late = service.fates["p0"] = Fate(cost=None)
    async with batch_of(service, endless(), max_cost=1) as batch:
        await anyio.sleep(75)
        late.cost = "0.35"
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "max_cost"
    assert len(service.made) == 2


async def test_late_charges_are_counted_and_recorded_at_the_end(
    tmp_path: Path, databases: list[Database]
) -> None:
    """By polls if they are few, from the list if they are many; else at the beginning of the next batch."""
    for number in (3, 12):
        service, path = priced(Service(limit=20), "0.50"), tmp_path / f"{number}.db"
        names = [f"p{each}" for each in range(number)]
        fates = service.fates = {name: Fate(cost="0") for name in names}
        fates[names[-1]] = Fate(lasts=100.0)
        async with batch_of(service, jobs(*names), max_cost=50, journal=path) as batch:
            await anyio.sleep(80)
            assert batch.progress.spent == Decimal("0.50") * (number - 1)
            for fate in fates.values():
                fate.cost = "0.35"
            fates[names[0]].cost = None
            report = await batch.wait()
        assert report.progress.spent == Decimal("0.35") * (number - 1) + Decimal("0.50")
        rows = await rows_of(path)
        assert [rows[name].cost_final for name in names] == [False] + [True] * (number - 1)
        assert rows[names[0]].cost == Decimal("0.50")
        assert rows[names[1]].cost == Decimal("0.35")
        fates[names[0]].cost = "0.25"
        async with batch_of(service, max_cost=50, journal=path) as batch:
            report = await batch.wait()
        assert report.progress.spent == Decimal("0.35") * (number - 1) + Decimal("0.25")
        assert (await rows_of(path))[names[0]].cost == Decimal("0.25")
        assert service.counts["Run"] == number


async def test_charges_that_cannot_be_read_stay_for_another_time(
    tmp_path: Path, databases: list[Database]
) -> None:
    """The service does not answer: nothing is lost, and no job waits for it."""
    for number in (3, 12):
        service, path = priced(Service(limit=20), "0.50"), tmp_path / f"{number}.db"
        names = [f"p{each}" for each in range(number)]
        service.fates = {name: Fate(cost="0") for name in names}
        await outcomes(service, jobs(*names), max_cost=50, journal=path)
        service.handlers["Task/Detail"] = service.handlers["Task/List"] = no(99, "token expired")
        async with batch_of(service, max_cost=50, journal=path) as batch:
            report = await batch.wait()
        assert report.progress.spent == Decimal("0.50") * number


async def test_a_charge_whose_task_is_not_in_the_list_stays_awaited(
    tmp_path: Path, databases: list[Database]
) -> None:
    """The others are settled; its estimate counts."""
    service, path = priced(Service(limit=20), "0.50"), tmp_path / "a.db"
    names = [f"p{each}" for each in range(12)]
    service.fates = {name: Fate(cost="0") for name in names}
    await outcomes(service, jobs(*names), max_cost=50, journal=path)
    for fate in service.fates.values():
        fate.cost = "0.35"
    del service.made["2221"]
    async with batch_of(service, max_cost=50, journal=path) as batch:
        report = await batch.wait()
    assert report.progress.spent == Decimal("0.35") * 11 + Decimal("0.50")


async def test_a_task_that_was_stopped_while_it_ran_is_free_after_an_hour() -> None:
    """It shows 0 until then, and that may be a charge that is not recorded yet."""
    budget = Budget(None)
    charges = Charges(budget, Prices())
    run = UnchargedRun("k", MODEL, {}, "7", NOW, NOW, Decimal("0.5"))
    assert charges.next_look() == math.inf
    budget.expect("7", Decimal("0.5"))
    charges.add(run, 100.0)
    assert charges.next_look() == 160.0
    assert charges.wanted(160.0, last=False) == [run]
    killed = parse_task(task("7", "task_cancel", starttime="1", totalcost="0"))
    assert charges.take(parse_task(task("8", "task_cancel")), NOW) is None
    assert charges.take(killed, NOW + 3599) is None
    assert charges.next_look() == 220.0
    for _ in range(9):
        charges.wanted(220.0, last=False)
    assert (charges.next_look(), charges.wanted(300.0, last=False)) == (math.inf, [])
    assert charges.wanted(300.0, last=True) == [run]
    assert charges.take(killed, NOW + 3601) == Charged("k", "7", ZERO)
    assert budget.spent == 0
    assert charges.overdue() is None


def test_a_budget_cannot_be_kept_by_what_shows_no_charge_a_minute_after_its_end() -> None:
    """Where nothing at all counts for it, it is looked for 2, 5, 10, 20, 40 and 60 s after, and no more."""
    budget = Budget(Decimal(5))
    charges = Charges(budget, Prices())
    run = UnchargedRun("k", MODEL, {}, "7", NOW, NOW, None)
    budget.expect("7", None)
    charges.add(run, 100.0)
    for look in (102.0, 105.0, 110.0, 120.0, 140.0, 160.0):
        assert charges.overdue() is None
        assert charges.next_look() == look
        assert charges.wanted(look, last=False) == [run]
    assert charges.overdue() == run
    assert charges.next_look() == math.inf


# -- ends that are none ----------------------------------------------------------------------------------


def endings(service: Service, **fields: Any) -> dict[str, Any]:
    """Have the service show its ended tasks with other fields; the dictionary can be changed."""
    usual, other = service.wire, dict(fields)

    def wire(made: Made) -> dict[str, Any]:
        shown = usual(made)
        return {**shown, **other} if shown["status"] == "task_postprocess_end" else shown

    service.wire = wire  # type: ignore[method-assign,assignment]
    return other


@pytest.mark.parametrize("fields", [{"pexit": "", "outputs": []}, {"outputs": []}])
@pytest.mark.parametrize("better", ["whole", "failed", "the same"])
async def test_an_end_that_is_not_clear_is_looked_at_again(
    tmp_path: Path, databases: list[Database], fields: dict[str, Any], better: str
) -> None:
    """Its job stays ended, never done; the next batch finds it whole, or failed, or as it was."""
    service, path = Service(), tmp_path / "a.db"
    other = endings(service, **fields)
    outcome = await alone(service, journal=path, download=tmp_path)
    assert isinstance(outcome.error, TaskUnclear)
    row = (await rows_of(path))["a"]
    assert (row.state, row.files) == ("ended", ())
    assert row.outcome == (None if fields.get("pexit") == "" else "succeeded")
    other.clear()
    if better != "whole":
        other |= fields if better == "the same" else {"pexit": "1", "outputs": []}
    async with batch_of(service, journal=path, download=tmp_path) as batch:
        outcome = await anext(batch)
    row = (await rows_of(path))["a"]
    if better == "whole":
        assert outcome.succeeded
        assert (row.state, row.outcome, len(row.files), row.cost) == ("done", "succeeded", 1, Decimal("0.35"))
    elif better == "the same":
        assert isinstance(outcome.error, TaskUnclear)
        assert row.state == "ended"
    else:
        assert isinstance(outcome.error, TaskFailed)
        # Where it was said to have succeeded, that stands.
        assert row.state == ("failed" if fields.get("pexit") == "" else "ended")
    assert service.runs == {"a": 1}


async def test_a_charge_that_comes_with_a_clear_end_is_recorded_with_it(
    tmp_path: Path, databases: list[Database]
) -> None:
    """Neither was there when the resumed batch looked for charges, and both are when it judges the end."""
    service, path = Service(), tmp_path / "a.db"
    other = endings(service, pexit="", outputs=[], totalcost="0")
    assert isinstance((await alone(service, journal=path)).error, TaskUnclear)
    polls = service.counts["Task/Detail"]
    shown = service.wire

    def wire(made: Made) -> dict[str, Any]:
        if service.counts["Task/Detail"] > polls + 2:
            other.clear()
        return shown(made)

    service.wire = wire  # type: ignore[method-assign,assignment]
    async with batch_of(service, journal=path) as batch:
        assert (await anext(batch)).succeeded
    row = (await rows_of(path))["a"]
    assert (row.state, row.cost, row.cost_final) == ("done", Decimal("0.35"), True)


# -- task_error ------------------------------------------------------------------------------------------


async def test_a_stalled_task_frees_its_slot_and_is_looked_at_again(
    tmp_path: Path, databases: list[Database]
) -> None:
    """Others go on, its money stays, it is never run again by itself, and the next batch looks once."""
    service, path = priced(Service(limit=1), "0.50"), tmp_path / "a.db"
    usual, stalled = service.wire, ["a"]

    def wire(made: Made) -> dict[str, Any]:
        shown = usual(made)
        if made.inputs["prompt"] in stalled:
            return {**shown, "status": "task_error", "debugerror": "worker lost", "outputs": []}
        return shown

    service.wire = wire  # type: ignore[method-assign,assignment]
    async with batch_of(service, jobs("a", "b"), journal=path, max_cost=2, retry_failed=3) as batch:
        start = anyio.current_time()
        found = [outcome async for outcome in batch]
        assert batch.progress.reserved == Decimal("0.50")
    assert [outcome.key for outcome in found] == ["a", "b"]
    assert isinstance(found[0].error, TaskStalled)
    assert "worker lost" in str(found[0].error)
    assert found[1].succeeded
    assert anyio.current_time() - start < 300
    row = (await rows_of(path))["a"]
    assert (row.state, row.error, row.reason) == ("stalled", "TaskStalled", "worker lost")
    for _ in range(2):
        start = anyio.current_time()
        async with batch_of(service, journal=path, max_cost=2, retry_failed=3) as batch:
            outcome = await anext(batch)
            assert batch.progress.reserved == Decimal("0.50")
        assert isinstance(outcome.error, TaskStalled)
        assert anyio.current_time() - start < 10
    stalled.clear()
    async with batch_of(service, journal=path, max_cost=2) as batch:
        assert (await anext(batch)).succeeded
        assert batch.progress.spent == Decimal("0.70")
    assert await states_of(path) == {"a": "done", "b": "done"}
    assert service.runs == {"a": 1, "b": 1}
