"""Work that is finished before a cancellation goes on, whatever kind of cancellation it is."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from wiro_async._aio import cancel_softly, finish, run_in_thread

only_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})])


class Work:
    """Something to finish, that ends when it is told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.began: anyio.Event = anyio.Event()
        self.may_end: anyio.Event = anyio.Event()
        self.ended: bool = False
        self.error: BaseException | None = error
        self.late: list[str] = []

    async def __call__(self) -> str:
        self.began.set()
        await self.may_end.wait()
        self.ended = True
        if self.error is not None:
            raise self.error
        return "result"

    async def finish(self) -> str:
        return await finish(self, self.late.append)


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_the_result_is_returned() -> None:
    """Without a cancellation the caller gets the result, and nothing is late."""
    work = Work()
    work.may_end.set()
    assert await work.finish() == "result"
    assert work.late == []


async def test_the_error_is_raised() -> None:
    """What the work raises reaches the caller as it is."""
    error = ValueError("no")
    work = Work(error)
    work.may_end.set()
    with pytest.raises(ValueError, match="no") as caught:
        await work.finish()
    assert caught.value is error
    assert work.late == []


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_scope_waits_for_the_work(times: int) -> None:
    """Under an anyio scope the work ends, the result goes to `late`, and only then the scope is left."""
    work = Work()
    scopes = [anyio.CancelScope() for _ in range(times)]
    reached = False

    async def caller() -> None:
        nonlocal reached
        if times == 1:
            with scopes[0]:
                await work.finish()
                reached = True
        else:
            with scopes[0], scopes[1], scopes[2]:
                await work.finish()
                reached = True
        assert scopes[0].cancelled_caught

    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await work.began.wait()
        for scope in reversed(scopes):
            scope.cancel()
            await settle()
        assert not work.ended
        work.may_end.set()
    assert work.ended
    assert work.late == ["result"]
    assert not reached


async def test_a_scope_that_is_cancelled_already() -> None:
    """Work that began under a cancelled scope is finished too."""
    work = Work()
    work.may_end.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await work.finish()
    assert scope.cancelled_caught
    assert work.late == ["result"]


async def test_a_deadline_waits_for_the_work() -> None:
    """A deadline is a cancellation like any other."""
    work = Work()

    async def allow() -> None:
        await work.began.wait()
        await settle()
        work.may_end.set()

    async with anyio.create_task_group() as group:
        group.start_soon(allow)
        with anyio.move_on_after(0) as scope:
            await work.finish()
    assert scope.cancelled_caught
    assert work.late == ["result"]


async def test_work_that_fails_for_a_cancelled_caller() -> None:
    """When the caller is cancelled and the work fails, nothing is late, and nobody complains later."""
    work = Work(ValueError("no"))
    went_on = False

    async def caller() -> None:
        nonlocal went_on
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            # trio hands the error on, and the cancellation with the next await; asyncio the cancellation.
            with suppress(ValueError):
                await work.finish()
            await anyio.lowlevel.checkpoint()
            went_on = True

    scopes: list[anyio.CancelScope] = []
    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await work.began.wait()
        scopes[0].cancel()
        await settle()
        work.may_end.set()
    assert work.ended
    assert work.late == []
    assert not went_on


@only_asyncio
@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_native_cancellation_waits_for_the_work(times: int) -> None:
    """However often ``task.cancel()`` is called, the work ends, and the cancellation goes on afterwards."""
    work = Work()
    task = asyncio.get_running_loop().create_task(work.finish())
    await work.began.wait()
    for _ in range(times):
        task.cancel()
        await settle()
        assert not task.done()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended
    assert work.late == ["result"]
    assert task.cancelled()
    assert task.cancelling() == times


@only_asyncio
@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_native_cancellation_at_the_moment_of_the_end(steps: int) -> None:
    """A cancellation in the same step as the end of the work loses no result."""
    work = Work()
    task = asyncio.get_running_loop().create_task(work.finish())
    await work.began.wait()
    work.may_end.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.late == ["result"]


