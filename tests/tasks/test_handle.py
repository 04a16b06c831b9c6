"""The handle: poll, wait, follow, stop."""

from __future__ import annotations

import gc
import math
import time
import weakref
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import httpx
import pytest

import wiro_async
from tests.fakes import LIFE, STAMPS, FakeService, TimedTask, client, no, ok, task, timed_service
from tests.virtual import VirtualLoop
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import Status, TaskHandle, TaskNotFound
from wiro_async._protocol.events import Message
from wiro_async._protocol.records import read_task
from wiro_async._watch.schedule import Schedule, TaskTiming

INPUTS = {"prompt": "waves"}
CALM = wiro_async.Polling(jitter=0.0)
ENDED = task(status="task_postprocess_end", pexit="0")


async def submitted(service: FakeService, **options: Any) -> TaskHandle:
    return await client(service, polling=CALM, **options).submit("owner/model", INPUTS)


# -- what is known ---------------------------------------------------------------------------------------


async def test_a_new_handle_knows_its_task_without_a_poll() -> None:
    """After the submit: id, token, model and the queue; no request was made for them."""
    service = timed_service()
    handle = await submitted(service)
    assert handle.id == "2221"
    assert handle.token == wiro_async.Secret("token-2221")
    assert (handle.model, handle.status, handle.task) == ("owner/model", Status.QUEUE, None)
    assert handle.transitions == ()
    assert not handle.done
    assert repr(handle) == "<TaskHandle 2221 owner/model task_queue>"
    assert service.counts == {"Run": 1}


async def test_an_attached_handle_knows_only_its_key() -> None:
    """Nothing is sent by attaching; the first poll tells the rest."""
    service = FakeService(
        Task_Detail=ok(tasklist=[task(status="task_start", modelslugowner="o", modelslugproject="m")])
    )
    handle = client(service).attach(token="token-2221")
    assert (handle.id, handle.status, handle.model) == (None, None, "")
    assert repr(handle) == "<TaskHandle known by its token only not polled yet>"
    assert not service.calls
    snapshot = await handle.refresh()
    assert service.calls == [("Task/Detail", {"tasktoken": "token-2221"})]
    assert (handle.id, handle.status, handle.model) == ("2221", Status.START, "o/m")
    assert handle.task is snapshot
    await handle.refresh()
    assert service.calls[1] == ("Task/Detail", {"taskid": "2221"})


async def test_a_reply_that_says_nothing_new_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot is the last one; after another call about the task, the next reply is read again."""
    running = ok(tasklist=[task(status="task_start")])
    service = FakeService(
        Task_Detail=[running, running, no(0, "busy"), running],
        Task_Kill=ok(tasklist=[task(status="task_start")]),
    )
    read: list[str] = []

    def reads(operation: Any, *args: Any) -> Any:
        read.append(operation.name)
        return read_task(operation, *args)

    monkeypatch.setattr("wiro_async._tasks.state.read_task", reads)
    handle = client(service).attach("2221")
    first = await handle.refresh()
    assert await handle.refresh() is first
    assert await handle.refresh() is first
    assert read == ["Task/Detail"]
    with anyio.move_on_after(1.0):
        await handle.kill()
    assert await handle.refresh() == first
    assert read[:3] == ["Task/Detail", "Task/Kill", "Task/Detail"]


# -- waiting ---------------------------------------------------------------------------------------------


async def test_awaiting_returns_the_result() -> None:
    """Success brings outputs, cost and elapsed time."""
    output = {"name": "0.mp4", "url": "https://cdn1.wiro.ai/x/0.mp4", "size": "7"}
    service = timed_service(outputs=[output], totalcost="0.28", elapsedseconds="54.0")
    result = await (await submitted(service))
    assert [item.name for item in result.outputs] == ["0.mp4"]
    assert (str(result.cost), result.elapsed) == ("0.28", 54.0)
    assert result.task.outcome == "succeeded"


async def test_a_failed_task_raises_with_its_reason() -> None:
    """The exception carries the last line of the task's output."""
    service = timed_service(pexit="1", debugoutput="loading\nno face was found\n")
    handle = await submitted(service)
    with pytest.raises(wiro_async.TaskFailed, match="no face was found") as caught:
        await handle
    assert caught.value.reason == "no face was found"
    assert (caught.value.task_id, caught.value.task) == ("2221", handle.task)


@pytest.mark.parametrize(
    ("final", "words"),
    [
        ({"pexit": "9"}, r"exit code 9.*gave no reason; the service does not say yet whether it is billed"),
        ({"pexit": "9", "totalcost": "0"}, "; it was not billed$"),
        ({"pexit": "9", "totalcost": "0.350"}, r"; it was billed \$0.350$"),
    ],
)
async def test_a_failure_without_a_reason_says_so(final: dict[str, Any], words: str) -> None:
    """Nothing is invented."""
    with pytest.raises(wiro_async.TaskFailed, match=words):
        await (await submitted(timed_service(**final)))


async def test_a_cancelled_task_raises() -> None:
    """Whoever cancelled it."""
    timed = TimedTask((0.0, "task_queue"), (5.0, "task_cancel"))
    with pytest.raises(wiro_async.TaskCancelled, match="2221"):
        await (await submitted(FakeService(Run=timed.run, Task_Detail=timed.detail)))


