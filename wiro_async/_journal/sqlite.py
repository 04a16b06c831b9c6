"""The journal as one SQLite file: what a batch must not forget, on the disk before it matters.

One thread owns the file. What is asked for while it commits waits, and is committed together: a hundred
writers pay for one flush of the disk, not for a hundred.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import queue
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, final

import anyio
import anyio.lowlevel

from wiro_async._aio import finish, on_asyncio, run_in_thread, uptime
from wiro_async._errors import ClientUseError, JournalError, WiroError
from wiro_async._journal.journal import Entries, Page
from wiro_async._journal.steps import (
    MEMO,
    JournalCounts,
    JournalEntry,
    State,
    Step,
    UnchargedRun,
    text_of,
)
from wiro_async._journal.store import Connect, Store, connect
from wiro_async._types import JSON

__all__ = ["SQLiteJournal"]

logger = logging.getLogger("wiro_async")

T = TypeVar("T")

MOST_AT_ONCE = 1000
"""Orders that one transaction takes."""

PAUSE = 0.0001
"""Seconds for which the thread lets the event loop give more orders, where several have come at once."""

CLOSE_SECONDS = 10.0
"""How long closing waits for the disk."""

_WRONG_ARGUMENT = (
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
    OverflowError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
)
"""What an argument of the wrong type causes: the fault of one caller, which must not stop all others."""

_Post: TypeAlias = Callable[[Callable[[], object]], object]


class _Unwritable(Exception):
    """One order cannot be written; those beside it may be."""

    def __init__(self, order: _Order[Any]) -> None:
        super().__init__()
        self.order: _Order[Any] = order


class _Order(Generic[T]):
    """Something for the thread to do, and what came of it.

    Args:
        work: What to do.
        steps: How many steps it makes (0: it reads).
    """

    __slots__ = ("done", "error", "result", "steps", "work")

    def __init__(self, work: Callable[[Store], T], steps: int = 0) -> None:
        self.work: Callable[[Store], T] = work
        self.steps: int = steps
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
            # A step checks all before it changes anything. But those before it have been made.
            if self.steps > 1:
                raise _Unwritable(self) from None
        except _WRONG_ARGUMENT as error:
            self.error = error
            raise _Unwritable(self) from None

    async def wait(self) -> T:
        """Return the result, or raise the error, once it is there."""
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return self.result


class WriterThread:
    """The thread that owns the file, as seen from outside.

    Args:
        open_store: Opens the file.
        post: Runs a function on the event loop, from any thread.
    """

    def __init__(self, open_store: Callable[[], Store], post: _Post) -> None:
        self.pid: int = os.getpid()
        self.broken: JournalError | None = None
        self.opened: _Order[tuple[str, str]] = _Order(lambda store: (store.path, store.tag))
        self._post = post
        self._orders: queue.SimpleQueue[_Order[Any] | None] = queue.SimpleQueue()
        # A daemon, so that a journal that nobody closed does not keep the program alive; see _close_all.
        self.thread: threading.Thread = threading.Thread(
            target=self._serve, args=(open_store,), name="wiro-journal", daemon=True
        )
        _writer_threads.add(self)
        self.thread.start()

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
        """Wait for something to do, and take what came with it; False at the end."""
        orders: list[_Order[Any]] = []
        has_paused = False
        while len(orders) < MOST_AT_ONCE:
            try:
                order = self._orders.get(block=not orders)
            except queue.Empty:
                if has_paused or len(orders) == 1:
                    break
                # The interpreter may have switched threads while the event loop gave orders: those that it
                # still has would wait for this commit and another one.
                has_paused = True
                time.sleep(PAUSE)
                continue
            if order is None:
                return orders, False
            orders.append(order)
        return orders, True

    def _do(self, store: Store, orders: list[_Order[Any]]) -> None:
        """Commit the writes together, then read: whoever reads sees what was written before."""
        self._write(store, [order for order in orders if order.steps])
        for order in orders:
            if not order.steps:
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


_writer_threads: set[WriterThread] = set()
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
class SQLiteJournal:
    """A journal in a file, for one event loop and one process.

    Made by ``open``; to be closed with ``aclose``, or used as an async context manager. No other process can
    open the file meanwhile, not even to read it.

    A step that contradicts what is recorded raises ``JournalError`` with the reason ``conflict``. After any
    other failure to write the journal is broken: every later write raises at once, and reads go on as long as
    the disk lets them.
    """

    def __init__(self, writer: WriterThread, path: str, tag: str) -> None:
        self._writer_thread = writer
        self._path = path
        self._tag = tag
        self._loop: object = anyio.lowlevel.current_token()
        self._closed: bool = False

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        accepted: bool = False,
        connect: Connect = connect,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = uptime,
    ) -> SQLiteJournal:
        """Open a journal, check it, bring it to this version's schema, and lock out everybody else.

        Checking takes about a second for 100 000 jobs.

        Args:
            path: The file. Beside it SQLite keeps another, which ends in ``-wal``, while the journal is open.
            create: Whether to begin a new one where there is none. New or not, only its owner can read it
                from then on. One of an earlier version is migrated in any case: nobody else could read it
                meanwhile, and what it says stays the same.
            accepted: Whether to open one without its ``-wal`` file too. It stays one that others refuse,
                until ``Confirmed`` is recorded.
            connect: How to open the database.
            clock: The time, in unix seconds.
            ticks: As for ``Store``.

        Raises:
            JournalError: It cannot be opened, or cannot be trusted; its ``reason`` tells why.
        """
        opening = partial(
            Store, path, create=create, accepted=accepted, connect=connect, clock=clock, ticks=ticks
        )
        writer = WriterThread(opening, _poster())
        try:
            resolved, tag = await finish(writer.opened.wait, lambda _: None)
        except BaseException:
            # Cancelled, or not opened; in both cases nobody holds the file when this returns.
            await _close(writer, os.fspath(path))
            raise
        return cls(writer, resolved, tag)

    @property
    def path(self) -> str:
        """The file, by its absolute path."""
        return self._path

    @property
    def tag(self) -> str:
        """What the markers of its Runs begin with; copies of a journal share it."""
        return self._tag

    @property
    def broken(self) -> JournalError | None:
        """Why nothing more can be written (None: it can)."""
        return self._writer_thread.broken

    @property
    def durable(self) -> bool:
        """Whether the next process will find what is recorded now."""
        return self.broken is None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "broken" if self.broken else "open"
        return f"<SQLiteJournal {self._path!r} {state}>"

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

    # -- steps and jobs; see Journal ----------------------------------------------------------------------

    async def record(self, *steps: Step) -> None:
        """Record steps, all or none."""
        if self.broken is not None:
            self._check_use()
            raise _again(self.broken)
        # Before anything waits: whoever is cancelled while waiting may go on to change what it gave.
        texts = [text_of(step) for step in steps]

        def apply(store: Store) -> None:
            for step, text in zip(steps, texts, strict=True):
                store.apply(step, text)

        await self._ask(apply, len(steps))

    async def find(self, key: str) -> JournalEntry | None:
        """Return one job (None: there is no such key)."""
        return await self._ask(lambda store: store.find(key))

    def entries(self, *states: State) -> Entries:
        """Iterate over the jobs in these states, one state after the other, or over all, in order of arrival.

        They are read as they are needed, a few hundred at a time, and are as they were then: a job that
        changes its state meanwhile can come twice or not at all.
        """
        return Entries(self._page, states)

    async def _page(self, state: State | None, last: int) -> Page:
        return await self._ask(lambda store: store.page(state, last))

    async def counts(self) -> JournalCounts:
        """Count all jobs, and add up what they cost."""
        return await self._ask(lambda store: store.counts())

    async def url_of(self, sha256: str) -> str | None:
        """Return where that content was uploaded to, if it can be trusted to be there."""
        return await self._ask(lambda store: store.url_of(sha256))

    async def uncharged(self) -> Sequence[UnchargedRun]:
        """Return the newest attempts whose charges are not recorded yet, at most 5 000."""
        return await self._ask(lambda store: store.uncharged())

    async def task_ids(self) -> Sequence[str]:
        """Return the tasks that a lost answer might be mistaken for, oldest first."""
        return await self._ask(lambda store: store.task_ids())

    async def newest(self) -> float | None:
        """Return when its newest Run was sent, or it was confirmed, in unix seconds (None: it has no Run)."""
        return await self._ask(lambda store: store.newest())

    async def known(self, tasks: Sequence[tuple[str, str]]) -> frozenset[str]:
        """Return the ids of those tasks, given with their markers, that it knows or was confirmed without."""
        return await self._ask(lambda store: store.known(tasks))

    async def load_stats(self, name: str) -> JSON:
        """Return what was learned under that name ({}: nothing, or nothing that can be read).

        Raises:
            JournalError: What the journal was asked to keep (``MEMO``) cannot be read; a limit on the cost
                may be among it.
        """
        data = await self._ask(lambda store: store.load_stats(name))
        if data is None and name == MEMO:
            raise JournalError(
                f"the journal {self._path!r} has an unreadable memo, the options of its batch; give them "
                f"again: batch(memo=...), or `wiro batch` with all options",
                path=self._path,
                reason="corrupt",
            )
        if data is None:
            logger.warning("what %s has learned of %s cannot be read, and is learned anew", self._path, name)
        return data or {}

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

    async def _ask(self, work: Callable[[Store], T], steps: int = 0) -> T:
        self._check_use()
        order = _Order(work, steps)
        self._writer_thread.give(order)
        return await order.wait()


def _again(error: JournalError) -> JournalError:
    """Return a copy to raise: an exception collects the tracebacks of all who raise it."""
    return JournalError(error.message, path=error.path, reason=error.reason)


async def _close(writer: WriterThread, path: str) -> None:
    """Stop the thread and wait for its end, out of reach of any cancellation."""

    async def end() -> None:
        # Real seconds, counted by the thread that waits: the event loop's clock may be another.
        await run_in_thread(writer.thread.join, CLOSE_SECONDS, at_once=True)

    writer.stop()
    await finish(end, lambda _: None)
    if writer.thread.is_alive():
        raise JournalError(
            f"the journal {path!r} is not closed yet: its disk did not answer within {CLOSE_SECONDS:g} s; "
            f"what is durable stays so, and the rest is still being written",
            path=path,
            reason="slow",
        )
