"""What every job is protected from, whichever way it is made: alone by submit() or run(), or in a batch.

A new protection gets a test here, and with it both event loops and every way.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import httpx
import pytest

from tests.batches import CLIP, MODEL, RARELY, Fate, Made, Service, batch_of, jobs, states_of
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.conftest import KEY, SECRET
from tests.fakes import client, no
from tests.journals import Database
from tests.servers import refused_port
from wiro_async import (
    BatchStopped,
    Client,
    ConnectionFailed,
    DownloadError,
    InvalidInput,
    Job,
    Limits,
    Polling,
    SubmissionUnknown,
    TaskFailed,
    TaskHandle,
    WiroError,
)
from wiro_async.sandbox import Sandbox


@attrs.frozen
class Result:
    """What became of one job that succeeded."""

    task_id: str
    paths: list[Path] = attrs.field(factory=list)


Way = Callable[[Client, dict[str, Any], Path | None], Coroutine[Any, Any, Result]]
"""Makes one job of these inputs, saves its outputs in a folder if there is one, or raises."""


async def by_submit(own: Client, inputs: dict[str, Any], folder: Path | None) -> Result:
    """Submit, wait, and save each output to a path."""
    task = await own.submit(MODEL, inputs)
    result = await task.result()
    if folder is None:
        return Result(result.task.id)
    return Result(
        result.task.id, [await output.save(folder / f"{output.index}.mp4") for output in result.outputs]
    )


async def by_run(own: Client, inputs: dict[str, Any], folder: Path | None) -> Result:
    """Run, and save the whole result."""
    result = await own.run(MODEL, inputs)
    return Result(result.task.id, [] if folder is None else await result.save(folder))


async def by_batch(own: Client, inputs: dict[str, Any], folder: Path | None) -> Result:
    """Let a batch do all of it."""
    async with own.batch([Job(MODEL, inputs, key="k")], download=folder) as batch:
        (outcome,) = [outcome async for outcome in batch]
    if outcome.error is not None:
        raise outcome.error
    return Result(outcome.task_id, list(outcome.paths))


WAYS: dict[str, Way] = {"submit": by_submit, "run": by_run, "batch": by_batch}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Return each of the ways to make a job."""
    return WAYS[request.param]


Make = Callable[[Service, dict[str, Any], Path], Awaitable[list[Path]]]


@pytest.fixture
def make(way: Way) -> Make:
    """Return each of the ways to make a job with a client of its own, and have its files."""

    async def make(service: Service, inputs: dict[str, Any], folder: Path) -> list[Path]:
        async with client(service, polling=RARELY) as own:
            return (await way(own, inputs, folder)).paths

    return make


async def many(way: Way, own: Client, count: int, name: str = "") -> None:
    """Make several jobs at once: single calls side by side, or one batch."""
    prompts = [f"{name}{number}" for number in range(count)]
    if way is by_batch:
        async with own.batch(jobs(*prompts), model=MODEL) as batch:
            assert (await batch.wait()).complete
        return
    async with anyio.create_task_group() as group:
        for prompt in prompts:
            group.start_soon(way, own, {"prompt": prompt}, None)


class Lagging(Service):
    """A service whose CDN lags behind.

    Attributes:
        asked: When an output was asked for.
        looked: How often the task had been looked up before.
    """

    def __init__(self, *missing: int) -> None:
        super().__init__()
        self.missing = list(missing)
        self.asked: list[float] = []
        self.looked: list[int] = []

    def _download(self, path: str) -> httpx.Response:
        self.asked.append(anyio.current_time())
        self.looked.append(self.counts["Task/Detail"])
        return super()._download(path)

    @property
    def pauses(self) -> list[float]:
        """Seconds between two requests for an output."""
        return [later - earlier for earlier, later in zip(self.asked, self.asked[1:], strict=False)]


async def content_of(path: Path) -> bytes:
    return await anyio.to_thread.run_sync(path.read_bytes)