@only_asyncio
async def test_a_native_timeout_waits_for_the_work() -> None:
    """``asyncio.timeout`` raises its TimeoutError after the work has ended."""
    work = Work()
    asyncio.get_running_loop().call_later(0.02, work.may_end.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await work.finish()
    assert work.ended
    assert work.late == ["result"]


@only_asyncio
async def test_a_native_and_an_anyio_cancellation_together() -> None:
    """Both kinds at once change nothing: the work ends, then the caller is cancelled."""
    work = Work()
    scope = anyio.CancelScope()

    async def caller() -> None:
        with scope:
            await work.finish()

    task = asyncio.get_running_loop().create_task(caller())
    await work.began.wait()
    scope.cancel()
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    work.may_end.set()
    await asyncio.wait({task})
    assert work.ended
    assert work.late == ["result"]


@only_asyncio
async def test_work_that_fails_for_a_natively_cancelled_caller() -> None:
    """The caller is cancelled all the same, nothing is late, and asyncio has nothing to complain of."""
    work = Work(ValueError("no"))
    task = asyncio.get_running_loop().create_task(work.finish())
    await work.began.wait()
    task.cancel()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended
    assert work.late == []


@only_asyncio
@pytest.mark.parametrize("cancelled", [False, True])
async def test_work_that_is_itself_cancelled(cancelled: bool) -> None:
    """Work that ends in a cancellation of its own looks like one to the caller; nothing is late."""
    work = Work(asyncio.CancelledError())
    task = asyncio.get_running_loop().create_task(work.finish())
    await work.began.wait()
    if cancelled:
        task.cancel()
        await settle()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.late == []


@only_asyncio
@pytest.mark.parametrize("fails", ["the work", "undoing it"])
async def test_what_fails_for_a_cancelled_caller_is_not_logged(fails: str) -> None:
    """Else asyncio logs the error of a task that nobody asks, with frames that may hold a signed request."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: complaints.append(facts))
    work = Work(ValueError("no") if fails == "the work" else None)

    async def undo(result: str) -> None:
        raise LookupError(result)

    task = asyncio.get_running_loop().create_task(cancel_softly(work, undo, lambda: False))
    await work.began.wait()
    task.cancel()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended
    # What keeps the tasks: these, and the event loop until its next turn.
    del task, work
    await settle()
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("native", [False, True])
async def test_waiting_for_the_work_is_no_busy_loop(native: bool) -> None:
    """A cancelled caller sleeps while the work goes on: the loop turns a few times, not thousands."""
    loop: Any = asyncio.get_running_loop()
    work = Work()
    turns = 0
    turn = loop._run_once

    def counted() -> None:
        nonlocal turns
        turns += 1
        turn()

    async def caller() -> None:
        if native:
            async with asyncio.timeout(0):
                await work.finish()
        else:
            with anyio.move_on_after(0):
                await work.finish()

    loop._run_once = counted
    loop.call_later(0.1, work.may_end.set)
    try:
        await caller()
    except TimeoutError:
        assert native
    finally:
        del loop._run_once
    assert work.late == ["result"]
    assert turns < 50


# -- threads ---------------------------------------------------------------------------------------------


async def test_a_blocking_function_runs_in_a_thread() -> None:
    """With its arguments; its result and its error come back."""
    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 1, 0)


@only_asyncio
async def test_a_thread_is_not_left_alone_by_a_native_cancellation() -> None:
    """The cancellation waits for it, and what it returned is not lost."""
    began, may_end = threading.Event(), threading.Event()
    late: list[str] = []

    def work() -> str:
        began.set()
        assert may_end.wait(10)
        return "result"

    task = asyncio.get_running_loop().create_task(run_in_thread(work, late=late.append))
    await anyio.to_thread.run_sync(began.wait)
    task.cancel()
    await settle()
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert late == ["result"]
