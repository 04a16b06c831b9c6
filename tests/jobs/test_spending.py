"""Limits on what calls and clients may cost: nothing is sent beyond them, and what is told is the truth."""

from __future__ import annotations

import gc
import pickle
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.batches import MODEL, RARELY, Databases, Fate, Made, Service, full, jobs
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.depth import plays
from tests.fakes import client, no, ok
from wiro_async import (
    BudgetExceeded,
    Client,
    ClientUseError,
    ConcurrencyLimited,
    ConfigurationError,
    InsufficientBalance,
    InvalidInput,
    Job,
    Limits,
    Spending,
    SubmissionUnknown,
    TaskFailed,
    TaskNotFound,
    TaskResult,
    WiroError,
)
from wiro_async._jobs import bills
from wiro_async._jobs.budget import Bill
from wiro_async._protocol.operations import clean_slug

ZERO = Decimal(0)
PRICE = Decimal("0.35")
"""What a run of the service is charged."""

OTHER = "owner/other"


def priced(service: Service | None = None, price: str | None = "0.35") -> Service:
    """Have the catalogue tell a price for the model, and know no other."""
    service = Service() if service is None else service

    def tell(asked: dict[str, Any]) -> dict[str, Any]:
        slug = f"{asked['slugowner']}/{asked['slugproject']}"
        if price is None or clean_slug(slug) != clean_slug(MODEL):
            return no(1, "tool-not-accessible")
        return ok(tool=[{**asked, "approximatelycost": price}])

    service.handlers["Tool/Detail"] = tell
    return service


def sums(client: Client) -> tuple[Decimal, Decimal, Decimal]:
    """Return what was charged, estimated and reserved."""
    spending = client.spending()
    return spending.charged, spending.estimated, spending.reserved


@asynccontextmanager
async def limited(service: Service, max_cost: object = "1.00", **options: Any) -> AsyncIterator[Client]:
    """Enter a client with a limit."""
    async with client(service, polling=RARELY, max_cost=max_cost, **options) as own:
        yield own


# -- the limit of one call -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["submit", "run"])
async def test_a_call_is_refused_before_anything_is_uploaded(method: str) -> None:
    """The error has the price, where it comes from, and the limit."""
    service = priced()
    async with client(service, polling=RARELY) as own:
        with pytest.raises(BudgetExceeded) as caught:
            await getattr(own, method)(MODEL, {"prompt": "a", "image": b"1234"}, max_cost="0.30")
        assert str(caught.value) == (
            f"a run of {MODEL} may cost 0.35 USD (the catalogue's average of a run (approximatelycost)), and "
            f"this call's max_cost is 0.3 USD; nothing was sent; raise the limit, or choose inputs that cost "
            f"less"
        )
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.price, error.spent, error.limit) == (PRICE, ZERO, Decimal("0.30"))
        assert error.scope == "call"
        assert service.counts == {"Tool/Detail": 1}
        await getattr(own, method)(MODEL, {"prompt": "a", "image": b"1234"}, max_cost=0.35)
    assert service.counts["Run"] == service.uploads == 1


async def test_a_call_of_unknown_price_needs_to_be_allowed() -> None:
    """Under a limit; the message says how, and the client's word is the default."""
    for allowed, given in ((False, None), (True, False)):
        service = priced(price=None)
        async with client(service, polling=RARELY, allow_unpriced=allowed) as own:
            options: dict[str, Any] = {} if given is None else {"allow_unpriced": given}
            with pytest.raises(BudgetExceeded, match=r"nobody knows what .* allow_unpriced") as caught:
                await own.run(MODEL, {"prompt": "a"}, max_cost=5, **options)
            assert caught.value.price is None
            assert service.counts["Run"] == 0
            assert (await own.run(MODEL, {"prompt": "a"}, max_cost=5, allow_unpriced=True)).cost == PRICE
            assert (await own.run(MODEL, {"prompt": "a"})).cost == PRICE


async def test_without_a_limit_no_price_is_asked_for() -> None:
    """Nor is anything counted."""
    service = priced()
    async with client(service, polling=RARELY) as own:
        await own.run(MODEL, {"prompt": "a"})
        with pytest.raises(ClientUseError, match="give it max_cost=, or budget= with a name"):
            own.spending()
    assert service.counts["Tool/Detail"] == 0