@pytest.mark.parametrize(
    ("status", "outcome"), [("task_cancel", "cancelled"), ("task_postprocess_end", "failed")]
)
async def test_wait_never_raises_for_how_the_task_ended(status: str, outcome: str) -> None:
    """It returns the final snapshot; waiting again costs nothing."""
    timed = TimedTask((0.0, "task_queue"), (5.0, status), pexit="1")
    service = FakeService(Run=timed.run, Task_Detail=timed.detail)
    handle = await submitted(service)
    snapshot = await handle.wait()
    assert snapshot.outcome == outcome
    polls = service.counts["Task/Detail"]
    assert await handle.wait(0) is snapshot
    assert service.counts["Task/Detail"] == polls


async def test_waiting_is_sparing() -> None:
    """A minute's task costs about twenty polls, and its end is known within a sixth of its age."""
    service = timed_service()
    handle = await submitted(service)
    start = anyio.current_time()
    await handle
    assert service.counts["Task/Detail"] <= 22
    assert 60.0 <= anyio.current_time() - start <= 70.0


async def test_a_timeout_leaves_the_task_alone() -> None:
    """The error carries the live handle, and says what it saw."""
    service = timed_service()
    handle = await submitted(service)
    with pytest.raises(
        wiro_async.TaskTimeout, match=r"2221 has not ended after 10 s; it is task_start"
    ) as caught:
        await handle.wait(10)
    assert caught.value.handle is handle
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.waited == 10
    assert set(service.counts) == {"Run", "Task/Detail"}
    assert (await caught.value.handle.result()).task.outcome == "succeeded"


@pytest.mark.parametrize("timeout", [math.nan, "5", True])
async def test_a_timeout_that_is_no_number_is_refused(timeout: Any) -> None:
    """Before anything is waited for; "nan" would be waited for for ever."""
    service = timed_service()
    handle = await submitted(service)
    for call in (handle.wait, handle.result, handle.stop):
        with pytest.raises(wiro_async.ConfigurationError, match=r"^timeout is .*; it must be a number of"):
            await call(timeout)
    assert service.counts == {"Run": 1}


async def test_the_default_timeout_is_the_clients() -> None:
    """A wait without a timeout ends all the same."""
    timed = TimedTask((0.0, "task_queue"))
    service = FakeService(Run=timed.run, Task_Detail=timed.detail)
    handle = await submitted(service, limits=wiro_async.Limits(wait_timeout=100))
    start = anyio.current_time()
    with pytest.raises(wiro_async.TaskTimeout):
        await handle
    for iteration in (handle, handle.events()):
        with pytest.raises(wiro_async.TaskTimeout) as caught:
            async for _ in iteration:
                pass
        assert caught.value.handle is handle
    assert anyio.current_time() - start == pytest.approx(300)


async def test_a_stored_error_is_named_at_a_timeout() -> None:
    """task_error is not an end; if the timeout comes first, the message gives its reason."""
    service = FakeService(
        Run=ok(taskid="2221"), Task_Detail=ok(tasklist=[task(status="task_error", debugerror="no worker\n")])
    )
    handle = await submitted(service)
    with pytest.raises(wiro_async.TaskTimeout, match=r"60 s; it is task_error \(no worker\)") as caught:
        await handle.wait(60)
    assert type(caught.value) is wiro_async.TaskTimeout


async def test_failed_polls_do_not_end_a_wait() -> None:
    """A minute's outage costs lateness, not the result."""
    timed = TimedTask(*LIFE, pexit="0")
    service = FakeService(Run=timed.run)

    def detail(payload: dict[str, Any]) -> Any:
        assert timed.started is not None
        age = anyio.current_time() - timed.started
        return no(0, "server fault") if 20 < age < 80 else timed.detail(payload)

    service.handlers["Task/Detail"] = detail
    handle = await submitted(service)
    assert (await handle).task.outcome == "succeeded"


async def test_a_timeout_during_an_outage_says_so() -> None:
    """The number of failed polls is in the message."""
    service = FakeService(Run=ok(taskid="2221"), Task_Detail=no(0, "server fault"))
    handle = await submitted(service)
    with pytest.raises(wiro_async.TaskTimeout, match=r"the last \d+ polls failed"):
        await handle.wait(60)


async def test_a_wait_ends_when_the_service_disowns_the_task() -> None:
    """No such task is an answer, not an outage."""
    service = FakeService(Task_Detail=no(1, "There is no task yet."))
    with pytest.raises(wiro_async.TaskNotFound):
        await client(service).attach("77").wait()


async def test_a_handle_that_nobody_holds_goes_at_once() -> None:
    """Thousands of them are not left to the garbage collector, which stops everything to find them."""
    handle = await submitted(timed_service())
    await handle.wait()
    gone = weakref.ref(handle)
    gc.disable()
    try:
        del handle
        assert gone() is None
    finally:
        gc.enable()


async def test_closing_the_client_ends_every_wait() -> None:
    """At once, however far off the next poll is."""
    its_client = client(timed_service())
    handle = await its_client.submit("owner/model", INPUTS)
    start = anyio.current_time()

    async def wait() -> None:
        with pytest.raises(wiro_async.ClientUseError, match="closed"):
            await handle.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await its_client.aclose()
    assert anyio.current_time() == start


