"""Ends that come in pieces, tasks that stand in task_error, and the last poll of a wait."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import anyio
import pytest

import wiro_async
from tests.fakes import FakeService, client, no, ok, task
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import Limits, Polling, Status, TaskHandle
from wiro_async._protocol.events import read_message
from wiro_async._protocol.records import missing_of, parse_task

CALM = Polling(jitter=0.0)
FILE = {"name": "0.mp4", "url": "https://cdn1.wiro.ai/x/0.mp4"}
VIDEO = {"modelslugowner": "o", "modelslugproject": "image-to-video-1"}


async def submitted(service: FakeService, model: str = "owner/model", **options: Any) -> TaskHandle:
    return await client(service, **{"polling": CALM, **options}).submit(model, {"prompt": "waves"})


def told(*records: tuple[float, dict[str, Any]]) -> FakeService:
    """Return a service whose task is, from so many seconds after its Run on, as the records say."""
    began: list[float] = []

    def run(_: dict[str, Any]) -> dict[str, Any]:
        began.append(anyio.current_time())
        return ok(taskid="2221", socketaccesstoken="token-2221")

    def detail(_: dict[str, Any]) -> dict[str, Any]:
        began.extend([anyio.current_time()] * (not began))
        age = anyio.current_time() - began[0]
        return ok(tasklist=[task(**[fields for since, fields in records if since <= age][-1])])

    return FakeService(Run=run, Task_Detail=detail)


class Place:
    """A place among the account's tasks."""

    given_back = False

    def release(self, cost: Decimal | None = None) -> None:
        """Note it."""
        del cost
        self.given_back = True


def ended(**fields: Any) -> dict[str, Any]:
    return {"status": "task_postprocess_end", **fields}


# -- an end that comes in pieces --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        ({"pexit": "0", "outputs": [FILE]}, "succeeded"),
        ({"pexit": "1"}, "failed"),
        ({"output": [FILE]}, "succeeded"),
    ],
)
async def test_an_end_without_exit_code_and_outputs_is_looked_at_again(last: Any, outcome: str) -> None:
    """A few polls later it is whole, under either name of the outputs; no failure was seen meanwhile."""
    service = told((0, {"status": "task_start"}), (60, ended()), (80, ended(**last)))
    handle = await submitted(service)
    start = anyio.current_time()
    found = await handle.wait()
    assert found.outcome == outcome
    assert 80 <= anyio.current_time() - start <= 95
    assert handle.done
    late = [name for name, _ in service.calls]
    assert late.count("Task/Detail") < 25


@pytest.mark.parametrize("limits", [{}, {"settle_timeout": 6.0}])
async def test_an_end_that_stays_unclear_says_so_with_its_handle(limits: dict[str, float]) -> None:
    """Not a failure, and not unbilled: nobody knows. A later poll may tell."""
    service = told((0, ended()), (100, ended(pexit="0", outputs=[FILE], totalcost="0.35")))
    handle = await submitted(service, limits=Limits(**limits))  # type: ignore[arg-type]
    start = anyio.current_time()
    with pytest.raises(
        wiro_async.TaskUnclear, match=r"neither an exit code nor outputs.*may be billed"
    ) as caught:
        await handle
    error = caught.value
    assert isinstance(error, wiro_async.InvalidResponse)
    assert (error.handle, error.task_id, error.task) == (handle, "2221", handle.task)
    assert pickle.loads(pickle.dumps(error)).handle is None
    seconds = limits.get("settle_timeout", 30.0)
    assert seconds <= anyio.current_time() - start <= seconds + 12
    assert not handle.done
    assert 5 <= service.counts["Task/Detail"] <= 16
    # Whoever waits again is told after one poll, until there is more to tell.
    with pytest.raises(wiro_async.TaskUnclear):
        await handle.wait()
    await anyio.sleep(100)
    await handle.refresh()
    assert (await handle).cost == Decimal("0.35")


async def test_a_success_without_the_files_that_its_model_makes_is_unclear() -> None:
    """By its slug or by its category; a language model, or one that nobody knows, may have none."""
    makers: dict[str, dict[str, Any]] = {
        "o/image-to-video-1": VIDEO,
        "o/m": {"categories": '["tool", "text-to-image"]'},
    }
    for model, fields in makers.items():
        handle = await submitted(told((0, ended(pexit="0", **fields))), model)
        with pytest.raises(wiro_async.TaskUnclear, match="no outputs, though it succeeded"):
            await handle
    for categories in ([], ["tool", "llm"], ["image-to-text"]):
        start = anyio.current_time()
        service = told((0, ended(pexit="0", categories=categories)))
        assert (await (await submitted(service))).outputs == ()
        assert anyio.current_time() - start < 5