async def test_a_price_that_could_not_be_read_is_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    """What the catalogue does not list is not."""
    service = priced()
    tell, service.handlers["Tool/Detail"] = service.handlers["Tool/Detail"], no(0, "busy")
    async with client(service, polling=RARELY) as own:
        with pytest.raises(BudgetExceeded):
            await own.run(MODEL, {"prompt": "a"}, max_cost=1)
        assert "could not be read" in caplog.text
        service.handlers["Tool/Detail"] = tell
        await own.run(MODEL, {"prompt": "a"}, max_cost=1)
        asked = service.counts["Tool/Detail"]
        for _ in range(2):
            with pytest.raises(BudgetExceeded):
                await own.run(OTHER, {"prompt": "a"}, max_cost=1)
        assert service.counts["Tool/Detail"] == asked + 1


# -- the client's limit ----------------------------------------------------------------------------------


async def test_a_clients_limit_covers_all_its_calls() -> None:
    """Each reserves its price until its end; the first that does not fit is refused, and nothing is sent."""
    service = priced()
    async with limited(service, "1.00", budget="2026-12") as own:
        first = await own.submit(MODEL, {"prompt": "a"})
        await own.run(MODEL, {"prompt": "b"})
        assert own.spending() == Spending(
            charged=PRICE, estimated=ZERO, reserved=PRICE, limit=Decimal(1), budget="2026-12"
        )
        with pytest.raises(BudgetExceeded) as caught:
            await own.submit(MODEL, {"prompt": "c", "image": b"1234"})
        assert (caught.value.spent, caught.value.limit) == (2 * PRICE, Decimal(1))
        assert caught.value.scope == "client"
        assert "the client's max_cost is 1 USD, of which 0.7 are spent, or reserved" in str(caught.value)
        assert str(caught.value).endswith("; raise the limit, or wait for the runs in flight")
        await first
        assert sums(own) == (2 * PRICE, ZERO, ZERO)
        service.fates["d"] = Fate(pexit="1", cost="0")
        with pytest.raises(BudgetExceeded):
            await own.run(MODEL, {"prompt": "d"})
    assert (service.counts["Run"], service.uploads) == (2, 0)


async def test_only_as_many_begin_at_once_as_the_limit_covers() -> None:
    """Nothing can happen between the check and the reservation."""
    service = priced()
    refused = 0
    async with limited(service, "1.00") as own:

        async def call(number: int) -> None:
            nonlocal refused
            try:
                await own.run(MODEL, {"prompt": f"p{number}"})
            except BudgetExceeded:
                refused += 1

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(call, number)
        assert sums(own) == (2 * PRICE, ZERO, ZERO)
    assert (len(service.made), refused) == (2, 8)


async def test_a_failed_run_gives_its_money_back() -> None:
    """It was charged nothing."""
    service = priced()
    service.fates["a"] = Fate(pexit="1", cost="0")
    async with limited(service, "0.40") as own:
        with pytest.raises(TaskFailed):
            await own.run(MODEL, {"prompt": "a"})
        assert sums(own) == (ZERO, ZERO, ZERO)
        await own.run(MODEL, {"prompt": "b"})
        assert sums(own) == (PRICE, ZERO, ZERO)


@pytest.mark.parametrize("reads", ["refresh", "attach", "list", "batch"])
async def test_a_late_charge_settles_with_the_next_read(
    reads: str, tmp_path: Path, databases: Databases
) -> None:
    """Whoever reads it, once; until then the estimate counts."""
    service = priced(price="0.50")
    fate = service.fates["a"] = Fate(cost="0")
    async with limited(service) as own:
        task = await own.submit(MODEL, {"prompt": "a"})
        assert (await task).cost is None
        assert sums(own) == (ZERO, Decimal("0.50"), ZERO)
        await task.refresh()
        assert sums(own) == (ZERO, Decimal("0.50"), ZERO)
        fate.cost = "0.35"
        for _ in range(2):
            if reads == "refresh":
                await task.refresh()
            elif reads == "attach":
                await own.attach(task.id).refresh()
            elif reads == "list":
                assert len([each async for each in own.list_tasks()]) == 1
            else:
                async with own.batch(jobs("b"), model=MODEL, journal=tmp_path / "a.db") as batch:
                    await batch.wait()
                await task.refresh()
            assert sums(own) == (PRICE + (PRICE if reads == "batch" else ZERO), ZERO, ZERO)