# -- a CDN that lags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statuses", [(404,), (403, 403), (404, 403, 404, 403, 404)])
async def test_a_cdn_that_lags_is_waited_for(make: Make, statuses: tuple[int, ...], tmp_path: Path) -> None:
    """The file is asked for again in pauses that grow, and the task is looked up before each time."""
    service = Lagging(*statuses)
    (path,) = await make(service, {"prompt": "a"}, tmp_path)
    assert await content_of(path) == CLIP
    assert service.pauses == pytest.approx([1, 2, 4, 8, 15][: len(statuses)])
    assert [count - service.looked[0] for count in service.looked] == list(range(len(statuses) + 1))
    assert service.runs == {"a": 1}


async def test_an_output_that_moves_is_fetched_from_its_new_address(make: Make, tmp_path: Path) -> None:
    """As the task tells it by then."""
    service = Lagging(404)
    service.made["77"] = Made("77", {"prompt": "b"}, Fate(), 0.0, 0.0)
    usual = service.wire

    def moved(made: Made) -> dict[str, Any]:
        wire = usual(made)
        for output in wire.get("outputs", ()) if service.asked else ():
            output["url"] = output["url"].replace(made.id, "77")
        return wire

    service.wire = moved  # type: ignore[method-assign, assignment]
    (path,) = await make(service, {"prompt": "a"}, tmp_path)
    assert await content_of(path) == CLIP
    assert service.fetched == {"/cdn/2221/0.mp4": 1, "/cdn/77/0.mp4": 1}


@pytest.mark.parametrize("problem", [no(0, "database is down"), no(1, "There is no task yet.")])
async def test_a_file_that_stays_away_is_given_up(make: Make, problem: Any, tmp_path: Path) -> None:
    """After half a minute, whatever becomes of the looks meanwhile; the error says what may be the reason."""
    service = Lagging(*[404] * 100)
    usual = service.handlers["Task/Detail"]
    service.handlers["Task/Detail"] = lambda payload: problem if service.asked else usual(payload)
    with pytest.raises(DownloadError, match="outputs are kept for a limited time") as caught:
        await make(service, {"prompt": "a"}, tmp_path)
    assert caught.value.http_status == 404
    assert len(service.asked) == 6
    assert service.asked[-1] - service.asked[0] == pytest.approx(30, abs=5)
    assert await anyio.to_thread.run_sync(lambda: list(tmp_path.iterdir())) == []


async def test_a_file_that_is_gone_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    """HTTP 410 says that it will not come back."""
    service = Lagging(410)
    with pytest.raises(DownloadError, match="limited time"):
        await make(service, {"prompt": "a"}, tmp_path)
    assert len(service.asked) == 1


# -- an upload that breaks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [httpx.ReadError("connection reset"), httpx.ConnectError("refused"), httpx.Response(502), no(0, "busy")],
    ids=["reset", "refused", "502", "code 0"],
)
async def test_an_upload_that_breaks_is_made_again(make: Make, fault: Any, tmp_path: Path) -> None:
    """Twice, and the job is made once, with the address of the upload that came through."""
    service = Service()
    service.handlers["File/Upload"] = [fault, fault, service.handlers["File/Upload"]]
    (path,) = await make(service, {"prompt": "a", "image": b"\xff\xd8\xffjpeg"}, tmp_path)
    assert await content_of(path) == CLIP
    assert service.counts["File/Upload"] == 3
    (made,) = service.made.values()
    assert made.inputs["image"] == "https://api.wiro.ai/v1/File/1"


async def test_a_file_that_cannot_be_uploaded_costs_nothing(make: Make, tmp_path: Path) -> None:
    """No upload and no Run is made for what cannot be read."""
    service = Service()
    with pytest.raises(InvalidInput, match="No such file"):
        await make(service, {"prompt": "a", "image": tmp_path / "missing.jpg"}, tmp_path)
    assert not service.counts["File/Upload"]
    assert not service.made


