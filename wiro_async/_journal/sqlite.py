"""The journal: what a batch must not forget, on the disk before it matters.

One thread owns the file. What is asked for while it commits waits, and is committed together: a hundred
writers pay for one flush of the disk, not for a hundred. Every write returns once it is durable.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import os
import queue
import sqlite3
import threading
import time
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, final

import anyio
import anyio.lowlevel
import anyio.to_thread

from wiro_async._aio.shield import finish, on_asyncio
from wiro_async._errors import ClientUseError, InvalidInput, JournalError, WiroError
from wiro_async._journal import steps
from wiro_async._journal.steps import Counts, Ending, ErrorNote, Intent, Row, Settled, State
from wiro_async._journal.store import Connect, Store, connect
from wiro_async._protocol.envelope import encode
from wiro_async._types import JSON, Secret

__all__ = ["Journal", "Rows"]

logger = logging.getLogger("wiro_async")

T = TypeVar("T")

MOST_AT_ONCE = 1000
"""Orders that one transaction takes."""

MOST_WAITING = 10_000
"""Statuses are not noted while that many orders wait for the disk."""

LAZY_SECONDS = 1.0
"""How long a status waits for another write to be committed with."""

CLOSE_SECONDS = 10.0
"""How long closing waits for the disk."""

_WRONG_ARGUMENT = (
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
)
"""What an argument of the wrong type causes: the fault of one caller, which must not stop all others."""

_Post: TypeAlias = Callable[[Callable[[], object]], object]
_Page: TypeAlias = list[tuple[int, Row]]


class _Unwritable(Exception):
    """One order cannot be written; those beside it may be."""

    def __init__(self, order: _Order[Any]) -> None:
        super().__init__()
        self.order: _Order[Any] = order


class _Order(Generic[T]):
    """Something for the thread to do, and what came of it."""

    __slots__ = ("done", "error", "lazy", "result", "work", "writes")

    def __init__(self, work: Callable[[Store], T], *, writes: bool = False, lazy: bool = False) -> None:
        self.work: Callable[[Store], T] = work
        self.writes: bool = writes
        self.lazy: bool = lazy
        self.done: anyio.Event = anyio.Event()
        self.result: T
        self.error: Exception | None = None

    def write(self, store: Store) -> None:
        """Do the work within a transaction.

        Raises:
            _Unwritable: It may be half done, so that the transaction must not be committed.
            Exception: The file cannot be written.
        """
        self.error = None
        try:
            self.result = self.work(store)
        except WiroError as refusal:
            if isinstance(refusal, JournalError) and refusal.reason != "conflict":
                raise
            self.error = refusal
        except _WRONG_ARGUMENT as error:
            self.error = error
            raise _Unwritable(self) from None

    async def wait(self) -> T:
        """Return the result, or raise the error, once it is there."""
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return self.result


class _WriterThread:
    """The thread that owns the file, as seen from outside.

    Args:
        open_store: Opens the file.
        post: Runs a function on the event loop, from any thread.
    """

    def __init__(self, open_store: Callable[[], Store], post: _Post) -> None:
        self.pid: int = os.getpid()
        self.broken: JournalError | None = None
        self.opened: _Order[str] = _Order(lambda store: store.path)
        self._post = post
        self._orders: queue.SimpleQueue[_Order[Any] | None] = queue.SimpleQueue()
        # A daemon, so that a journal that nobody closed does not keep the program alive; see _close_all.
        self.thread: threading.Thread = threading.Thread(
            target=self._serve, args=(open_store,), name="wiro-journal", daemon=True
        )
        _writer_threads.add(self)
        self.thread.start()

    @property
    def waiting(self) -> int:
        """How many orders wait."""
        return self._orders.qsize()

    def give(self, order: _Order[T]) -> None:
        """Have something done."""
        self._orders.put(order)

    def stop(self) -> None:
        """Have the file closed when everything before has been done."""
        self._orders.put(None)

    # -- in the thread -----------------------------------------------------------------------------------

    def _serve(self, open_store: Callable[[], Store]) -> None:
        try:
            # A local variable, so that a forked child never closes its copy: that would remove the -wal file.
            store = open_store()
        except Exception as error:
            self.opened.error = error
            self._tell([self.opened])
            _writer_threads.discard(self)
            return
        try:
            self._do(store, [self.opened])
            going = True
            while going:
                orders, going = self._next_orders()
                self._do(store, orders)
        finally:
            store.close()
            _writer_threads.discard(self)

    def _next_orders(self) -> tuple[list[_Order[Any]], bool]:
        """Wait for something that must be done now, and take what came with it; False at the end."""
        orders: list[_Order[Any]] = []
        due = math.inf
        while len(orders) < MOST_AT_ONCE:
            try:
                timeout = None if due == math.inf else max(0.0, due - time.monotonic())
                order = self._orders.get(timeout=timeout)
            except queue.Empty:
                break
            if order is None:
                return orders, False
            orders.append(order)
            due = min(due, time.monotonic() + LAZY_SECONDS) if order.lazy else 0.0
        return orders, True

    def _do(self, store: Store, orders: list[_Order[Any]]) -> None:
        """Commit the writes together, then read: whoever reads sees what was written before."""
        self._write(store, [order for order in orders if order.writes])
        for order in orders:
            if not order.writes:
                try:
                    order.result = order.work(store)
                except Exception as error:
                    order.error = store.explained(error)
        self._tell(orders)

    def _write(self, store: Store, orders: list[_Order[Any]]) -> None:
        while orders and self.broken is None:
            try:
                with store.transaction():
                    for order in orders:
                        order.write(store)
                return
            except _Unwritable as error:
                orders.remove(error.order)
            except Exception as error:
                self.broken = store.explained(error)
                logger.error("nothing more is recorded: %s", self.broken)
        for order in orders:
            assert self.broken is not None
            order.error = _again(self.broken)

    def _tell(self, orders: list[_Order[Any]]) -> None:
        def tell() -> None:
            for order in orders:
                order.done.set()

        # Where the event loop is gone, nobody waits.
        with suppress(RuntimeError):
            self._post(tell)


_writer_threads: set[_WriterThread] = set()
"""Those whose thread runs."""


def _close_all() -> None:
    """Close what nobody closed, before the interpreter ends and takes the threads with it."""
    for writer in tuple(_writer_threads):
        if writer.pid == os.getpid():
            writer.stop()
            writer.thread.join(CLOSE_SECONDS)


atexit.register(_close_all)


def _poster() -> _Post:
    """Return what runs a function on this event loop, from any thread."""
    if on_asyncio():
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio  # noqa: PLC0415  # only where trio runs

    return trio.lowlevel.current_trio_token().run_sync_soon


@final
class Journal:
    """A journal that is open, for one event loop and one process.

    Made by ``open``; to be closed with ``aclose``, or used as an async context manager. No other process can
    open the file meanwhile, not even to read it.

    Every write returns once it is durable: it outlives the process, and the loss of power. Who is cancelled
    while waiting does not learn of it, but the write is made. One that contradicts what is recorded, such as
    a new Run for a job whose last one may be paid for, raises ``JournalError`` with the reason ``conflict``,
    and changes nothing. After any other failure to write, every later write raises at once; reads go on as
    long as the disk lets them.
    """

    def __init__(self, writer: _WriterThread, path: str) -> None:
        self._writer_thread = writer
        self._path = path
        self._loop: object = anyio.lowlevel.current_token()
        self._closed: bool = False

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        connect: Connect = connect,
        clock: Callable[[], float] = time.time,
    ) -> Journal:
        """Open a journal, check it, and lock out everybody else.

        Checking takes about a second for 100 000 jobs.

        Args:
            path: The file. Beside it SQLite keeps another, which ends in ``-wal``, while the journal is open.
            create: Whether to begin a new one where there is none. New or not, only its owner can read it
                from then on.
            connect: How to open the database.
            clock: The time, in unix seconds.

        Raises:
            JournalError: It cannot be opened, or cannot be trusted; its ``reason`` tells why.
        """
        writer = _WriterThread(partial(Store, path, create=create, connect=connect, clock=clock), _poster())
        try:
            resolved = await finish(writer.opened.wait, lambda _: None)
        except BaseException:
            # Cancelled, or not opened; in both cases nobody holds the file when this returns.
            await _close(writer, os.fspath(path))
            raise
        return cls(writer, resolved)

    @property
    def path(self) -> str:
        """The file, by its absolute path."""
        return self._path

    @property
    def broken(self) -> JournalError | None:
        """Why nothing more can be written (None: it can)."""
        return self._writer_thread.broken

    def __repr__(self) -> str:
        state = "closed" if self._closed else "broken" if self.broken else "open"
        return f"<Journal {self._path!r} {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._closed and self._writer_thread.pid == os.getpid():
            message = f"{self!r} was not closed; call aclose(), or use it in `async with`"
            warnings.warn(message, ResourceWarning, stacklevel=1, source=self)
            self._writer_thread.stop()

    async def aclose(self) -> None:
        """Commit everything, move it into the one file, and close that; again does no harm.

        It ends before a cancellation goes on.

        Raises:
            JournalError: The disk did not answer within ten seconds; it goes on in the background.
        """
        if self._writer_thread.pid != os.getpid():
            return
        self._closed = True
        await _close(self._writer_thread, self._path)

    # -- writes ------------------------------------------------------------------------------------------

    async def intend(self, intent: Intent) -> None:
        """Record a Run, before it leaves.

        Raises:
            InvalidInput: The key or an input cannot be recorded.
            JournalError: ``conflict``: an earlier Run of the job may be paid for; ``missing``: the file was
                deleted or replaced; or nothing can be written.
        """
        steps.check_key(intent.key)
        inputs = steps.recorded(intent.inputs)
        await self._write(lambda store: store.intend(intent, inputs))

    async def accepted(self, key: str, task_id: str, token: Secret | None = None) -> None:
        """Record the task that came of a Run. The token, a secret, is kept: who has it can watch the task.

        Raises:
            JournalError: ``conflict``: the Run has another task; call ``doubted`` where that was not its own.
        """
        await self._write(lambda store: store.accepted(key, task_id, token))

    async def released(self, key: str, error: ErrorNote) -> None:
        """Record that no task came of a Run: it was refused, or not sent, or proved absent."""
        await self._write(lambda store: store.released(key, error))

    async def doubted(self, key: str, cause: str) -> None:
        """Record that nobody knows what came of a Run. A task that was recorded for it is not its own."""
        await self._write(lambda store: store.doubted(key, cause))

    async def ended(self, key: str, ending: Ending) -> None:
        """Record how a task ended. Again, for a task that succeeded, brings the outputs' newer addresses."""
        await self._write(lambda store: store.ended(key, ending))

    async def saved(self, key: str, n: int, path: str | os.PathLike[str], size: int, sha256: str) -> None:
        """Record that an output is on the disk.

        Args:
            key: The job's key.
            n: The output's place, from 0.
            path: The file.
            size: Its length in bytes.
            sha256: Its digest, in hexadecimal.
        """
        file = os.fspath(path)
        await self._write(lambda store: store.saved(key, n, file, size, sha256))

    async def settled(self, key: str, state: Settled, error: ErrorNote | None = None) -> None:
        """Record that nothing more is to be done: everything wanted is there, or it is given up."""
        await self._write(lambda store: store.settled(key, state, error))

    async def uploaded(self, sha256: str, url: str, size: int) -> None:
        """Record where content was uploaded to, so that it is uploaded once."""
        await self._write(lambda store: store.uploaded(sha256, url, size))

    async def save_stats(self, name: str, data: JSON) -> None:
        """Record what was learned, in place of what had been under that name.

        Raises:
            InvalidInput: It has no JSON form.
        """
        text = encode(data).decode()
        await self._write(lambda store: store.save_stats(name, text))

    def post(self, key: str, status: str, at: float) -> None:
        """Record what a task does, within a second or with the next write, if it can be recorded.

        Args:
            key: The job's key.
            status: The status, by its wire name.
            at: When it began, in unix seconds.
        """
        self._check_use()
        if self._writer_thread.waiting < MOST_WAITING:
            self._writer_thread.give(
                _Order(lambda store: store.status(key, status, at), writes=True, lazy=True)
            )

    # -- reads -------------------------------------------------------------------------------------------

    async def find(self, key: str) -> Row | None:
        """Return one job (None: it is not known)."""
        return await self._ask(lambda store: store.find(key))

    def rows(self, *states: State) -> Rows:
        """Iterate over the jobs in these states, one state after the other, or over all, in order of arrival.

        Rows are read as they are needed, a few hundred at a time, and are as they were then: a job that
        changes its state meanwhile can come twice or not at all.

        Raises:
            InvalidInput: There is no such state.
        """
        unknown = [state for state in states if state not in steps.STATES]
        if unknown:
            raise InvalidInput(f"the state {unknown[0]!r} is none of {', '.join(steps.STATES)}", name="state")
        return Rows(self._ask, states)

    async def counts(self) -> Counts:
        """Count all jobs, add up what they cost, and tell how they failed."""
        return await self._ask(Store.counts)

    async def url_of(self, sha256: str, max_age: float) -> str | None:
        """Return where content was uploaded to, no longer than that many seconds ago (None: nowhere)."""
        return await self._ask(lambda store: store.url_of(sha256, max_age))

    async def task_ids(self) -> list[str]:
        """Return the tasks that a lost answer might be taken to have been about: it was none of these."""
        return await self._ask(Store.task_ids)

    async def load_stats(self, name: str) -> JSON | None:
        """Return what was learned under that name (None: nothing)."""
        return await self._ask(lambda store: store.load_stats(name))

    # -- the thread's side -------------------------------------------------------------------------------

    def _check_use(self) -> None:
        """Refuse what would hang or corrupt: a forked child, a closed journal, another event loop."""
        if self._writer_thread.pid != os.getpid():
            raise ClientUseError(
                f"the journal {self._path!r} was opened before a fork; only the parent process can use it"
            )
        if self._closed:
            raise ClientUseError(f"the journal {self._path!r} is closed; open it again")
        if self._loop != anyio.lowlevel.current_token():
            raise ClientUseError(
                f"the journal {self._path!r} belongs to another event loop; open it on this one"
            )

    async def _write(self, work: Callable[[Store], object]) -> None:
        if self.broken is not None:
            self._check_use()
            raise _again(self.broken)
        await self._ask(work, writes=True)

    async def _ask(self, work: Callable[[Store], T], *, writes: bool = False) -> T:
        self._check_use()
        order = _Order(work, writes=writes)
        self._writer_thread.give(order)
        return await order.wait()