async def test_many_awaiters_share_one_poll() -> None:
    """Fifty waits and ten iterations cost no more requests than one."""
    service = timed_service()
    handle = await submitted(service)
    results: list[Any] = []

    async def wait() -> None:
        results.append(await handle)

    async def follow() -> None:
        results.append([transition.status async for transition in handle])

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(wait)
        for _ in range(10):
            group.start_soon(follow)
    assert len(results) == 60
    assert service.counts["Task/Detail"] <= 22


async def test_a_poll_elsewhere_wakes_the_waiters() -> None:
    """What refresh() learns ends a wait that sleeps between two polls."""
    service = timed_service()
    handle = await submitted(service, limits=wiro_async.Limits(wait_timeout=100))
    start = anyio.current_time()

    async def poll_at_the_end() -> None:
        await anyio.sleep(60.1)
        await handle.refresh()

    async with anyio.create_task_group() as group:
        group.start_soon(poll_at_the_end)
        await handle.wait()
        assert anyio.current_time() - start == pytest.approx(60.1, abs=0.01)


# -- following -------------------------------------------------------------------------------------------

EVERY = [
    "task_queue", "task_accept", "task_preprocess_start", "task_preprocess_end", "task_assign", "task_start",
    "task_end", "task_postprocess_start", "task_postprocess_end",
]  # fmt: skip


async def test_transitions_are_whole_even_when_polls_are_rare() -> None:
    """What fell between two polls is filled in from the timestamps, and marked."""
    handle = await submitted(timed_service(**STAMPS))
    seen = [transition async for transition in handle]
    assert [transition.status for transition in seen] == EVERY
    assert [transition.status for transition in seen if transition.observed] == [
        "task_queue",
        "task_start",
        "task_postprocess_end",
    ]
    assert seen == list(handle.transitions)
    assert [transition.at.timestamp() for transition in seen][1:5] == [101, 102, 103, 104]


async def test_every_iteration_starts_at_the_beginning() -> None:
    """Early, late and after the end: the same list; leaving one early disturbs nobody."""
    handle = await submitted(timed_service(**STAMPS))
    early: list[str] = []

    async def leave_early() -> None:
        async for _ in handle:
            return

    async def follow() -> None:
        early.extend([transition.status async for transition in handle])

    async with anyio.create_task_group() as group:
        group.start_soon(leave_early)
        group.start_soon(follow)
    assert early == EVERY
    late = [transition.status async for transition in handle]
    assert late == EVERY
    iterator = aiter(handle)
    assert aiter(iterator) is iterator


async def test_a_slow_consumer_is_not_timed_out_by_what_is_known() -> None:
    """The deadline is for waiting; transitions that are there are given out."""
    handle = await submitted(timed_service(**STAMPS), limits=wiro_async.Limits(wait_timeout=90))
    seen = []
    async for transition in handle:
        seen.append(transition.status)
        await anyio.sleep(30)
    assert seen == EVERY


# -- stopping --------------------------------------------------------------------------------------------


class Stoppable(TimedTask):
    """A task that can be cancelled while queued and killed while running."""

    stopped = False

    def detail(self, payload: object = None) -> dict[str, Any]:
        if self.stopped:
            return ok(tasklist=[task(self.task_id, "task_cancel")])
        return super().detail(payload)

    def _stop(self, *when: str, refusal: str) -> dict[str, Any]:
        if self.stopped or self.detail()["tasklist"][0]["status"] not in when:
            return no(1, refusal)
        self.stopped = True
        return ok(tasklist=[task(self.task_id, "task_cancel")])

    def cancel(self, payload: dict[str, Any]) -> dict[str, Any]:
        assert set(payload) == {"taskid"}
        return self._stop("task_queue", refusal="Task is not in a cancellable state.")

    def kill(self, _payload: dict[str, Any]) -> dict[str, Any]:
        return self._stop("task_start", refusal="Task could not be killed: not running")


def stoppable(*steps: tuple[float, str]) -> FakeService:
    timed = Stoppable(*(steps or LIFE), pexit="0")
    return FakeService(
        Run=timed.run, Task_Detail=timed.detail, Task_Cancel=timed.cancel, Task_Kill=timed.kill
    )


async def test_cancel_takes_a_queued_task_out() -> None:
    """One call, and repeating it costs nothing."""
    service = stoppable()
    handle = await submitted(service)
    assert (await handle.cancel()).outcome == "cancelled"
    assert (await handle.cancel()).outcome == "cancelled"
    assert (await handle.kill()).outcome == "cancelled"
    assert (await handle.stop()).outcome == "cancelled"
    assert service.counts == {"Run": 1, "Task/Cancel": 1}


async def test_cancel_by_token_finds_the_id_first() -> None:
    """The service cancels by task id only."""
    service = stoppable()
    handle = await submitted(service)
    other = client(service).attach(token=handle.token)
    assert (await other.cancel()).outcome == "cancelled"
    assert service.calls[1:] == [
        ("Task/Detail", {"tasktoken": "token-2221"}),
        ("Task/Cancel", {"taskid": "2221"}),
    ]