async def test_a_task_that_somebody_stopped_is_free_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows 0 until then, and that may be a charge that is not recorded yet."""
    service = priced()
    service.fates["a"] = Fate(cost="0")
    wire = service.wire
    monkeypatch.setattr(
        service, "wire", lambda task: wire(task) | {"starttime": str(int(task.created)), "totalcost": "0"}
    )
    async with limited(service) as own:
        task = await own.submit(MODEL, {"prompt": "a"})
        await anyio.sleep(30)
        await task.stop()
        assert sums(own) == (ZERO, PRICE, ZERO)
        later = time.time() + 3700
        monkeypatch.setattr(time, "time", lambda: later)
        await task.refresh()
        assert sums(own) == (ZERO, ZERO, ZERO)


async def test_a_handle_that_is_dropped_leaves_its_estimate() -> None:
    """Nobody may ever see the end; a list may tell it after all."""
    service = priced()
    async with limited(service) as own:
        await own.submit(MODEL, {"prompt": "a"})
        gc.collect()
        assert sums(own) == (ZERO, PRICE, ZERO)
        await own.submit(MODEL, {"prompt": "b"})
        gc.collect()
        with pytest.raises(BudgetExceeded):
            await own.submit(MODEL, {"prompt": "c"})
        assert sums(own) == (ZERO, 2 * PRICE, ZERO)
        await anyio.sleep(100)
        assert len([task async for task in own.list_tasks()]) == 2
        assert sums(own) == (2 * PRICE, ZERO, ZERO)


async def test_a_caller_that_is_cancelled_leaves_its_reservation() -> None:
    """The task is unclaimed, and may be waited for; a Run that was not sent leaves nothing."""
    service = priced()
    service.delays["Run"] = 5.0
    async with limited(service) as own:
        with anyio.move_on_after(3):
            await own.submit(MODEL, {"prompt": "a"})
        assert sums(own) == (ZERO, ZERO, PRICE)
        (task,) = own.unclaimed
        await task
        assert sums(own) == (PRICE, ZERO, ZERO)
        service.answers["b"] = [full(1)] * 99
        with anyio.move_on_after(30):
            await own.run(MODEL, {"prompt": "b"})
        assert sums(own) == (PRICE, ZERO, ZERO)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(no(97, "no money"), InsufficientBalance), (full(1), ConcurrencyLimited), (no(0, "bad"), Exception)],
)
async def test_what_was_refused_costs_nothing(answer: object, kind: type[Exception]) -> None:
    """The service said no, or there was no slot in time."""
    service = priced()
    service.answers["a"] = [answer] * 99
    async with limited(service) as own:
        with pytest.raises(kind) as caught:
            await own.submit(MODEL, {"prompt": "a"}, slot_timeout=5)
        reserved = PRICE if isinstance(caught.value, SubmissionUnknown) else ZERO
        assert sums(own) == (ZERO, ZERO, reserved)


async def test_a_file_that_cannot_be_uploaded_costs_nothing() -> None:
    """Its money was reserved before."""
    service = priced()
    async with limited(service) as own:
        with pytest.raises(InvalidInput):
            await own.submit(MODEL, {"prompt": "a", "image": b""})
        assert sums(own) == (ZERO, ZERO, ZERO)


async def test_who_waits_for_a_slot_keeps_its_money() -> None:
    """Its files are uploaded already; whoever comes later finds too little left."""
    service = priced(Service(limit=1))
    service.fates["a"] = Fate(lasts=100.0)
    async with limited(service, "0.80") as own, anyio.create_task_group() as group:
        first = await own.submit(MODEL, {"prompt": "a"})
        group.start_soon(own.run, MODEL, {"prompt": "b", "image": b"1234"})
        await anyio.sleep(30)
        assert (service.counts["Run"] >= 2, len(service.made)) == (True, 1)
        with pytest.raises(BudgetExceeded):
            await own.run(MODEL, {"prompt": "c"})
        await first
    assert service.runs == {"a": 1, "b": 1}


# -- Runs in doubt ---------------------------------------------------------------------------------------


async def test_an_unknown_run_keeps_its_reservation() -> None:
    """It may have been paid. Once its task is found, its charge counts instead."""
    service = priced()
    service.answers["a"] = ["lost"]
    listed, service.handlers["Task/List"] = service.handlers["Task/List"], ok(tasklist=[])
    async with limited(service) as own:
        with pytest.raises(SubmissionUnknown) as caught:
            await own.submit(MODEL, {"prompt": "a"})
        gc.collect()
        assert sums(own) == (ZERO, ZERO, PRICE)
        service.handlers["Task/List"] = listed
        task = await own.reconcile(pickle.loads(pickle.dumps(caught.value)))
        assert sums(own) == (ZERO, ZERO, PRICE)
        await task
        assert sums(own) == (PRICE, ZERO, ZERO)


async def test_a_run_that_was_proved_absent_gives_its_money_back() -> None:
    """Another client, which did not send it, counts nothing."""
    service = priced()
    service.answers["a"] = ["gone"]
    limits = Limits(send_window=0.01, request_timeout=0.05, margin=0.01, settle_timeout=0.02)
    async with limited(service, limits=limits) as own:
        with pytest.raises(SubmissionUnknown) as caught:
            await own.submit(MODEL, {"prompt": "a"})
        assert sums(own) == (ZERO, ZERO, PRICE)
        async with limited(service, limits=limits) as other:
            with pytest.raises(SubmissionUnknown) as proved:
                await other.reconcile(caught.value)
            assert sums(other) == (ZERO, ZERO, ZERO)
        with pytest.raises(SubmissionUnknown) as proved:
            await own.reconcile(caught.value)
        assert proved.value.absent
        assert sums(own) == (ZERO, ZERO, ZERO)


async def test_a_search_that_is_cancelled_leaves_the_reservation() -> None:
    """The Run is in ``unresolved``."""
    service = priced()
    service.answers["a"] = ["gone"]
    async with limited(service) as own:
        with anyio.move_on_after(3):
            await own.run(MODEL, {"prompt": "a"})
        assert len(own.unresolved) == 1
        assert sums(own) == (ZERO, ZERO, PRICE)


async def test_a_resent_run_is_paid_once() -> None:
    """The first was proved absent."""
    service = priced()
    service.answers["a"] = ["gone"]
    async with limited(service) as own:
        await own.run(MODEL, {"prompt": "a"}, on_unknown="resubmit")
        assert sums(own) == (PRICE, ZERO, ZERO)
        service.answers["b"] = ["gone", no(97, "no money")]
        with pytest.raises(InsufficientBalance):
            await own.run(MODEL, {"prompt": "b"}, on_unknown="resubmit")
        assert sums(own) == (PRICE, ZERO, ZERO)
    assert service.counts["Run"] == 4


async def result_of(own: Client, model: str, inputs: dict[str, Any]) -> TaskResult:
    """Submit, and wait for the handle."""
    task = await own.submit(model, inputs)
    return await task


@pytest.mark.parametrize("method", ["submit", "run"])
async def test_an_answer_about_another_task_is_no_end_of_ours(method: str) -> None:
    """The first poll shows it; its charge is not ours, even where the search does not find the right one."""
    service = priced()
    service.answers["a"] = ["other"]
    listed, service.handlers["Task/List"] = service.handlers["Task/List"], ok(tasklist=[])
    async with limited(service) as own:
        call = own.run if method == "run" else partial(result_of, own)
        with pytest.raises(SubmissionUnknown) as caught:
            await call(MODEL, {"prompt": "a"})
        await anyio.sleep(100)
        assert (await own.attach("2222").refresh()).cost == PRICE
        gc.collect()
        assert sums(own) == (ZERO, ZERO, PRICE)
        service.handlers["Task/List"] = listed
        await (await own.reconcile(caught.value))
        assert sums(own) == (PRICE, ZERO, ZERO)


async def test_an_answer_about_another_task_leads_to_ours() -> None:
    """The search finds it; the other one's charge is not counted."""
    service = priced()
    service.answers["a"] = ["other"]
    async with limited(service) as own:
        await own.run(MODEL, {"prompt": "a"})
        assert sums(own) == (PRICE, ZERO, ZERO)
        assert len([task async for task in own.list_tasks()]) == 2
        assert sums(own) == (PRICE, ZERO, ZERO)