# -- a service that restarts -----------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "pause"), [(2, 3.2), (30, 20.0)])
@pytest.mark.parametrize(
    "fault", [httpx.ConnectError("refused"), httpx.ConnectTimeout("no route")], ids=["refused", "no route"]
)
async def test_a_run_that_was_certainly_not_sent_waits_out_a_restart(
    way: Way, fault: Exception, seconds: float, pause: float
) -> None:
    """It is sent until the service is back, and taken once."""
    service = Service()
    usual, start = service.handlers["Run"], anyio.current_time()
    service.handlers["Run"] = lambda payload: (
        fault if anyio.current_time() < start + seconds else usual(payload)
    )
    async with client(service, polling=RARELY) as own:
        await way(own, {"prompt": "a"}, None)
    assert service.runs == {"a": 1}
    (made,) = service.made.values()
    # In the worst case the service is back as the longest of the pauses until then begins.
    assert seconds <= made.born - start <= seconds + pause + 1


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_restart_is_waited_out_over_real_sockets(anyio_backend: str) -> None:
    """Nobody listens at the port for two seconds."""
    port, over = refused_port(), anyio.Event()
    sandbox = Sandbox(port=port, api_key=KEY, api_secret=SECRET, speed=500, render=False)

    async def start() -> None:
        await anyio.sleep(2.1)
        async with sandbox:
            await over.wait()

    polling = Polling(min_interval=0.05, max_interval=0.05)
    async with anyio.create_task_group() as group:
        group.start_soon(start)
        async with Client(KEY, SECRET, base_url=f"http://127.0.0.1:{port}/v1", polling=polling) as own:
            result = await own.run(MODEL, {"inputImageFirstUrl": "https://host/a.jpg", "prompt": "waves"})
        assert [task["id"] for task in sandbox.ledger()["tasks"]] == [result.task.id]
        over.set()


async def test_a_service_that_stays_away_is_given_up(way: Way) -> None:
    """After a minute; nothing was paid."""
    service = Service()
    service.handlers["Run"] = httpx.ConnectError("refused")
    start = anyio.current_time()
    with pytest.raises(ConnectionFailed):
        async with client(service, polling=RARELY) as own:
            await way(own, {"prompt": "a"}, None)
    assert 30 <= anyio.current_time() - start <= 66
    assert not service.made


# -- an answer that is lost ------------------------------------------------------------------------------


async def test_a_lost_answer_is_found_and_not_paid_twice(way: Way) -> None:
    """The task is in the service's list."""
    service = Service()
    service.answers["a"] = ["lost"]
    async with client(service, polling=RARELY) as own:
        result = await way(own, {"prompt": "a"}, None)
    assert list(service.made) == [result.task_id]
    assert service.counts["Run"] == 1


async def test_equal_runs_whose_answers_are_lost_find_as_many_tasks(way: Way) -> None:
    """Each is somebody's, and none is two's."""
    service, found = Service(), set[str]()
    service.answers["a"] = ["lost", "lost", "lost"]

    async def one(own: Client) -> None:
        found.add((await way(own, {"prompt": "a"}, None)).task_id)

    async with client(service, polling=RARELY) as own, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one, own)
    assert found == set(service.made)
    assert service.runs == {"a": 3}


async def test_a_run_that_is_not_in_the_list_is_not_sent_again(way: Way) -> None:
    """It may have been taken all the same."""
    service = Service()
    service.answers["a"] = ["gone"]
    async with client(service, polling=RARELY) as own:
        with pytest.raises(SubmissionUnknown) as caught:
            await way(own, {"prompt": "a"}, None)
    assert not caught.value.absent
    assert service.counts["Run"] == 1


async def test_a_doubt_holds_up_no_other_run(way: Way) -> None:
    """Where one is on its way at a time, neither the search for its task nor that task's life is awaited."""
    service = Service()
    service.answers["a"] = ["lost"]
    service.delays["Task/List"] = 20.0
    async with (
        client(service, polling=RARELY, limits=Limits(max_in_flight=1)) as own,
        anyio.create_task_group() as group,
    ):
        group.start_soon(way, own, {"prompt": "a"}, None)
        await anyio.sleep(1)
        group.start_soon(way, own, {"prompt": "b"}, None)
    first, second = service.made.values()
    assert second.born - first.born <= 41
    assert service.runs == {"a": 1, "b": 1}


# -- the account's limit ---------------------------------------------------------------------------------


@pytest.fixture(params=WAYS)
def other(request: pytest.FixtureRequest) -> Way:
    """Return each of the ways to make a job, for those that were made before."""
    return WAYS[request.param]