async def test_cancel_of_a_running_task_says_what_to_do() -> None:
    """The wrong verb is an error that names the right one."""
    handle = await submitted(stoppable())
    await anyio.sleep(10)
    with pytest.raises(wiro_async.InvalidTaskState, match=r"stop\(\)"):
        await handle.cancel()
    assert handle.status == Status.START


async def test_kill_ends_a_running_task_and_refuses_a_queued_one() -> None:
    """By id, or by token where only that is known."""
    service = stoppable()
    handle = await submitted(service)
    with pytest.raises(wiro_async.InvalidTaskState, match=r"stop\(\)"):
        await handle.kill()
    await anyio.sleep(10)
    other = client(service).attach(token="token-2221")
    assert (await other.kill()).outcome == "cancelled"
    assert service.calls[-1] == ("Task/Kill", {"socketaccesstoken": "token-2221"})
    assert (await handle.kill()).outcome == "cancelled"


async def test_stop_picks_the_verb() -> None:
    """Cancel first; kill when it is too late for that."""
    for age, verb in ((0, "Task/Cancel"), (10, "Task/Kill")):
        service = stoppable()
        handle = await submitted(service)
        await anyio.sleep(age)
        assert (await handle.stop()).outcome == "cancelled"
        assert service.calls[-1][0] == verb


async def test_stop_returns_how_the_task_really_ended() -> None:
    """A task that ended meanwhile was paid for, and its result is there."""
    service = stoppable()
    handle = await submitted(service)
    await anyio.sleep(61)
    assert (await handle.stop()).outcome == "succeeded"


async def test_stop_tries_again_between_two_states() -> None:
    """A task that is neither queued nor running is stopped as soon as it can be."""
    service = stoppable((0.0, "task_assign"), (10.0, "task_start"), (60.0, "task_postprocess_end"))
    handle = await submitted(service)
    start = anyio.current_time()
    assert (await handle.stop()).outcome == "cancelled"
    assert 10 <= anyio.current_time() - start <= 20


async def test_stop_gives_up_at_its_timeout() -> None:
    """A task that cannot be stopped is a timeout, not a hang."""
    handle = await submitted(stoppable((0.0, "task_assign")))
    with pytest.raises(wiro_async.TaskTimeout, match="after 5 s"):
        await handle.stop(5)
    with pytest.raises(wiro_async.TaskTimeout, match="after 30 s"):
        await handle.stop()


# -- leaving ---------------------------------------------------------------------------------------------


async def test_a_cancelled_wait_leaves_the_task_alone() -> None:
    """Cancellation is about the waiter."""
    service = stoppable()
    handle = await submitted(service)
    with anyio.move_on_after(1):
        await handle
    assert set(service.counts) <= {"Run", "Task/Detail"}


@pytest.mark.parametrize("age", [1, 20])
async def test_a_cancelled_wait_stops_the_task_if_asked(age: float) -> None:
    """The stop is out of the cancellation's reach, and done when the wait has ended."""
    service = stoppable()
    service.latency = 0.5
    handle = await submitted(service)
    with anyio.move_on_after(age) as scope:
        await handle.wait(on_cancel="stop")
    assert scope.cancelled_caught
    assert handle.task is not None
    assert handle.task.outcome == "cancelled"


async def test_a_timed_out_wait_stops_the_task_if_asked() -> None:
    """A timeout is a way of leaving too."""
    handle = await submitted(stoppable())
    with pytest.raises(wiro_async.TaskTimeout):
        await handle.result(20, on_cancel="stop")
    assert handle.task is not None
    assert handle.task.outcome == "cancelled"


async def test_a_stop_that_fails_on_the_way_out_hides_nothing() -> None:
    """The caller gets the timeout that it had, not the stop's own trouble."""
    service = timed_service()
    service.handlers["Task/Cancel"] = no(None, "Requested ip 1.2.3.4 is not allowed.")
    handle = await submitted(service)
    with pytest.raises(wiro_async.TaskTimeout):
        await handle.wait(20, on_cancel="stop")


async def test_a_reply_about_another_task_is_not_believed() -> None:
    """Detail of 2221 answered with 2222 is no news of 2221."""
    service = FakeService(
        Run=ok(taskid="2221"), Task_Detail=ok(tasklist=[task("2222", "task_postprocess_end")])
    )
    handle = await submitted(service)
    with pytest.raises(wiro_async.InvalidResponse, match="2222"):
        await handle.refresh()
    assert handle.status == Status.QUEUE


async def test_an_answer_that_was_another_runs_is_found_out_at_the_first_poll() -> None:
    """A task of other inputs, under the id that our Run was answered with, is not ours."""
    detail = ok(tasklist=[task(status="task_start", parameters={"prompt": "another's"})])
    service = FakeService(Run=ok(taskid="2221"), Task_Detail=detail)
    its_client = client(service)
    handle = await its_client.submit("owner/model", INPUTS)
    with pytest.raises(wiro_async.SubmissionUnknown, match="other inputs"):
        await handle
    theirs = await its_client.submit("owner/model", {"prompt": "another's"})
    assert (await theirs.refresh()).id == "2221", "the task is whose it is"