def test_a_task_that_two_runs_were_told_of_is_the_laters() -> None:
    """The first Run's answer named the second's task: whatever becomes of the first, the second's counts."""
    counted = bills.Bills(Decimal(5))
    first, second = Bill(), Bill()
    for bill in (first, second):
        assert counted.budget.reserve(bill, PRICE)
    let_go = counted.hold(first, "7")
    kept = counted.hold(second, "7")
    del let_go
    gc.collect()
    spending = counted.spending()
    assert (spending.estimated, spending.reserved) == (ZERO, 2 * PRICE)
    counted.withdraw(first)
    assert (first.name, second.name) == ("", "7")
    del kept
    gc.collect()
    spending = counted.spending()
    assert (spending.estimated, spending.reserved) == (PRICE, PRICE)


async def test_a_task_that_is_gone_stays_estimated() -> None:
    """The service does not know it any more; it may have been charged."""
    service = priced()
    async with limited(service) as own:
        task = await own.submit(MODEL, {"prompt": "a"})
        await task.refresh()
        del service.made["2221"]
        with pytest.raises(TaskNotFound):
            await task
        del task
        gc.collect()
        assert sums(own) == (ZERO, PRICE, ZERO)


# -- prices ----------------------------------------------------------------------------------------------


async def test_charges_tell_prices() -> None:
    """Of a model that the catalogue does not list: the highest charge of its runs."""
    service = priced(price=None)
    async with limited(service, "5") as own:
        with pytest.raises(BudgetExceeded, match="nobody knows"):
            await own.run(MODEL, {"prompt": "a", "duration": "6"})
        await own.run(MODEL, {"prompt": "a", "duration": "6"}, allow_unpriced=True)
        for more, source in (
            ({"duration": "6"}, "charge of 1 such run"),
            ({"duration": "9"}, "charge of other runs"),
            ({}, "charge of other runs"),
        ):
            with pytest.raises(BudgetExceeded) as caught:
                await own.run(MODEL, {"prompt": "b", **more}, max_cost="0.10")
            assert caught.value.price == PRICE
            assert source in str(caught.value)
        task = await own.submit(MODEL, {"prompt": "b"})
        assert own.spending().reserved == PRICE
        await task