async def test_the_limit_that_one_way_has_learned_is_kept_by_the_others(way: Way, other: Way) -> None:
    """It may look up to twice as high, where a task's end was seen late; the first refusal tells it again."""
    service = Service(limit=3)
    async with client(service, polling=RARELY) as own:
        await many(other, own, 9, "first")
        assert service.most == 3
        runs, start = service.counts["Run"], anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(many, way, own, 12, "then")
            await anyio.sleep(1)
            assert service.active == 3
            assert service.counts["Run"] - runs <= (3 + 1 if way is by_batch is other else 2 * 3)
    assert set(service.runs.values()) == {1}
    assert anyio.current_time() - start <= 4 * (60 + 20) + 20


async def test_single_calls_and_a_batch_share_one_limit() -> None:
    """Side by side they are refused little more often than one of them alone."""
    service = Service(limit=4)
    async with client(service, polling=RARELY) as own:
        await many(by_batch, own, 8, "first")
        runs = service.counts["Run"]
        async with anyio.create_task_group() as group:
            for name, each in WAYS.items():
                group.start_soon(many, each, own, 12, name)
    assert service.most == 4
    assert set(service.runs.values()) == {1}
    assert len(service.made) == 8 + 36
    # The first in line of the single calls asks now and then.
    assert service.counts["Run"] - runs <= 36 * 3


@pytest.mark.parametrize("whose", ["kept", "dropped", "waited for", "batch", "another client"])
async def test_a_run_that_is_turned_away_waits_for_any_task_to_end(way: Way, whose: str) -> None:
    """One that somebody waits for, one that nobody polls, and one that is another program's."""
    service = Service(limit=1)
    service.fates["before"] = Fate(lasts=300.0)
    own, stranger = client(service, polling=RARELY), client(service)
    async with own, stranger, anyio.create_task_group() as group:
        task: TaskHandle | None = None
        if whose == "batch":
            group.start_soon(many_before, own)
        else:
            holder = stranger if whose == "another client" else own
            task = await holder.submit(MODEL, {"prompt": "before"})
            if whose == "waited for":
                group.start_soon(task.wait)
        await anyio.sleep(1)
        group.start_soon(way, own, {"prompt": "a"}, None)
        await anyio.sleep(1)
        if whose == "dropped":
            task = None
            gc.collect()
    before, after = service.made.values()
    patience = 16 if whose in ("waited for", "batch") else 60
    assert before.ends <= after.born <= before.ends + patience
    assert service.runs == {"before": 1, "a": 1}
    assert service.counts["Run"] <= 40


async def many_before(own: Client) -> None:
    async with own.batch(jobs("before"), model=MODEL) as batch:
        assert (await batch.wait()).complete


# -- a caller who is cancelled in the middle -------------------------------------------------------------


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("native", [False, True])
async def test_who_is_cancelled_in_the_middle_of_a_run_loses_nothing(
    way: Way, native: bool, lost: bool, anyio_backend_name: str
) -> None:
    """The Run is seen to its answer; its task, or the doubt, is where the caller finds it."""
    if native and anyio_backend_name == "trio":
        pytest.skip("only asyncio has cancellations of its own")
    service = Service()
    service.delays["Run"] = 10.0
    service.answers["a"] = ["lost"] if lost else []
    if lost:
        service.latency = 10.0  # A fault is raised before the delay.
    start = anyio.current_time()
    async with client(service, polling=RARELY) as own:
        if native:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await way(own, {"prompt": "a"}, None)
        else:
            with anyio.move_on_after(5) as scope:
                await way(own, {"prompt": "a"}, None)
            assert scope.cancelled_caught
        assert anyio.current_time() - start == pytest.approx(10, abs=1)
        assert service.runs == {"a": 1}
        if lost:
            (error,) = own.unresolved
            task = await own.reconcile(error)
            assert not own.unclaimed
        else:
            (task,) = own.unclaimed
            assert not own.unresolved
        assert task.id == "2221"
        assert (await task.result()).cost == Decimal("0.35")
    assert service.counts["Run"] == 1


async def test_who_is_cancelled_while_he_waits_loses_nothing(way: Way) -> None:
    """The task of run() and of a batch is where the caller finds it; of submit() he has the handle."""
    service = Service()
    async with client(service, polling=RARELY) as own:
        with anyio.move_on_after(30):
            await way(own, {"prompt": "a"}, None)
        assert [task.id for task in own.unclaimed] == ([] if way is by_submit else ["2221"])
    assert service.counts["Run"] == 1