@pytest.mark.parametrize("nothing", [no(1, "There is no task yet."), ok(tasklist=[])])
async def test_an_accepted_task_may_be_unknown_at_first(nothing: Any) -> None:
    """One of the service's machines does not know it yet: a wait goes on, and a refresh says so."""
    service = FakeService(Run=ok(taskid="2221"), Task_Detail=[*[nothing] * 4, ok(tasklist=[ENDED])])
    handle = await submitted(service)
    with pytest.raises(TaskNotFound) as caught:
        await handle.refresh()
    assert caught.value.passing
    assert caught.value.doubt is None
    assert (await handle.wait()).id == "2221"
    assert service.counts["Task/Detail"] == 5


@pytest.mark.parametrize("nothing", [no(1, "There is no task yet."), ok(tasklist=[])])
async def test_a_task_that_is_denied_for_half_a_minute_is_not_waited_for(nothing: Any) -> None:
    """The id stays in hand; the Run can be searched for, in case that the answer was another's."""
    service = FakeService(Run=ok(taskid="2221"), Task_Detail=nothing)
    handle = await submitted(service)
    begun = anyio.current_time()
    with pytest.raises(TaskNotFound) as caught:
        await handle.wait()
    assert 30 <= anyio.current_time() - begun < 50
    assert not caught.value.passing
    assert isinstance(caught.value.doubt, wiro_async.SubmissionUnknown)
    assert handle.id == "2221"
    service.handlers["Task/Detail"] = ok(tasklist=[ENDED])
    assert (await handle.wait()).id == "2221", "it has turned up at last"


async def test_a_task_that_was_seen_may_be_denied_for_a_moment() -> None:
    """Also one that was attached to; one that was never seen is not looked for."""
    running, nothing = ok(tasklist=[task(status="task_start")]), no(1, "There is no task yet.")
    service = FakeService(Task_Detail=[running, nothing, nothing, running, nothing, ok(tasklist=[ENDED])])
    handle = client(service).attach("2221")
    assert (await handle.wait()).id == "2221"
    unseen = client(FakeService(Task_Detail=nothing)).attach("2221")
    with pytest.raises(TaskNotFound) as caught:
        await unseen.wait()
    assert not caught.value.passing


async def test_a_task_that_was_seen_and_is_denied_for_half_a_minute_is_gone() -> None:
    """There is no Run of ours to search for."""
    running, nothing = ok(tasklist=[task(status="task_start")]), no(1, "There is no task yet.")
    handle = client(FakeService(Task_Detail=[running, nothing])).attach("2221")
    begun = anyio.current_time()
    with pytest.raises(TaskNotFound) as caught:
        await handle.wait()
    assert anyio.current_time() - begun >= 30
    assert (caught.value.passing, caught.value.doubt) == (False, None)


@pytest.mark.parametrize("said", [ok(tasklist=[]), ok(), ok(tasklist=None)])
@pytest.mark.parametrize("verb", ["kill", "cancel"])
async def test_a_stop_that_shows_no_task_is_judged_by_the_next_poll(verb: str, said: Any) -> None:
    """It was obeyed, as far as the reply tells; the task's own state says what became of it."""
    cancelled = task(status="task_cancel")
    service = FakeService(
        Run=ok(taskid="2221"), Task_Kill=said, Task_Cancel=said, Task_Detail=ok(tasklist=[cancelled])
    )
    handle = await submitted(service)
    assert (await getattr(handle, verb)()).outcome == "cancelled"
    assert service.counts["Task/Detail"] == 1


async def test_a_task_that_cannot_be_stopped_yet_is_stopped_later() -> None:
    """The machines that stop tasks do not know it yet."""
    service = stoppable()
    cancel, kill = service.handlers["Task/Cancel"], service.handlers["Task/Kill"]
    missing = [no(0, "task-not-exist")] * 5
    service.handlers["Task/Cancel"] = lambda payload: missing.pop() if missing else cancel(payload)
    service.handlers["Task/Kill"] = lambda payload: missing.pop() if missing else kill(payload)
    handle = await submitted(service)
    with pytest.raises(TaskNotFound) as caught:
        await handle.cancel()
    assert caught.value.passing
    assert (await handle.stop()).outcome == "cancelled"


async def test_a_lost_stop_is_asked_again() -> None:
    """A cancel whose answer is lost is repeated, and the task's own state decides."""
    service = stoppable()
    cancel = service.handlers["Task/Cancel"]
    faults: list[Any] = [httpx.ReadError("cut")] * 4

    def flaky(payload: dict[str, Any]) -> Any:
        return faults.pop() if faults else cancel(payload)

    service.handlers["Task/Cancel"] = flaky
    handle = await submitted(service)
    with pytest.raises(wiro_async.ConnectionFailed):
        await handle.cancel()
    assert handle.status == Status.QUEUE
    assert (await handle.stop()).outcome == "cancelled"


# -- by the WebSocket ------------------------------------------------------------------------------------


class FakeChannel:
    """A channel that is open."""

    def __init__(self) -> None:
        self.registered_at = anyio.current_time()
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeSockets:
    """Opens a channel at once, and keeps who listens."""

    def __init__(self) -> None:
        self.listeners: list[Any] = []
        self.channels: list[FakeChannel] = []

    def room(self) -> bool:
        return True

    async def attach(self, listener: Any) -> FakeChannel:
        await anyio.lowlevel.checkpoint()
        self.listeners.append(listener)
        self.channels.append(FakeChannel())
        return self.channels[-1]


