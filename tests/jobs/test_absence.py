"""What is looked for is found, and what is absent is absent: equal Runs that race, late requests, clocks."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import anyio
import anyio.abc
import anyio.to_thread
import attrs
import httpx
import pytest

import wiro_async
from tests.batches import databases as databases
from tests.depth import plays
from tests.fakes import FakeService, client, ok, task
from tests.jobs.test_submit import LOST, PROMPT, Ledger
from tests.journals import NOW, Database, intend, opened
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import Batch, Job, JournalReader, Limits, SubmissionUnknown
from wiro_async._jobs import reconcile
from wiro_async._jobs.submit import OpenRuns

SETTLE, REQUEST = 30.0, 30.0
QUIET = 10.0 + REQUEST + 15.0 + SETTLE

# -- how long it takes -----------------------------------------------------------------------------------


def silent() -> FakeService:
    """Return a service that takes every request and never answers."""
    service = FakeService(Run=ok(taskid="1"), Task_List=ok(tasklist=[]))
    service.latency = 1e6
    return service


@pytest.mark.parametrize(
    ("on_unknown", "most"), [("raise", 2 * REQUEST + SETTLE), ("resubmit", QUIET + REQUEST)]
)
async def test_a_silent_service_is_given_up_in_time(on_unknown: wiro_async.OnUnknown, most: float) -> None:
    """The Run's own exchange, the search, and one reading that had begun by then."""
    start = anyio.current_time()
    with pytest.raises(SubmissionUnknown) as caught:
        await client(silent()).submit("owner/model", PROMPT, on_unknown=on_unknown)
    assert not caught.value.absent
    assert anyio.current_time() - start <= most + 0.1


async def test_the_wait_for_a_turn_counts_as_the_wait_for_a_slot() -> None:
    """A Run that hangs has the only turn for half a minute."""
    caller = client(silent(), limits=Limits(max_in_flight=1))
    async with anyio.create_task_group() as group:
        group.start_soon(caller.attach("2221").refresh)
        await anyio.wait_all_tasks_blocked()
        start = anyio.current_time()
        with pytest.raises(wiro_async.ConnectionFailed, match="no free slot in time"):
            await caller.submit("owner/model", PROMPT, slot_timeout=5.0)
        assert anyio.current_time() - start == pytest.approx(5.0)
        group.cancel_scope.cancel()


async def test_a_reading_that_takes_longer_than_the_next_looks_is_not_repeated_for_each() -> None:
    """One begins when the last one has ended, and none after half a minute."""
    service = Ledger()
    service.lose, service.processed, service.delays = [LOST], [False], {"Task/List": 12.0}
    with pytest.raises(SubmissionUnknown):
        await client(service).submit("owner/model", PROMPT)
    # At 0, 12 (instead of 2 and 5), 24 (instead of 15), and 36 (instead of 30).
    assert service.counts["Task/List"] == 4


# -- equal Runs that race --------------------------------------------------------------------------------