@pytest.mark.parametrize("lost", [False, True])
async def test_where_a_journal_keeps_the_task_the_client_does_not(
    lost: bool, tmp_path: Path, databases: list[Database]
) -> None:
    """It was recorded before the cancellation came through, and is taken up by the next batch."""
    service, path = Service(), tmp_path / "a.db"
    service.latency = 10.0
    service.answers["a"] = ["lost"] if lost else []
    async with client(service, polling=RARELY) as own:
        with anyio.move_on_after(5):
            async with own.batch(jobs("a"), model=MODEL, journal=path) as batch:
                await batch.wait()
        assert not own.unclaimed
        assert not own.unresolved
    assert await states_of(path) == {"a": "intended" if lost else "running"}
    service.latency = 0.0
    async with batch_of(service, journal=path) as batch:
        assert (await batch.wait()).complete
    assert service.counts["Run"] == 1


# -- money, and failures that are alike ------------------------------------------------------------------


async def test_twenty_failures_that_are_alike_stop_a_batch_and_nothing_else(way: Way) -> None:
    """Failed runs are free, and the callers of single ones decide for themselves."""
    service = Service(limit=1000)
    for number in range(30):
        service.fates[f"a{number}"] = Fate(pexit="1", cost="0", reason=f"no face in image {number}")
    async with client(service, polling=RARELY) as own:
        if way is by_batch:
            prompts = [f"a{number}" for number in range(30)]
            async with own.batch(jobs(*prompts), model=MODEL, concurrency=1) as batch:
                report = await batch.wait()
            assert report.stopped is not None
            assert report.stopped.reason == "breaker"
            assert len(service.made) == 20
        else:
            for number in range(30):
                with pytest.raises(TaskFailed):
                    await way(own, {"prompt": f"a{number}"}, None)
            assert len(service.made) == 30
        # What a batch has stopped for concerns that batch.
        await way(own, {"prompt": "b"}, None)


async def test_a_budget_is_its_batch_s_own(way: Way) -> None:
    """What else the client pays for meanwhile does not count, and is not held up."""
    service = Service(limit=1000)
    # From the catalogue, so that all may run at once.
    owner, name = MODEL.split("/")
    listing = {"slugowner": owner, "slugproject": name, "approximatelycost": "0.35"}
    service.handlers["Tool/Detail"] = {"errors": [], "result": True, "tool": [listing]}
    async with (
        client(service, polling=RARELY) as own,
        own.batch(jobs(*"abcdef"), model=MODEL, max_cost="1.40") as batch,
    ):
        await many(way, own, 6, "others")
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "max_cost"
    assert report.progress.spent == Decimal("1.40")
    assert len(service.made) == 6 + 4


async def test_a_run_in_doubt_keeps_its_money() -> None:
    """It may have been paid, so its estimate is not given to another."""
    service = Service(limit=1000)
    owner, name = MODEL.split("/")
    listing = {"slugowner": owner, "slugproject": name, "approximatelycost": "0.35"}
    service.handlers["Tool/Detail"] = {"errors": [], "result": True, "tool": [listing]}
    service.answers["a"] = ["gone"]
    async with batch_of(service, jobs(*"abc"), max_cost="0.70", concurrency=1) as batch:
        found = {outcome.key: outcome.error async for outcome in batch}
        assert batch.progress.reserved == Decimal("0.35")
    assert isinstance(found["a"], SubmissionUnknown)
    assert found["b"] is None
    assert isinstance(found["c"], BatchStopped)


async def test_what_provably_came_to_nothing_gives_its_money_back() -> None:
    """Refused, or not sent: the next one has it."""
    service = Service(limit=1000)
    owner, name = MODEL.split("/")
    listing = {"slugowner": owner, "slugproject": name, "approximatelycost": "0.35"}
    service.handlers["Tool/Detail"] = {"errors": [], "result": True, "tool": [listing]}
    service.answers["a"] = [no(0, "Request parameters are invalid.")]
    service.answers["b"] = [httpx.ConnectError("refused")] * 20
    async with batch_of(service, jobs(*"abc"), max_cost="0.35", concurrency=1) as batch:
        found = {outcome.key: outcome.error async for outcome in batch}
        assert batch.progress.reserved == 0
    assert isinstance(found["a"], WiroError)
    assert isinstance(found["b"], ConnectionFailed)
    assert found["c"] is None
