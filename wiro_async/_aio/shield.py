"""Work that must not be cut in half: it ends, within its own deadline, before a cancellation goes on.

anyio's shield holds off anyio's and trio's cancellation, but not a native ``task.cancel()`` or
``asyncio.timeout``; those are caught here and delivered afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel

__all__ = ["finish", "on_asyncio"]

T = TypeVar("T")


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