async def test_runs_of_unknown_price_may_be_allowed_by_the_client() -> None:
    """They reserve nothing, hold back nobody, and count as the highest charge; a spent limit still holds."""
    service = priced(price=None)
    service.fates["b"] = Fate(cost=None)
    async with limited(service, "0.60", allow_unpriced=True) as own:
        tasks = [await own.submit(MODEL, {"prompt": prompt}) for prompt in "ab"]
        assert sums(own) == (ZERO, ZERO, ZERO)
        for task in tasks:
            await task
        assert sums(own) == (PRICE, PRICE, ZERO)
        with pytest.raises(BudgetExceeded, match=r"nobody knows .*; nothing was sent; raise the limit"):
            await own.run(OTHER, {"prompt": "c"})
    assert len(service.made) == 2


async def test_a_named_budget_without_a_limit_only_counts() -> None:
    """No price is asked for."""
    service = priced()
    async with client(service, polling=RARELY, budget="2026-12") as own:
        await own.submit(MODEL, {"prompt": "a"})
        gc.collect()
        await own.run(MODEL, {"prompt": "b"})
        spending = own.spending()
        assert (spending.charged, spending.estimated, spending.limit) == (PRICE, PRICE, None)
    assert service.counts["Tool/Detail"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_cost", "much"), ("max_cost", -1), ("budget", ""), ("budget", 12), ("allow_unpriced", None)],
)
def test_values_that_cannot_work_are_refused(name: str, value: Any) -> None:
    """By name, with the value and the rule."""
    options = {name: value}
    with pytest.raises(ConfigurationError, match=rf"^{name} is {value!r}; it must be "):
        client(Service(), **options)


