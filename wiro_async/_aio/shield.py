"""Work that must not be cut in half: it ends, within its own deadline, before a cancellation goes on.

anyio's shield holds off anyio's and trio's cancellation, but not a native ``task.cancel()`` or
``asyncio.timeout``; those are caught here and delivered afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

__all__ = ["finish", "on_asyncio", "run_in_thread"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def on_asyncio() -> bool:
    """Tell whether asyncio (or uvloop) runs this, not trio."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


async def finish(work: Callable[[], Awaitable[T]], late: Callable[[T], object]) -> T:
    """Run *work* to its end even if the caller is cancelled meanwhile.

    Args:
        work: What to do. It must have a deadline of its own: the cancellation waits for it.
        late: Called with the result when the caller was cancelled and so will not get it.

    Returns:
        What *work* returned.
    """
    if on_asyncio():
        return await _finish_asyncio(work, late)
    return await _finish_shielded(work, late)


async def run_in_thread(
    function: Callable[[*Ts], T], *args: *Ts, late: Callable[[T], object] = lambda _: None
) -> T:
    """Run a blocking function in a worker thread, to its end even if the caller is cancelled meanwhile.

    A native cancellation would leave the thread at work, while its caller goes on to close the file that the
    thread reads or writes.

    Args:
        function: What to run. The cancellation waits for it.
        *args: Its arguments.
        late: Called with the result when the caller was cancelled and so will not get it.

    Returns:
        What *function* returned.
    """
    return await finish(lambda: anyio.to_thread.run_sync(function, *args), late)


async def _finish_shielded(work: Callable[[], Awaitable[T]], late: Callable[[T], object]) -> T:
    results: list[T] = []
    with anyio.CancelScope(shield=True):
        results.append(await work())
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        late(results[0])
        raise
    return results[0]


async def _finish_asyncio(work: Callable[[], Awaitable[T]], late: Callable[[T], object]) -> T:
    async def run() -> T:
        return await work()

    # A task of its own: a native cancel of the caller's task does not reach into it.
    task = asyncio.get_running_loop().create_task(run())
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await _drain(task)
        if not task.cancelled() and task.exception() is None:
            late(task.result())
        raise
    return task.result()


async def _drain(task: asyncio.Task[T]) -> None:
    """Wait for *task* through any number of further cancellations."""
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue
