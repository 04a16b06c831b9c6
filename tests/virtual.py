"""A clock that jumps: sleeping costs nothing, on asyncio as with trio's own MockClock.

It stands still while somebody awaits a thread (``anyio.to_thread.run_sync``, a journal's own, and what is
``counted``), and it knows nothing of sockets.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio.to_thread
import pytest
import trio.testing

from wiro_async._journal import sqlite

T = TypeVar("T")

_busy = 0
"""How many threads are being waited for."""


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, let the time pass at once."""

    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        events = super().select(0)
        if not events and timeout > 0:
            self.jump(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is only what was slept."""

    def __init__(self) -> None:
        self._now = 1000.0
        selector = _JumpingSelector()
        selector.jump = self._jump
        super().__init__(selector)

    def _jump(self, seconds: float) -> None:
        if _busy:
            time.sleep(0.0002)
        else:
            self._now += seconds

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now


@contextmanager
def _thread_at_work() -> Iterator[None]:
    global _busy  # noqa: PLW0603  # one clock, one count
    _busy += 1
    try:
        _set_jumping()
        yield
    finally:
        _busy -= 1
        _set_jumping()


def _set_jumping() -> None:
    try:
        clock = trio.lowlevel.current_clock()
    except RuntimeError:
        return
    if isinstance(clock, trio.testing.MockClock):
        clock.autojump_threshold = float("inf") if _busy else 0.0


def counted(work: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """Let virtual time stand still while *work*, which waits for a thread, is awaited."""

    async def count(*args: Any, **options: Any) -> T:
        with _thread_at_work():
            return await work(*args, **options)

    return count


def on_virtual_time(backend: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """Return an event loop, as anyio's plugin takes it, on a clock of its own that waits for threads."""
    monkeypatch.setattr(anyio.to_thread, "run_sync", counted(anyio.to_thread.run_sync))
    monkeypatch.setattr(sqlite._Order, "wait", counted(sqlite._Order.wait))
    if backend == "asyncio":
        return "asyncio", {"loop_factory": VirtualLoop}
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import this into a test module, to run all of it on virtual time, on both event loops."""
    return on_virtual_time(request.param, monkeypatch)