async def test_not_all_charges_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: the estimates of the oldest count for good."""
    monkeypatch.setattr(bills, "MOST_AWAITED", 2)
    service = priced(price="0.50")
    async with limited(service, 9) as own:
        for prompt in "abc":
            await own.submit(MODEL, {"prompt": prompt})
        gc.collect()
        own.spending()
        await anyio.sleep(100)
        assert len([task async for task in own.list_tasks()]) == 3
        assert sums(own) == (2 * PRICE, Decimal("0.50"), ZERO)


# -- batches of a client with a limit --------------------------------------------------------------------


async def test_a_job_of_a_batch_is_charged_to_both_limits() -> None:
    """The client's stops the batch with a reason of its own; what did not begin was not started."""
    service = priced()
    async with limited(service, "1.50") as own:
        await own.run(MODEL, {"prompt": "alone"})
        async with own.batch(jobs(*"abcdef"), model=MODEL, max_cost=9) as batch:
            found = {outcome.key: outcome async for outcome in batch}
            report = batch.report
        assert sums(own) == (4 * PRICE, ZERO, ZERO)
    assert report.stopped is not None
    assert report.stopped.reason == "budget"
    assert "the client's max_cost=1.5 is spent, or too little is left for another run" in str(report.stopped)
    assert report.progress.spent == 3 * PRICE
    assert (report.progress.succeeded, report.progress.not_started, report.progress.cancelled) == (3, 1, 0)
    assert [outcome.not_started for outcome in found.values()] == [False] * 3 + [True]
    assert (report.progress.begun, report.progress.finished) == (3, 3)
    assert not report.failures


async def test_a_batchs_own_limit_is_told_from_the_clients() -> None:
    """Here it is the lower one."""
    service = priced()
    async with limited(service, 9) as own:
        async with own.batch(jobs(*"abcdef"), model=MODEL, max_cost="0.80") as batch:
            report = await batch.wait()
        assert sums(own) == (2 * PRICE, ZERO, ZERO)
    assert report.stopped is not None
    assert report.stopped.reason == "max_cost"
    assert "runs: max_cost=0.8 is spent" in str(report.stopped)


async def test_runs_of_unknown_price_go_one_at_a_time() -> None:
    """In a batch without a limit of its own, too; until the first charge is told, no single call gets any."""
    service = priced(price=None)
    async with limited(service, 2) as own:
        async with own.batch(jobs(*"abc"), model=MODEL) as batch:
            await anyio.sleep(30)
            assert (batch.progress.running, len(service.made)) == (1, 1)
            with pytest.raises(BudgetExceeded, match="nobody knows"):
                await own.run(MODEL, {"prompt": "d"})
            with pytest.raises(BudgetExceeded):
                await own.run(MODEL, {"prompt": "d"}, allow_unpriced=True)
            report = await batch.wait()
        assert report.complete
        assert sums(own) == (3 * PRICE, ZERO, ZERO)


async def test_a_clients_limit_that_nobody_can_count_stops_a_batch() -> None:
    """A minute after its end a run shows no charge, and no price is known."""
    service = priced(price=None)
    service.fates |= dict.fromkeys("abcdef", Fate(cost=None))
    async with limited(service, 2) as own:
        async with own.batch(jobs(*"abcdef"), model=MODEL) as batch:
            report = await batch.wait()
        assert report.stopped is not None
        assert report.stopped.reason == "unpriced"
        assert "the client's max_cost=2 cannot be guaranteed: a minute" in str(report.stopped)
    async with limited(service, 2, allow_unpriced=True) as own:
        async with own.batch(jobs(*"abcdef"), model=MODEL) as batch:
            report = await batch.wait()
        assert report.complete