@pytest.mark.parametrize("kind", ["image-to-video", "text-to-speech", "text-to-song-1.5", "image-to-3d"])
def test_models_that_make_files_are_told_by_their_names(kind: str) -> None:
    """A task's own slug wins over what the caller knows; outputs end the question."""
    bare = parse_task(ended(pexit="0"))
    assert missing_of(bare, f"owner/{kind}")
    assert not missing_of(
        parse_task(ended(pexit="0", modelslugowner="o", modelslugproject="llm")), f"o/{kind}"
    )
    assert not missing_of(parse_task(ended(pexit="0", outputs=[FILE])), f"owner/{kind}")
    assert not missing_of(parse_task(ended(pexit="1")), f"owner/{kind}")
    assert not missing_of(parse_task({"status": "task_end"}), f"owner/{kind}")


async def test_a_timeout_may_come_before_an_end_is_clear() -> None:
    """It says what is missing."""
    handle = await submitted(told((0, ended())))
    with pytest.raises(wiro_async.TaskTimeout, match="has ended, and its record has neither"):
        await handle.wait(4)


async def test_an_iteration_ends_with_the_end_be_it_clear_or_not() -> None:
    """It tells statuses, and that one is known."""
    handle = await submitted(told((0, ended())))
    assert [step.status async for step in handle][-1] == Status.POSTPROCESS_END
    assert not handle.done
    assert (await handle.stop()).outcome is None


async def test_outputs_that_are_deleted_later_change_nothing() -> None:
    """The end was clear once."""
    whole, bare = ended(pexit="0", outputs=[FILE], **VIDEO), ended(pexit="0", **VIDEO)
    handle = await submitted(told((0, whole), (50, bare)), "o/image-to-video-1")
    await handle
    await anyio.sleep(60)
    assert (await handle.refresh()).outputs == ()
    assert (await handle.wait()).outcome == "succeeded"


# -- the charge --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        (ended(pexit="0", totalcost="0"), None),
        (ended(pexit="0", totalcost="0.000000"), None),
        (ended(pexit="0", totalcost=""), None),
        (ended(pexit="0", totalcost=None), None),
        (ended(pexit="0"), None),
        (ended(pexit="0", totalcost="0.35"), "0.35"),
        (ended(pexit="1", totalcost="0"), "0"),
        (ended(pexit="1", totalcost="0.2"), "0.2"),
        (ended(pexit="1"), None),
        (ended(totalcost="0"), None),
        ({"status": "task_cancel", "totalcost": "0"}, "0"),
        ({"status": "task_cancel", "totalcost": "0", "starttime": "1734513807"}, None),
        ({"status": "task_cancel", "totalcost": "0.1", "starttime": "1734513807"}, "0.1"),
        ({"status": "task_start", "totalcost": "0"}, None),
    ],
)
def test_nothing_on_a_success_is_not_told_yet(fields: dict[str, Any], cost: str | None) -> None:
    """Nor on a task that was stopped while it ran; a failure with 0 is free."""
    assert parse_task(fields).cost == (None if cost is None else Decimal(cost))


async def test_a_late_charge_is_read_by_a_refresh() -> None:
    """The result does not wait for it."""
    service = told(
        (0, ended(pexit="0", totalcost="0", outputs=[FILE])), (90, ended(pexit="0", totalcost="0.35"))
    )
    handle = await submitted(service)
    assert (await handle).cost is None
    await anyio.sleep(100)
    assert (await handle.refresh()).cost == Decimal("0.35")
    assert (await handle).cost == Decimal("0.35")


# -- task_error ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["task_error", "task_error_full"])
async def test_a_task_that_stands_in_task_error_is_told_after_a_grace(status: str) -> None:
    """With the reason and the handle; its slot is free, and whoever waits again has the grace again."""
    service = told((0, {"status": "task_start"}), (30, {"status": status, "debugerror": "no worker\nleft\n"}))
    async with client(service, polling=CALM) as own:
        handle = await own.submit("owner/model", {})
        slot = handle._state.slot = Place()
        start = anyio.current_time()
        with pytest.raises(
            wiro_async.TaskStalled, match=rf"stands in {status} \(left\), unchanged"
        ) as caught:
            await handle
        assert 150 <= anyio.current_time() - start <= 165
        assert isinstance(caught.value, wiro_async.TaskTimeout)
        assert (caught.value.handle, caught.value.debug_error) == (handle, "no worker\nleft\n")
        assert slot.given_back
        start = anyio.current_time()
        with pytest.raises(wiro_async.TaskStalled):
            await handle.wait()
        assert 115 <= anyio.current_time() - start <= 130


async def test_a_record_that_changes_starts_the_grace_anew() -> None:
    """Something happens to that task; its run time alone is no change."""
    error = {"status": "task_error", "debugerror": "first"}
    service = told(
        (0, error),
        (60, {**error, "elapsedseconds": "60"}),
        (100, {**error, "debugerror": "second"}),
        (180, {"status": "task_queue"}),
        (190, {"status": "task_error", "debugerror": "third"}),
    )
    handle = await submitted(service)
    start = anyio.current_time()
    with pytest.raises(wiro_async.TaskStalled, match="third"):
        await handle
    assert 310 <= anyio.current_time() - start <= 325