class Rows:
    """Jobs of a journal, read as they are needed. It holds nothing, so that it can be left at any time."""

    def __init__(
        self, ask: Callable[[Callable[[Store], _Page]], Awaitable[_Page]], states: Sequence[State]
    ) -> None:
        self._ask = ask
        self._states: deque[State | None] = deque(dict.fromkeys(states) or [None])
        self._last: int = 0
        self._rows: deque[tuple[int, Row]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Row:
        while not self._rows:
            if not self._states:
                raise StopAsyncIteration
            page = await self._ask(partial(Store.page, state=self._states[0], after=self._last))
            if page:
                self._rows.extend(page)
            else:
                self._states.popleft()
                self._last = 0
        self._last, row = self._rows.popleft()
        return row


def _again(error: JournalError) -> JournalError:
    """Return a copy to raise: an exception collects the tracebacks of all who raise it."""
    return JournalError(error.message, path=error.path, reason=error.reason)


async def _close(writer: _WriterThread, path: str) -> None:
    """Stop the thread and wait for its end, out of reach of any cancellation."""

    async def end() -> None:
        # Real seconds, counted by the thread that waits: the event loop's clock may be another.
        await anyio.to_thread.run_sync(writer.thread.join, CLOSE_SECONDS)

    writer.stop()
    await finish(end, lambda _: None)
    if writer.thread.is_alive():
        raise JournalError(
            f"the journal {path!r} is not closed yet: its disk did not answer within {CLOSE_SECONDS:g} s; "
            f"what is durable stays so, and the rest is still being written",
            path=path,
            reason="slow",
        )