async def test_a_batch_waits_for_runs_of_its_own_that_may_cost_less() -> None:
    """Under the client's limit as under its own."""
    service = priced(price="0.70")
    async with limited(service, "1.50") as own:
        async with own.batch(jobs(*"abc"), model=MODEL) as batch:
            report = await batch.wait()
        assert report.complete
        assert sums(own) == (3 * PRICE, ZERO, ZERO)
    assert service.most == 2


async def test_a_batch_that_is_left_leaves_its_estimates(tmp_path: Path, databases: Databases) -> None:
    """And the next one that takes its tasks up counts their charges, for its own client as well."""
    service = priced()
    path = tmp_path / "a.db"
    async with limited(service, 9) as own:
        async with own.batch(jobs(*"ab"), model=MODEL, journal=path):
            await anyio.sleep(30)
        gc.collect()
        assert sums(own) == (ZERO, 2 * PRICE, ZERO)
        async with limited(service, 9) as other:
            async with other.batch((), model=MODEL, journal=path):
                await anyio.sleep(5)
            gc.collect()
            assert sums(other) == (ZERO, 2 * PRICE, ZERO)
        async with limited(service, 9) as other:
            async with other.batch(jobs(*"abc"), model=MODEL, journal=path) as batch:
                await anyio.sleep(20)
                assert sums(other) == (ZERO, ZERO, 3 * PRICE)
                assert (await batch.wait()).complete
            assert sums(other) == (3 * PRICE, ZERO, ZERO)
        [task async for task in own.list_tasks()]
        assert sums(own) == (2 * PRICE, ZERO, ZERO)


async def test_a_batchs_run_in_doubt_keeps_its_money(tmp_path: Path, databases: Databases) -> None:
    """Of this process or an earlier one; a task that is found later settles it."""
    service = priced()
    service.answers["a"] = ["lost"]
    listed, service.handlers["Task/List"] = service.handlers["Task/List"], ok(tasklist=[])
    for number in range(3):
        async with limited(service, 9) as own:
            async with own.batch(jobs("a"), model=MODEL, journal=tmp_path / "a.db") as batch:
                (outcome,) = [each async for each in batch]
            gc.collect()
            if number < 2:
                assert isinstance(outcome.error, SubmissionUnknown)
                assert sums(own) == (ZERO, ZERO, PRICE)
            if number == 1:
                service.handlers["Task/List"] = listed
                assert isinstance(outcome.error, SubmissionUnknown)
                await (await own.reconcile(outcome.error))
            if number:
                assert sums(own) == (PRICE, ZERO, ZERO)


async def test_a_rerun_is_another_bill() -> None:
    """``retry_failed``: a late charge of the first Run settles the first alone."""
    service = priced()
    fate = service.fates["a"] = Fate(pexit="1", cost=None)
    async with limited(service, 9) as own:
        async with own.batch(jobs("a"), model=MODEL, retry_failed=1) as batch:
            await anyio.sleep(75)
            assert sums(own) == (ZERO, PRICE, PRICE)
            fate.cost = "0.10"
            await own.attach("2221").refresh()
            assert sums(own) == (Decimal("0.10"), ZERO, PRICE)
            await batch.wait()
        assert sums(own) == (Decimal("0.20"), ZERO, ZERO)


# -- chance ----------------------------------------------------------------------------------------------

PRICES = {
    "owner/a": Decimal("0.05"), "owner/b": Decimal("0.10"), "owner/c": PRICE, "owner/d": Decimal(1),
    "owner/e": Decimal(2),
}  # fmt: skip
"""What runs of five models are charged."""