@pytest.fixture
def pushed() -> FakeSockets:
    return FakeSockets()


PUSH = pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})])
"""For feeds, which open on asyncio only."""


async def listening(service: FakeService, sockets: FakeSockets, **options: Any) -> TaskHandle:
    """Return a handle that listens."""
    handle = await submitted(service, **options)
    anything: Any = sockets
    handle._state.context = attrs.evolve(handle._state.context, sockets=anything)
    return handle


def say(status: Status | None = None, *events: wiro_async.TaskProgress | wiro_async.LogLine) -> Message:
    """Return a message of the socket."""
    return Message("task_output" if status is None else status.value, status, "2221", events=events)


@PUSH
async def test_an_announced_end_is_polled_and_found_at_once(pushed: FakeSockets) -> None:
    """Two polls for a task of a minute: one after the registration, one at its end."""
    service = timed_service(**STAMPS)
    handle = await listening(service, pushed)
    start = anyio.current_time()

    async def announce() -> None:
        await anyio.sleep(60.0)
        pushed.listeners[0].heard(say(Status.POSTPROCESS_END))

    async with anyio.create_task_group() as group:
        group.start_soon(announce)
        await handle
    assert anyio.current_time() - start == pytest.approx(60.0, abs=0.01)
    assert service.counts["Task/Detail"] == 2
    assert pushed.channels[0].closed


@PUSH
async def test_events_come_between_the_statuses_that_they_came_between(pushed: FakeSockets) -> None:
    """Statuses as for the handle itself, with what the socket told beside them."""
    service = timed_service()
    handle = await listening(service, pushed)
    half, line = wiro_async.TaskProgress(percentage=50.0), wiro_async.LogLine("Done.", "output")

    async def tell() -> None:
        await anyio.sleep(7.0)
        pushed.listeners[0].heard(say(Status.START))
        pushed.listeners[0].heard(say(None, half))
        await anyio.sleep(1.0)
        pushed.listeners[0].heard(say(Status.OUTPUT, line))
        await anyio.sleep(52.0)
        pushed.listeners[0].heard(say(Status.POSTPROCESS_END))

    async with anyio.create_task_group() as group:
        group.start_soon(tell)
        told = [event async for event in handle.events()]
    events = [str(event.status) if isinstance(event, wiro_async.Transition) else event for event in told]
    assert events == ["task_queue", "task_start", half, "task_output", line, "task_postprocess_end"]
    assert [str(step.status) for step in handle.transitions] == [
        event for event in events if isinstance(event, str)
    ]
    assert [event async for event in handle.events()][2] == half, "for whoever comes later, too"


@PUSH
@pytest.mark.parametrize(("told", "kept"), [(256, 256), (257, 129), (1000, 232)])
async def test_who_is_slow_misses_progress_and_no_status(pushed: FakeSockets, told: int, kept: int) -> None:
    """The newest 256 are kept; of one more, the older half goes."""
    service = timed_service()
    handle = await listening(service, pushed)

    async def tell() -> None:
        await anyio.sleep(7.0)
        for step in range(told):
            pushed.listeners[0].heard(say(None, wiro_async.TaskProgress(step=step)))
        await anyio.sleep(60.0)
        pushed.listeners[0].heard(say(Status.POSTPROCESS_END))

    async with anyio.create_task_group() as group:
        group.start_soon(tell)
        await handle.wait()
    steps = [event.step async for event in handle.events() if isinstance(event, wiro_async.TaskProgress)]
    assert steps == list(range(told - kept, told))


async def test_without_a_socket_events_are_the_transitions() -> None:
    """Nothing else is told by polling."""
    service = timed_service(**STAMPS)
    handle = await submitted(service)
    events = [event async for event in handle.events()]
    assert events == list(handle.transitions)
    assert len(events) > 3


@PUSH
async def test_an_end_that_detail_does_not_know_yet_is_looked_for(pushed: FakeSockets) -> None:
    """Every second and a half, not a minute later."""
    service = timed_service()
    handle = await listening(service, pushed)
    start = anyio.current_time()

    async def announce() -> None:
        await anyio.sleep(50.0)
        pushed.listeners[0].heard(say(Status.POSTPROCESS_END))

    async with anyio.create_task_group() as group:
        group.start_soon(announce)
        await handle.wait()
    assert anyio.current_time() - start < 62.0


@PUSH
async def test_an_end_that_is_told_again_and_again_floods_nobody(pushed: FakeSockets) -> None:
    """A peer that lies makes no more polls than one that was wrong once."""
    service = timed_service()
    handle = await listening(service, pushed)

    async def announce() -> None:
        await anyio.sleep(10.0)
        for _ in range(2000):
            pushed.listeners[0].heard(say(Status.POSTPROCESS_END))
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(announce)
        await handle.wait()
    assert service.counts["Task/Detail"] < 45


