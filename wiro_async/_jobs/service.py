"""What the rooms of one client share: connections, known tasks, and the account's limits."""

from __future__ import annotations

import logging
import os
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from wiro_async._config import Config, check, check_path, text
from wiro_async._errors import InvalidInput, SubmissionUnknown
from wiro_async._files.download import Downloader, current
from wiro_async._files.upload import Uploader
from wiro_async._http.foreign import Network
from wiro_async._http.signing import Signer, SigningTransport
from wiro_async._http.transport import USER_AGENT, Transport
from wiro_async._jobs.checks import Catalogue
from wiro_async._jobs.limiter import ConcurrencyLimiter, Line
from wiro_async._jobs.reconcile import TaskSearch
from wiro_async._jobs.submit import OpenRuns
from wiro_async._journal.comparison import JournalComparison, compare
from wiro_async._journal.steps import Confirmed
from wiro_async._protocol.catalogue import list_payload, read_models
from wiro_async._protocol.matching import KnownTasks
from wiro_async._protocol.operations import TOOL_LIST, split_slug
from wiro_async._protocol.records import Model, Task, TaskKey, read_tasks
from wiro_async._tasks.handle import TaskHandle
from wiro_async._tasks.iterators import Listing
from wiro_async._tasks.state import TaskContext, TaskState
from wiro_async._watch.schedule import Schedule

if TYPE_CHECKING:
    from wiro_async._jobs.bills import Bills
    from wiro_async._watch.pool import Sockets

__all__ = ["Service"]

logger = logging.getLogger("wiro_async")

KEPT = 1000
"""How many tasks and unknown Runs of cancelled callers are kept: the newest."""