class Market(Service):
    """A service of five models: some have no price, charge late, fail, refuse, or lose their answers.

    Attributes:
        charges: What each task is charged, whenever that is told.
        told: When it was first told that a task had ended.
        paid: The most that tasks whose end was told before were charged when another Run was accepted.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        chance = random.Random(seed)
        self.seed = seed
        self.asked: Counter[str] = Counter()
        self.limit = chance.choice((2, 8))
        self.charges: dict[str, Decimal] = {}
        self.told: dict[str, float] = {}
        self.paid: Decimal = ZERO
        # Who charges late is listed: else nobody could know what is counted.
        self.listed = {slug: price for slug, price in PRICES.items() if chance.random() < 0.7}
        self.handlers["Tool/Detail"] = self._tell
        self.handlers |= {"Run": self._sell, "Task/Detail": self._poll}

    def _tell(self, asked: dict[str, Any]) -> dict[str, Any]:
        price = self.listed.get(f"{asked['slugowner']}/{asked['slugproject']}")
        return (
            no(1, "no such model") if price is None else ok(tool=[{**asked, "approximatelycost": f"{price}"}])
        )

    def _sell(self, inputs: dict[str, Any]) -> Any:
        prompt = inputs["prompt"]
        # Not by their order, which the event loop may choose.
        chance = random.Random(f"{self.seed} {prompt} {self.asked[prompt]}")
        self.asked[prompt] += 1
        fails = chance.random() < 0.2
        charge = ZERO if fails else PRICES[inputs["slug"]]
        late = not fails and inputs["slug"] in self.listed and chance.random() < 0.3
        self.fates[prompt] = Fate(
            lasts=chance.uniform(5, 90), pexit="1" if fails else "0", cost=None if late else f"{charge}"
        )
        if chance.random() < 0.15:
            self.answers[prompt] = [
                chance.choice(["lost", "gone", full(8), no(98, "no"), httpx.ConnectError("x")])
            ]
        made, now = set(self.made), anyio.current_time()
        paid = sum((self.charges[task_id] for task_id, at in self.told.items() if at < now), ZERO)
        answer = self._run(inputs)
        for task_id in self.made.keys() - made:
            self.charges[task_id] = charge
            self.paid = max(self.paid, paid)
        return answer

    def _poll(self, payload: dict[str, Any]) -> dict[str, Any]:
        task, now = self.made[payload["taskid"]], anyio.current_time()
        if now >= task.ends:
            self.told.setdefault(task.id, now)
        return self._detail(payload)

    def tell_all(self) -> None:
        """Record the charges that are late."""
        for task in self.made.values():
            task.fate.cost = f"{self.charges[task.id]}"

    def wire(self, task: Made) -> dict[str, Any]:
        owner, name = task.inputs["slug"].split("/")
        return super().wire(task) | {"modelslugowner": owner, "modelslugproject": name}


@pytest.mark.parametrize("seed", range(plays(15, 100)))
async def test_a_limit_is_passed_by_no_more_than_what_is_in_flight(seed: int) -> None:
    """A batch of five models together with single calls, of which some are dropped or cancelled."""
    market, chance = Market(seed), random.Random(-seed)
    limit = Decimal(chance.choice(("0.5", "2", "5", "9")))
    doubts: list[SubmissionUnknown] = []

    async def call(own: Client, number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        await anyio.sleep(chance.uniform(0, 200))
        slug = chance.choice(list(PRICES))
        inputs = {"prompt": f"single {number}", "slug": slug}
        # Whoever allows what nobody can count sees its end.
        patience, allowed = chance.choice([(3, False), (1000, False), (1000, True)])
        try:
            with anyio.move_on_after(patience):
                if not allowed and chance.random() < 0.5:
                    await own.submit(slug, inputs)
                else:
                    await own.run(slug, inputs, allow_unpriced=allowed)
        except SubmissionUnknown as error:
            doubts.append(error)
        except WiroError:
            pass

    given = [
        Job(slug, {"prompt": f"job {number}", "slug": slug})
        for number, slug in enumerate(chance.choices(list(PRICES), k=16))
    ]
    async with limited(market, limit) as own:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(call, own, number)
            async with own.batch(given, concurrency=chance.choice((1, 3, "auto")), breaker=None) as batch:
                report = await batch.wait()
        assert market.paid <= limit
        progress = report.progress
        assert progress.read == progress.begun + progress.not_started
        assert progress.begun == progress.succeeded + progress.failed + progress.unknown
        await anyio.sleep(100)
        market.tell_all()
        [task async for task in own.list_tasks()]
        charged, estimated, reserved = sums(own)
        total = sum(market.charges.values(), ZERO)
        assert (charged <= total, estimated) == (True, ZERO)
        if not (own.unresolved or progress.unknown or doubts):
            assert (charged, reserved) == (total, ZERO)