class Racing(httpx.AsyncBaseTransport):
    """A service, and a network, that do whatever is allowed: late requests, lost answers, a list that lags.

    Args:
        seed: What all is drawn from.
        group: Where requests go on when the client has given them up.

    Attributes:
        tasks: Every task, as it stands in the list, with the time from which it is there.
    """

    def __init__(self, seed: int, group: anyio.abc.TaskGroup) -> None:
        self._chance = random.Random(f"racing/{seed}")
        self._group = group
        self.tasks: list[tuple[float, dict[str, Any]]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(b"".join([chunk async for chunk in request.stream]))  # type: ignore[union-attr]
        match request.url.path.removeprefix("/v1/").split("/"):
            case ["Run", *_]:
                return await self._run(body)
            case ["Task", "List"]:
                return await self._list(body)
        return httpx.Response(
            200, json=ok(tasklist=[item for _, item in self.tasks if item["id"] == body["taskid"]])
        )

    async def _run(self, body: dict[str, Any]) -> httpx.Response:
        chance = self._chance
        # It leaves within 10 s, and takes 45 s at most from there: but it begins to leave at once here.
        travel, fate = chance.choice((0.0, 1.0, chance.uniform(0, 44))), chance.random()
        if fate < 0.2:
            raise LOST
        arrived = anyio.Event()
        self._group.start_soon(self._arrive, body, travel, arrived)
        if fate < 0.7:
            await anyio.sleep(chance.choice((0.0, 5.0, 29.0)))
            raise LOST
        await arrived.wait()
        new = self.tasks[-1][1]
        return httpx.Response(200, json=ok(taskid=new["id"], socketaccesstoken=new["socketaccesstoken"]))

    async def _arrive(self, body: dict[str, Any], travel: float, arrived: anyio.Event) -> None:
        await anyio.sleep(travel)
        new = task(
            str(2221 + len(self.tasks)), "task_postprocess_end", createtime=str(int(time.time())), pexit="0"
        )
        new |= {"parameters": {"prompt": body["prompt"]}, "totalcost": "1"}
        lag = self._chance.choice((0.0, 3.0, self._chance.uniform(0, 29)))
        self.tasks.append((anyio.current_time() + lag, new))
        arrived.set()

    async def _list(self, body: dict[str, Any]) -> httpx.Response:
        seen = [item for since, item in self.tasks if since <= anyio.current_time()]
        start = int(body["start"])
        # What is listed now arrives later: a slow reading.
        await anyio.sleep(self._chance.choice((0.0, 0.0, 8.0, 25.0)))
        if self._chance.random() < 0.1:
            return httpx.Response(503)
        return httpx.Response(200, json=ok(tasklist=seen[::-1][start : start + int(body["limit"])]))


async def race_of_calls(seed: int) -> tuple[Racing, list[str | None], list[Any]]:
    """Have equal single calls race; return the service, the tasks that were got, and the doubts left."""
    chance = random.Random(f"calls/{seed}")
    got: list[str | None] = []
    doubts: list[SubmissionUnknown] = []

    async def one(delay: float) -> None:
        await anyio.sleep(delay)
        try:
            got.append((await caller.submit("owner/model", PROMPT, on_unknown="resubmit")).id)
        except SubmissionUnknown as error:
            doubts.append(error)

    async with anyio.create_task_group() as late:
        service = Racing(seed, late)
        caller = client(service)
        async with anyio.create_task_group() as group:
            for _ in range(chance.randint(2, 4)):
                group.start_soon(one, chance.choice((0.0, 1.0, chance.uniform(0, 60))))
    return service, got, doubts


async def race_of_jobs(seed: int, path: Path) -> tuple[Racing, list[str | None], list[Any]]:
    """Have the equal jobs of a batch with a journal race; it is left in the middle twice, and resumed."""
    chance = random.Random(f"jobs/{seed}")
    jobs = [Job("owner/model", PROMPT, key=key) for key in "wxyz"[: chance.randint(2, 4)]]
    got: dict[str, str] = {}
    not_begun: set[str] = set()

    async def take(batch: Batch) -> None:
        """Take what the batch gives, one by one: a comprehension would lose all when it is cut off."""
        async for outcome in batch:
            # Before the first Run of a resume the list is read, and here it may be out of reach.
            if isinstance(outcome.error, wiro_async.ConnectionFailed) and not outcome.attempts:
                not_begun.add(outcome.key)
            if outcome.succeeded:
                assert outcome.key not in got
                got[outcome.key] = outcome.task_id

    async with anyio.create_task_group() as late:
        service = Racing(seed, late)
        for seconds in (chance.uniform(0, 100), chance.uniform(0, 100), 1e6):
            batch, before = None, len(got)
            with anyio.move_on_after(seconds) as time_limit:
                async with (
                    client(service) as own,
                    own.batch(jobs, journal=path, on_unknown="resubmit") as batch,
                ):
                    await take(batch)
            if batch is not None:
                # What had ended when the block was left can still be taken.
                await take(batch)
                assert batch.progress.succeeded == len(got) - before
        assert not time_limit.cancelled_caught
    async with JournalReader(path) as journal:
        entries = [entry async for entry in journal.entries()]
    keys = {entry.key for entry in entries}
    assert keys <= {job.key for job in jobs} <= keys | not_begun
    paid = {entry.key: entry.task_id for entry in entries if entry.task_id}
    # A job that was cut off between the record of its end and its outcome is in the journal only.
    assert got.items() <= paid.items()
    return service, list(paid.values()), [entry.key for entry in entries if entry.open]


def judge(service: Racing, got: list[str | None], doubts: list[Any]) -> list[str]:
    """Return what must not be."""
    wrong = [f"{task_id} was given {count} times" for task_id, count in Counter(got).items() if count > 1]
    if len(service.tasks) > len(got) + len(doubts):
        wrong.append(f"{len(service.tasks)} tasks for {len(got)} results and {len(doubts)} doubts")
    return wrong


@pytest.mark.parametrize("seed", range(plays(40, 400)))
async def test_equal_calls_that_race_are_paid_once_each(seed: int) -> None:
    """Whatever is late, lost or slow, there are no more tasks than callers."""
    assert judge(*await race_of_calls(seed)) == []


@pytest.mark.parametrize("seed", range(plays(15, 200)))
async def test_equal_jobs_that_race_are_paid_once_each(
    seed: int, tmp_path: Path, databases: list[Database]
) -> None:
    """Though their batch is left in the middle, and their Runs travel on."""
    assert judge(*await race_of_jobs(seed, tmp_path / "a.db")) == []


BROKEN: dict[str, Any] = {
    "absence before the quiet time": lambda: mock.patch.object(
        reconcile._Reading, "is_quiet", property(lambda self: True)
    ),
    "a reading from before an adoption": lambda: mock.patch.object(OpenRuns, "version", return_value=0),
    "adoption while equal Runs are open": lambda: mock.patch.object(OpenRuns, "rivals", return_value=[]),
    "a quiet time without the way and the lag": lambda: mock.patch.object(
        OpenRuns, "__init__", short_of_breath
    ),
}
"""Rules that are broken on purpose."""

_init = OpenRuns.__init__


def short_of_breath(self: OpenRuns, limits: Limits) -> None:
    _init(self, attrs.evolve(limits, request_timeout=1.0, margin=0.1, settle_timeout=0.1))


@pytest.mark.parametrize("rule", BROKEN)
async def test_the_races_find_out_who_breaks_a_rule(rule: str) -> None:
    """Within some hundred of them something is paid twice."""
    with BROKEN[rule]():
        for seed in range(1000):
            if judge(*await race_of_calls(seed)):
                return
    pytest.fail("nobody was found out")


async def test_a_list_without_an_end_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    """The comparison says that it is not complete."""
    path = tmp_path / "a.db"

    def make() -> None:
        store = opened(path)
        intend(store, "a")
        store.close()

    await anyio.to_thread.run_sync(make)
    endless = FakeService(Task_List=ok(tasklist=[task("7", createtime=str(int(NOW) + 60))]))
    comparison = await client(endless).accept_journal(path)
    assert not comparison.complete
    assert {found.id for found in comparison.others} == {"7"}


# -- clocks ----------------------------------------------------------------------------------------------


def clock_ahead(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the computer's clock be ahead of the service's."""
    shifted = SimpleNamespace(time=lambda: time.time() + seconds)
    monkeypatch.setattr("wiro_async._jobs.submit.time", shifted)


async def test_a_clock_ten_minutes_ahead_and_a_busy_account_prove_nothing_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New tasks have pushed the Run's off the first page, and each of these is older than the Run, too."""
    clock_ahead(monkeypatch, 600)
    service = Ledger()
    service.lose = [LOST]
    usual = service.list

    def listed(payload: dict[str, Any]) -> Any:
        if payload["start"] == "0":
            for _ in range(100):
                service.add(parameters={"prompt": "others"})
        return usual(payload)

    service.handlers["Task/List"] = listed
    with pytest.raises(SubmissionUnknown, match="task 2221 has the same model and inputs") as caught:
        await client(service).submit("owner/model", PROMPT, on_unknown="resubmit")
    assert not caught.value.absent
    assert service.counts["Run"] == 1


async def test_what_was_seen_once_keeps_the_run_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though later looks do not show it; until it turns out to be another's."""
    clock_ahead(monkeypatch, 600)
    service = Ledger()
    service.lose = [LOST]
    usual, looks = service.list, [0]

    def listed(payload: dict[str, Any]) -> Any:
        looks[0] += 1
        return usual(payload) if looks[0] <= 2 else ok(tasklist=[])

    service.handlers["Task/List"] = listed
    caller = client(service)
    with pytest.raises(SubmissionUnknown, match="task 2221 has the same") as caught:
        await caller.submit("owner/model", PROMPT)
    with pytest.raises(SubmissionUnknown, match="task 2221 has the same"):
        await caller.reconcile(caught.value)
    caller.attach("2221")
    with pytest.raises(SubmissionUnknown, match="so it does not exist"):
        await caller.reconcile(caught.value)


@pytest.mark.parametrize("ahead", [600.0, -600.0])
async def test_the_services_own_date_tells_how_far_the_clocks_differ(
    ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the task is the Run's, whatever this computer's clock says."""
    clock_ahead(monkeypatch, ahead)
    monkeypatch.setattr("wiro_async._http.transport.time", SimpleNamespace(time=lambda: time.time() + ahead))
    service = Ledger()
    service.lose = [LOST]
    usual = service.list
    date = {"date": formatdate(time.time(), usegmt=True)}
    service.handlers["Task/List"] = lambda payload: httpx.Response(200, json=usual(payload), headers=date)
    assert (await client(service).submit("owner/model", PROMPT)).id == "2221"