@pytest.mark.parametrize(
    "after", [ended(pexit="0", outputs=[FILE]), ended(pexit="1"), {"status": "task_cancel"}]
)
async def test_a_task_that_leaves_task_error_goes_on(after: dict[str, Any]) -> None:
    """Queued again, failed, or cancelled: all readings are possible."""
    service = told((0, {"status": "task_error"}), (100, {"status": "task_queue"}), (150, after))
    assert (await (await submitted(service)).wait()).status == after["status"]


async def test_an_iteration_tells_of_the_standstill_too() -> None:
    """Else it would wait for an hour."""
    handle = await submitted(told((0, {"status": "task_error"})), limits=Limits(error_grace=20.0))
    with pytest.raises(wiro_async.TaskStalled, match=r"task_error \(no reason given\)"):
        async for _ in handle:
            pass


async def test_a_task_left_in_task_error_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is cancelled finds it there."""
    service = told((0, {"status": "task_error", "debugerror": "no worker"}))
    async with client(service, polling=CALM) as own:
        with anyio.move_on_after(30):
            await own.run("owner/model", {})
    assert "it is task_error (no worker)" in caplog.text


async def test_an_error_line_of_the_socket_brings_a_poll_forward() -> None:
    """Once, and then ever more rarely: some tasks write hundreds of lines."""
    service = told((0, {"status": "task_start"}))
    handle = await submitted(service)
    line = read_message('{"type":"task_error","id":"2221","message":"x","result":true}')
    assert line is not None
    state = handle._state
    async with anyio.create_task_group() as group:
        group.start_soon(handle.wait)
        await anyio.sleep(100.5)
        before, heard = service.counts["Task/Detail"], []
        for _ in range(400):
            state.hear(line, anyio.current_time())
            await anyio.sleep(0.1)
            heard.append(service.counts["Task/Detail"] - before)
        assert heard[0] == 1, "at once"
        # After 2, 4, 8, 16 … seconds; five more are the schedule's own.
        assert heard[-1] <= 5 + 6
        group.cancel_scope.cancel()


# -- the last poll ------------------------------------------------------------------------------------------


async def test_a_wait_makes_one_last_poll() -> None:
    """What ended after the poll before is a result, and no timeout."""
    service = told((0, {"status": "task_start"}), (19, ended(pexit="0", outputs=[FILE])))
    rarely = Polling(min_interval=15.0, max_interval=15.0, jitter=0.0)
    handle = await submitted(service, polling=rarely)
    assert (await handle.wait(20)).outcome == "succeeded"


async def test_a_wait_of_no_time_is_one_poll() -> None:
    """``wait(0)`` asks whether the task has ended."""
    handle = await submitted(told((0, ended(pexit="0", outputs=[FILE]))))
    assert (await handle.wait(0)).outcome == "succeeded"


async def test_several_waits_that_time_out_share_the_last_poll() -> None:
    """The second has just been told."""
    service = told((0, {"status": "task_start"}))
    handle = await submitted(service)
    before = service.counts["Task/Detail"]

    async def wait() -> None:
        with pytest.raises(wiro_async.TaskTimeout):
            await handle.wait(1)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
    assert service.counts["Task/Detail"] - before == 3
    handle = await submitted(service)
    state = handle._state
    await state.poll_once()
    count = service.counts["Task/Detail"]
    await state._poll_last(anyio.current_time() - 1)
    assert service.counts["Task/Detail"] == count


async def test_the_last_poll_has_an_end_and_may_fail() -> None:
    """A service that does not answer any more costs five seconds; one that refuses for good is told."""
    service = told((0, {"status": "task_start"}))
    handle = await submitted(service)
    await handle.refresh()
    service.delays["Task/Detail"] = 100.0
    await anyio.sleep(1)
    start = anyio.current_time()
    with pytest.raises(wiro_async.TaskTimeout):
        await handle.wait(0)
    assert 4.9 <= anyio.current_time() - start <= 5.1
    service.delays.clear()
    service.handlers["Task/Detail"] = no(0, "fault")
    with pytest.raises(wiro_async.TaskTimeout):
        await handle.wait(0)
    service.handlers["Task/Detail"] = no(1, "task-not-exist")
    with pytest.raises(wiro_async.TaskNotFound):
        await client(service, polling=CALM).attach("2221").wait(0)


async def test_a_stop_makes_one_last_poll() -> None:
    """An end that came meanwhile is no timeout."""
    service = told((0, {"status": "task_start"}), (3, {"status": "task_cancel"}))
    service.handlers["Task/Cancel"] = service.handlers["Task/Kill"] = no(
        1, "Task is not in a cancellable state."
    )
    handle = await submitted(service)
    await handle.refresh()
    service.delays["Task/Cancel"] = service.delays["Task/Detail"] = 4.5
    assert (await handle.stop(4.9)).outcome == "cancelled"