@PUSH
async def test_who_leaves_gives_the_socket_up(pushed: FakeSockets) -> None:
    """By a timeout or a cancellation; the next one opens another."""
    handle = await listening(timed_service(), pushed)
    with pytest.raises(wiro_async.TaskTimeout):
        await handle.wait(1.0)
    with anyio.move_on_after(1.0):
        await handle.wait()
    assert [channel.closed for channel in pushed.channels] == [True, True]
    await handle.wait()
    assert len(pushed.channels) == 3


@PUSH
async def test_whoever_stays_keeps_the_socket(pushed: FakeSockets) -> None:
    """Two wait, and one leaves."""
    handle = await listening(timed_service(), pushed)

    async def leave_early() -> None:
        with anyio.move_on_after(1.0):
            await handle.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(leave_early)
        group.start_soon(handle.wait)
    assert len(pushed.channels) == 1


@PUSH
@pytest.mark.parametrize("watch", ["poll", "callback"])
async def test_who_does_not_want_a_socket_gets_none(pushed: FakeSockets, watch: Any) -> None:
    """``watch=`` decides for one task."""
    handle = await listening(timed_service(), pushed)
    handle._state.watch = watch
    await handle.wait()
    assert pushed.channels == []


# -- by a callback ---------------------------------------------------------------------------------------

PUBLIC = "https://example.org/wiro"


async def test_a_callback_brings_the_look_forward() -> None:
    """One poll, at the end, long before the slow poll's first."""
    receiver = wiro_async.CallbackReceiver(PUBLIC)
    timed = TimedTask((0.0, "task_queue"), (30.0, "task_postprocess_end"), pexit="0")
    service = FakeService(Run=timed.run, Task_Detail=timed.detail)
    url = receiver.url_for("job-1")
    handle = await client(service).submit("owner/model", INPUTS, callback_url=url, watch="callback")
    assert service.calls[0][1]["callbackUrl"].startswith(url)
    start = anyio.current_time()

    async def call() -> None:
        await anyio.sleep(30.5)
        await post(receiver, url)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await handle.wait()
    assert anyio.current_time() - start == pytest.approx(30.5, abs=0.01)
    assert service.counts["Task/Detail"] == 1
    await post(receiver, url)
    assert (receiver.counts.received, receiver.counts.woken) == (2, 1)


async def test_a_callback_that_comes_too_early_leaves_the_polling_to_the_schedule() -> None:
    """It was not about the end, and nobody knows whether another one comes."""
    receiver = wiro_async.CallbackReceiver(PUBLIC)
    service = timed_service()
    url = receiver.url_for("job-1")
    handle = await client(service).submit("owner/model", INPUTS, callback_url=url, watch="callback")
    await post(receiver, url)
    start = anyio.current_time()
    await handle.wait()
    assert anyio.current_time() - start < 75.0
    handle._state.wake()
    assert service.counts["Task/Detail"] > 3


async def test_a_callback_that_never_comes_is_made_up_for() -> None:
    """The slow poll finds the end."""
    receiver = wiro_async.CallbackReceiver(PUBLIC)
    service = timed_service()
    handle = await client(service).submit(
        "owner/model", INPUTS, callback_url=receiver.url_for(), watch="callback"
    )
    start = anyio.current_time()
    await handle.wait()
    assert anyio.current_time() - start <= 121.0
    assert service.counts["Task/Detail"] <= 3


async def test_a_callback_for_a_handle_that_is_gone_does_no_harm() -> None:
    """Nobody waits any more: the receiver is told, and a callback that was on its way finds nobody."""
    wakes: list[Any] = []

    class Receiver:
        bound = 0

        def bind(self, _job: str, wake: Any) -> Any:
            wakes.append(wake)
            self.bound += 1
            return self.unbind

        def unbind(self) -> None:
            self.bound -= 1

    receiver: Any = Receiver()
    url = wiro_async.CallbackURL("https://example.org/x", receiver, "job-1")
    handle = await client(timed_service()).submit("owner/model", INPUTS, callback_url=url)
    assert receiver.bound == 1
    del handle
    gc.collect()
    assert receiver.bound == 0
    wakes[0]()


async def post(receiver: wiro_async.CallbackReceiver, url: str) -> None:
    """Deliver a callback."""

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_message: Any) -> None:
        return

    path = url.removeprefix("https://example.org").partition("?")[0]
    scope: Any = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": []}
    await receiver(scope, receive, send)


# -- the service's copies --------------------------------------------------------------------------------


async def test_the_service_s_copies_can_be_deleted() -> None:
    """By the token, which is looked up where it is not known."""
    detail = ok(tasklist=[task(status="task_postprocess_end", pexit="0")])
    service = FakeService(Task_Detail=detail, Task_InputOutputDelete=ok())
    handle = client(service).attach("2221")
    await handle.delete_files()
    await handle.delete_files()
    assert [name for name, _ in service.calls] == ["Task/Detail"] + ["Task/InputOutputDelete"] * 2
    assert service.calls[-1][1] == {"tasktoken": "token-2221"}


# -- what the client learns ------------------------------------------------------------------------------


