"""A Run leaves within its window or not at all; what the journal has as another Run's is not taken."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.batches import MODEL, Service, alone, batch_of, job, jobs
from tests.batches import databases as databases
from tests.conftest import KEY, SECRET
from tests.journals import Database
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import Client, ConnectionFailed, JournalReader, Limits, SubmissionUnknown
from wiro_async import _aio as aio
from wiro_async._jobs.submit import OpenRuns, Run, send
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Intended, Step
from wiro_async._protocol.matching import KnownTasks
from wiro_async._protocol.operations import run as run_of


class Asleep:
    """A machine that can be put to sleep: its system's clock goes on, the event loop's does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        usual = aio.uptime
        monkeypatch.setattr("wiro_async._aio.uptime", lambda: usual() + self.slept)


@pytest.fixture
def forgetful(databases: list[Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no client be told which tasks its journal has."""

    async def nothing(_: SQLiteJournal) -> list[str]:
        return []

    monkeypatch.setattr(SQLiteJournal, "task_ids", nothing)


@pytest.mark.parametrize("how", ["slow", "asleep"])
async def test_a_run_whose_intent_took_too_long_is_not_sent_on_it(
    how: str, tmp_path: Path, databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window counts from before the record of the intent; the next intent has one of its own."""
    machine, record, intents = Asleep(monkeypatch), SQLiteJournal.record, [0]

    async def recording(self: SQLiteJournal, *steps: Step) -> None:
        await record(self, *steps)
        if any(isinstance(step, Intended) for step in steps):
            intents[0] += 1
            if intents[0] == 1:
                machine.slept = 11.0 if how == "asleep" else 0.0
                await anyio.sleep(11.0 if how == "slow" else 0.0)

    monkeypatch.setattr(SQLiteJournal, "record", recording)
    service, path = Service(), tmp_path / "a.db"
    outcome = await alone(service, journal=path)
    assert outcome.succeeded
    assert service.counts["Run"] == 1
    async with JournalReader(path) as journal:
        entry = await journal.find("a")
    assert entry is not None
    assert (entry.attempt, entry.runs, intents[0]) == (2, 1, 2)


async def test_httpx_is_asked_again_when_it_has_connected() -> None:
    """Its transports tell when they are about to send, which may be long after they were asked."""
    asked: list[str] = []

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.append(request.url.path)
            await request.extensions["trace"]("connection.connect_tcp.started", {})
            await anyio.sleep(2.0)
            await request.extensions["trace"]("http11.send_request_headers.started", {})
            raise AssertionError("it was sent")

    limits = Limits(send_window=1.0, slot_timeout=1.5)
    async with Client(
        KEY, SECRET, base_url="http://127.0.0.1:9/v1", transport=Slow(), limits=limits, check=False
    ) as own:
        with pytest.raises(
            ConnectionFailed, match=r"within 1 s .Limits.send_window. or not at all"
        ) as caught:
            await own.submit(MODEL, {"prompt": "a"})
    assert not caught.value.sent
    assert asked == [f"/v1/Run/{MODEL}"]


@pytest.mark.usefixtures("forgetful")
async def test_what_the_journal_has_as_another_runs_task_is_no_refusal(tmp_path: Path) -> None:
    """The client has forgotten whose it is, the journal has not: the Run is in doubt, and finds its own."""
    service, path = Service(), tmp_path / "a.db"
    first = await alone(service, journal=path)
    usual = service.handlers["Run"]

    def run(payload: dict[str, Any]) -> Any:
        return {**usual(payload), "taskid": first.task_id}

    service.handlers["Run"] = run
    async with batch_of(service, jobs("b"), journal=path) as batch:
        found = {outcome.key: outcome async for outcome in batch}
    assert found["b"].succeeded
    assert found["b"].task_id not in ("", first.task_id)
    assert service.counts["Run"] == 2


@pytest.mark.usefixtures("forgetful")
async def test_a_task_of_the_list_that_the_journal_has_as_anothers_is_left_alone(tmp_path: Path) -> None:
    """Of equal inputs, and forgotten by the client."""
    service, path = Service(), tmp_path / "a.db"
    first = await alone(service, journal=path)
    service.answers["a"] = ["lost"]
    async with batch_of(service, [job("a", "again")], journal=path) as batch:
        found = {outcome.key: outcome async for outcome in batch}
    assert found["again"].succeeded
    assert found["again"].task_id not in ("", first.task_id)


async def test_a_run_that_left_too_late_is_quiet_later() -> None:
    """As long after its answer was lost as a Run takes to arrive and to be listed, and never earlier."""
    runs, run = OpenRuns(Limits()), Run(run_of(MODEL), MODEL, {"prompt": "a"}, b"{}")
    for waited, quiet in ((60.0, 60.0 + 75.0), (1.0, 85.0)):
        start, attempt = anyio.current_time(), runs.begin(run)
        assert attempt.window is not None
        attempt.window.late = True
        await anyio.sleep(waited)
        runs.doubt(attempt)
        assert attempt.quiet - start == pytest.approx(quiet)


async def test_doubts_of_long_ago_are_forgotten() -> None:
    """No new Run's task can be their own, and the other way round."""
    runs, run = OpenRuns(Limits()), Run(run_of(MODEL), MODEL, {"prompt": "a"}, b"{}")
    old = runs.begin(run)
    runs.doubt(old)
    await anyio.sleep(2 * 3600.0)
    new = runs.begin(run)
    assert runs.rivals(new) == [old]
    runs.doubt(new)
    assert runs.rivals(new) == []


async def test_an_exchange_that_is_cut_off_leaves_its_run_in_doubt() -> None:
    """As the end of asyncio.run() does; a verdict on it can be given twice."""

    class CutOff:
        async def exchange(self, *_: object) -> Any:
            raise KeyboardInterrupt

    runs, known = OpenRuns(Limits()), KnownTasks()
    attempt = runs.begin(Run(run_of(MODEL), MODEL, {"prompt": "a"}, b"{}"))
    with pytest.raises(KeyboardInterrupt):
        await send(attempt, CutOff(), known, runs)  # type: ignore[arg-type]
    assert (runs.flying, attempt.is_open) == (0, True)
    runs.close(attempt)
    runs.close(attempt)
    assert not attempt.is_open


async def test_readings_that_are_void_again_and_again_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal Runs adopt tasks all the time: after five more readings the search ends in doubt."""
    versions = itertools.count()
    monkeypatch.setattr(OpenRuns, "version", lambda *_: next(versions))
    service = Service()
    service.answers["a"] = ["gone"]
    outcome = await alone(service, on_unknown="resubmit")
    assert isinstance(outcome.error, SubmissionUnknown)
    assert not outcome.error.absent
    assert (service.counts["Run"], service.counts["Task/List"]) == (1, 5 + 1 + 5)
