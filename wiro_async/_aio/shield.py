"""Work that must not be cut in half: a cancellation of its caller waits until the work has ended.

anyio's shield holds off the cancellation of anyio and trio, but not a native ``task.cancel()`` or
``asyncio.timeout``; those are caught here and delivered afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

__all__ = ["finish", "on_asyncio", "run_in_thread"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def on_asyncio() -> bool:
    """Tell whether asyncio (or uvloop) runs this, and not trio."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


async def finish(work: Callable[[], Coroutine[Any, Any, T]], late: Callable[[T], object]) -> T:
    """Run *work* to its end even if the caller is cancelled meanwhile.

    Args:
        work: What to do. It must have a deadline of its own, because a cancellation waits for it.
        late: Called with the result when the caller was cancelled and so will not get it.

    Returns:
        What *work* returned.
    """
    return await (_finish_asyncio(work, late) if on_asyncio() else _finish_trio(work, late))


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


async def _finish_trio(work: Callable[[], Coroutine[Any, Any, T]], late: Callable[[T], object]) -> T:
    with anyio.CancelScope(shield=True):
        result = await work()
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        late(result)
        raise
    return result


async def _finish_asyncio(work: Callable[[], Coroutine[Any, Any, T]], late: Callable[[T], object]) -> T:
    # A task of its own: a native cancel of the caller's task does not reach into it.
    task = asyncio.get_running_loop().create_task(work())
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        # The shield holds off anyio, which would cancel again in each turn of the event loop; native
        # cancellations come one by one.
        with anyio.CancelScope(shield=True):
            while not task.done():
                try:
                    await asyncio.wait({task})
                except asyncio.CancelledError:
                    continue
        if not task.cancelled() and task.exception() is None:
            late(task.result())
        raise
    return task.result()