async def test_the_client_learns_how_long_a_model_takes() -> None:
    """After a few tasks it polls when the end is due, and less often before."""
    its_client = client(service := FakeService())
    counts = []
    for number in range(12):
        timed = TimedTask(*LIFE, task_id=str(2221 + number), **STAMPS, pexit="0")
        service.handlers |= {"Run": timed.run, "Task/Detail": timed.detail}
        before = service.counts["Task/Detail"]
        await (await its_client.submit("owner/model", INPUTS)).wait()
        counts.append(service.counts["Task/Detail"] - before)
    assert counts[-1] < counts[0]
    told = its_client.statistics()
    assert (told.finished, told.polls, told.waiting) == (12, sum(counts), 0)
    assert told.polls_per_task == pytest.approx(sum(counts) / 12)
    assert told.mean_lateness is not None


class RecordingSchedule(Schedule):
    """Keeps what it was told of tasks."""

    __slots__ = ("learned", "timings")

    def __init__(self, polling: wiro_async.Polling) -> None:
        super().__init__(polling)
        self.timings: list[TaskTiming] = []
        self.learned: list[tuple[float | None, float | None]] = []

    def learn(
        self, model: str, *, queued: float | None, ran: float | None, timing: TaskTiming | None = None
    ) -> None:
        """Record how long a task has queued and run."""
        self.learned.append((queued, ran))

    def next_poll(self, timing: TaskTiming, now: float) -> float:
        """Record what is known of the task."""
        self.timings.append(timing)
        return super().next_poll(timing, now)


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_task_that_was_attached_is_as_old_as_the_service_says(is_known: bool) -> None:
    """One of long ago is not polled as often as a new one."""
    now = time.time()
    old = task(status="task_start", createtime=str(int(now - 600)), starttime=str(int(now - 500)))
    handle = client(FakeService(Task_Detail=ok(tasklist=[old]))).attach("2221")
    schedule = RecordingSchedule(CALM)
    handle._state.context = attrs.evolve(handle._state.context, schedule=schedule)
    if is_known:
        await handle.refresh()
    with pytest.raises(wiro_async.TaskTimeout):
        await handle.wait(20.0)
    timing = schedule.timings[-1]
    assert anyio.current_time() - timing.since == pytest.approx(620, abs=3)
    assert timing.started == pytest.approx(timing.since + 100, abs=2)


async def test_waiting_tasks_are_counted() -> None:
    """Tasks, not those who wait for them."""
    handle = await submitted(timed_service())
    waiting = handle._state.context.waiting
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(handle.wait)
        await anyio.wait_all_tasks_blocked()
        assert len(waiting) == 1
    assert not waiting


async def test_a_task_that_nobody_waits_for_is_not_scheduled() -> None:
    """It has no poll, and whatever is asked of it is answered without one."""
    service = timed_service()
    handle = await submitted(service)
    schedule = RecordingSchedule(CALM)
    handle._state.context = attrs.evolve(handle._state.context, schedule=schedule)
    await anyio.sleep(61.0)
    assert (await handle.refresh()).outcome == "succeeded"
    assert (await handle).task is await handle.stop()
    assert schedule.timings == []
    assert service.counts["Task/Detail"] == 1


@pytest.mark.parametrize(("late", "first"), [(0.0, 2.0), (1.5, 2.0), (30.0, 30.0)])
async def test_the_first_poll_is_due_as_if_the_wait_had_begun_at_once(late: float, first: float) -> None:
    """However long after the submit somebody begins to wait."""
    service = timed_service()
    handle = await submitted(service)
    start = anyio.current_time()
    await anyio.sleep(late)
    if first > late:
        with anyio.move_on_after(first - late - 0.01):
            await handle
        assert service.counts["Task/Detail"] == 0
    with anyio.move_on_after(start + first + 0.01 - anyio.current_time()):
        await handle
    assert service.counts["Task/Detail"] == 1


async def test_an_end_that_refresh_finds_counts_from_the_submit_on() -> None:
    """It may have come at any time since, for nobody has polled."""
    its_client = client(timed_service())
    handle = await its_client.submit("owner/model", INPUTS)
    await anyio.sleep(100.0)
    await handle.refresh()
    told = its_client.statistics()
    assert (told.finished, told.polls) == (1, 0)
    assert told.mean_lateness == pytest.approx(100.0, abs=0.1)


async def test_a_callback_that_comes_before_anybody_waits_makes_the_first_poll_due() -> None:
    """At once, when somebody does."""
    receiver = wiro_async.CallbackReceiver(PUBLIC)
    service = timed_service()
    url = receiver.url_for("job-1")
    handle = await client(service).submit("owner/model", INPUTS, callback_url=url)
    told: str = service.calls[0][1]["callbackUrl"]
    assert told.startswith(f"{url}?wiro_async=")
    await post(receiver, told)
    with anyio.move_on_after(0.1):
        await handle.wait()
    assert service.counts["Task/Detail"] == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_thousands_of_waits_may_begin_at_once() -> None:
    """They begin a few in each turn of the event loop, so that others have theirs meanwhile."""
    service = timed_service()
    wiro = client(service)
    waiting = wiro.attach("0")._state.context.waiting
    begun: list[int] = []
    async with anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(wiro.attach(str(number)).wait)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
            begun.append(sum(poll.since is not None for poll in waiting))
        group.cancel_scope.cancel()
    assert all(later - earlier <= 50 for earlier, later in pairwise([0, *begun]))
    assert begun[-1] >= 8 * 50