@attrs.define(eq=False, repr=False)
class Service:
    """The service as one client sees it; ``Client`` and ``Batch`` both hold it.

    Attributes:
        config: The client's settings.
        transport: Makes the calls.
        downloader: Reads outputs.
        uploader: Uploads local files.
        sockets: The WebSockets (None: tasks are polled).
        tasks: What all tasks share.
        limiter: The account's limit on concurrent tasks.
        line: Where single calls wait for a slot.
        known: The tasks that have an owner.
        runs: The Runs that are on their way, or in doubt.
        search: Finds the tasks of lost Runs.
        catalogue: Knows the models.
        bills: Adds up what the Runs cost (None: the client has no budget).
        unclaimed: Tasks whose callers were cancelled.
        unresolved: Unknown Runs whose callers were cancelled.
        chance: A source of random numbers between 0 and 1.
    """

    config: Config
    transport: Transport
    downloader: Downloader
    uploader: Uploader
    sockets: Sockets | None
    tasks: TaskContext
    limiter: ConcurrencyLimiter
    line: Line
    known: KnownTasks
    runs: OpenRuns
    search: TaskSearch
    catalogue: Catalogue
    bills: Bills | None = None
    unclaimed: deque[TaskHandle] = attrs.field(factory=lambda: deque(maxlen=KEPT))
    unresolved: deque[SubmissionUnknown] = attrs.field(factory=lambda: deque(maxlen=KEPT))
    chance: Callable[[], float] = random.random

    @classmethod
    def connect(cls, config: Config, network: Network, bills: Bills | None = None) -> Service:
        """Assemble a client's parts; nothing is opened before it is used.

        Raises:
            ConfigurationError: The environment names a proxy for the service that cannot be used.
        """
        network.routes.find(config.origin)
        limits, polling = config.limits, config.polling
        signer = Signer(config.api_key, config.api_secret)
        calls = Transport(
            config, SigningTransport(network.sender(limits.request_timeout), signer, config.origin)
        )

        # Downloads have connections of their own, so that none of them ever carried a credential.
        downloader = Downloader(config, network.sender(), partial(current, calls))
        # A transport carries no WebSockets.
        sockets = _sockets(config, network) if network.transport is None else None
        known, runs = KnownTasks(), OpenRuns(limits)
        limiter = ConcurrencyLimiter(limits.max_in_flight)
        tasks = TaskContext(
            transport=calls,
            schedule=Schedule(polling),
            limits=limits,
            store=downloader,
            sockets=sockets,
            safety_interval=polling.safety_interval,
            urgent_interval=polling.min_interval,
        )
        if bills is not None:
            tasks.readers.add(bills.told)
        return cls(
            config,
            calls,
            downloader,
            Uploader(calls, limits),
            sockets,
            tasks,
            limiter,
            Line(limiter, eager=True),
            known,
            runs,
            TaskSearch(calls, known, runs, limits),
            Catalogue(calls, limits),
            bills,
        )

    def list_tasks(self, model: str | None, limit: int | None) -> Listing[Task]:
        """Iterate over the project's tasks; see ``Client.list_tasks``."""
        if model is not None:
            split_slug(model)

        async def fetch(start: int, count: int) -> list[Task]:
            tasks = read_tasks(await self.transport.tasks(model, start, count), self.downloader)
            for task in tasks:
                self.tasks.saw(task)
            return tasks

        return Listing(fetch, lambda task: task.id, limit)

    def list_models(self, search: str, category: str | None, limit: int | None) -> Listing[Model]:
        """Iterate over the catalogue; see ``Client.list_models``."""
        if not isinstance(search, str):
            raise InvalidInput(f"search is a {type(search).__name__}; it must be a str", name="search")
        check("category", category, text)

        async def fetch(start: int, count: int) -> list[Model]:
            payload = list_payload(search, category, start, count)
            return read_models(await self.transport.call(TOOL_LIST, payload))

        return Listing(fetch, lambda model: model.slug, limit)

    async def accept_journal(self, path: str | os.PathLike[str]) -> JournalComparison:
        """Compare a journal with the account, and confirm it; see ``Client.accept_journal``."""
        from wiro_async._journal.sqlite import SQLiteJournal  # noqa: PLC0415 - SQLite, for journals

        async with await SQLiteJournal.open(check_path("path", path), create=False, accepted=True) as journal:
            comparison = await compare(journal, self.search.since)
            await journal.record(Confirmed(comparison.missing))
        return comparison

    def attach(self, key: TaskKey, *, exists: bool = False) -> TaskState:
        """Return the state of a task started elsewhere: only its key is known.

        Args:
            key: The key.
            exists: Whether the service itself has named the task.
        """
        if key.id and key.id not in self.known:
            self.known.add(key.id)
        return TaskState(key, self.tasks, watch=self.config.watch, exists=exists)

    def leave(self, state: TaskState, why: str) -> None:
        """Keep a task for its cancelled caller to find."""
        self.unclaimed.append(TaskHandle(state))
        if state.slot is not None:
            # Perhaps nobody will ever see its end: it counts as another program's from here on.
            state.slot.release()
        logger.warning("task %s %s; it is %s", state.key.id, why, state.standing)

    def leave_open(self, error: SubmissionUnknown) -> None:
        """Keep an unknown Run whose caller was cancelled and will not be told."""
        self.unresolved.append(error)
        logger.warning("the submit of a caller who was cancelled: %s", error)

    async def aclose(self) -> None:
        """Wait for Runs in flight, and close all connections. Safe to repeat."""
        if self.sockets is not None:
            self.sockets.abort_all()
        await self.transport.aclose()
        self.tasks.wake()
        await self.downloader.aclose()


def _sockets(config: Config, network: Network) -> Sockets | None:
    """Return the client's WebSockets (None: it polls)."""
    from wiro_async._watch import pool  # noqa: PLC0415 - clients with a transport of their own need none

    if config.watch == "socket":
        pool.require()
    if not config.socket_known or not pool.available():
        return None
    return pool.Sockets(
        config.socket_url,
        limit=config.limits.max_sockets,
        tasks_per_socket=config.tasks_per_socket,
        connect_timeout=config.limits.connect_timeout,
        user_agent=USER_AGENT,
        tls=network.tls.load,
        routes=network.routes,
    )
