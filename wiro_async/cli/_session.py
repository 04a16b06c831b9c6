"""One command from its start to its exit code: the client, the signals, and the errors.

Nothing that was paid for is lost with the process: whatever ends a command early, the ids of its tasks are
printed, with the commands that take them up again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType

import attrs

from wiro_async import (
    BudgetExceeded,
    Client,
    ConfigurationError,
    DownloadError,
    InvalidInput,
    Limits,
    Polling,
    SubmissionUnknown,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskNotFound,
    TaskTimeout,
    WiroError,
)
from wiro_async.cli._records import why
from wiro_async.cli._report import Report

__all__ = ["Code", "Session", "interruptible", "without_warnings"]

Work = Callable[[Client], Awaitable[int]]


class Code(IntEnum):
    """The exit codes."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    TASK_FAILED = 3
    TASK_CANCELLED = 4
    TIMEOUT = 5
    UNKNOWN = 6
    STOPPED = 7
    INTERRUPTED = 130


_CODES: tuple[tuple[tuple[type[Exception], ...], Code], ...] = (
    ((InvalidInput, ConfigurationError), Code.USAGE),
    ((TaskFailed,), Code.TASK_FAILED),
    ((TaskCancelled,), Code.TASK_CANCELLED),
    ((TaskTimeout,), Code.TIMEOUT),
    ((SubmissionUnknown,), Code.UNKNOWN),
    ((BudgetExceeded,), Code.STOPPED),
)


@attrs.define
class Session:
    """Runs one command.

    Args:
        report: Where its words go.
        base_url: The API's address (None: from the environment).
        timeout: Seconds to wait for a task's end.
        interval: Shortest time between two polls of a task, in seconds (None: the client's default).
        folder: Where a task's outputs are to be saved, for the hint at how to go on (None: nowhere).
        proxy: The URL of a proxy (None: the environment's).
    """

    report: Report
    base_url: str | None = None
    timeout: float = 3600.0
    interval: float | None = None
    folder: Path | None = None
    proxy: str | None = None
    _handles: list[TaskHandle] = attrs.field(init=False, factory=list)
    _client: Client | None = attrs.field(init=False, default=None)

    def track(self, handle: TaskHandle) -> TaskHandle:
        """Remember a task, to tell the user about it if the command ends before the task does."""
        self._handles.append(handle)
        return handle

    def perform(self, work: Work) -> int:
        """Give *work* a client, and turn however it ends into an exit code."""
        return self.attempt(lambda: asyncio.run(self._with_client(work)))

    def attempt(self, action: Callable[[], int]) -> int:
        """Turn however *action* ends into an exit code."""
        try:
            with interruptible(), _warnings_to(self.report):
                return action()
        except KeyboardInterrupt:
            return self._interrupted()
        except BrokenPipeError:
            self.report.close_stdout()
            self._explain("the output pipe was closed")
            return Code.FAILURE
        except (WiroError, OSError) as error:
            return self._failed(error)

    async def _with_client(self, work: Work) -> int:
        if not os.environ.get("WIRO_API_KEY"):
            raise ConfigurationError(
                "no API key: set the environment variable WIRO_API_KEY to your project's key and, "
                "for a signed project, WIRO_API_SECRET to its secret"
            )
        polling = Polling() if self.interval is None else Polling(min_interval=self.interval)
        limits = Limits(wait_timeout=self.timeout)
        async with Client(base_url=self.base_url, polling=polling, limits=limits, proxy=self.proxy) as client:
            self._client = client
            return await work(client)

    # -- ending early ------------------------------------------------------------------------------------

    def _tasks(self) -> list[TaskHandle]:
        return [*self._handles, *(self._client.unclaimed if self._client is not None else ())]

    def _interrupted(self) -> int:
        tasks = self._tasks()
        self.report.record({"type": "interrupted", "task_ids": [task.id for task in tasks]})
        self._explain("interrupted")
        return Code.INTERRUPTED

    def _explain(self, problem: str) -> None:
        """Name the problem, and every task that this command leaves behind."""
        for task in self._tasks():
            self.report.problem(f"{problem}; {self._way_on(task)}")
        if not self._tasks():
            self.report.problem(problem)

    def _way_on(self, task: TaskHandle) -> str:
        if task.done or (task.task is not None and task.task.is_terminal):
            return f"task {task.id} has ended ({task.status})"
        if task.id is None:
            return f"the task goes on: {self._watch()} follows it, {self.command('stop')} ends it"
        stop = self.command("stop", task.id)
        return f"task {task.id} goes on: {self._watch(task.id)} follows it, {stop} ends it"

    def _watch(self, *task_id: str) -> str:
        saving = () if self.folder is None else ("--download", str(self.folder))
        return self.command("watch", *task_id, *saving)

    def command(self, *words: str) -> str:
        """Quote a command that goes to the same service, for a message."""
        options = [] if self.base_url is None else ["--base-url", self.base_url]
        if self.proxy is not None and "@" not in self.proxy:  # there may be a password
            options += ["--proxy", self.proxy]
        return f"`{shlex.join(['wiro', *words, *options])}`"

    def _failed(self, error: WiroError | OSError) -> int:
        if isinstance(error, TaskNotFound):
            self._handles.clear()  # so none goes on
        message = self._told(error)
        if isinstance(error, TaskFailed | TaskCancelled):
            # The record of these is the task's own, and is written already.
            self.report.problem(message)
        else:
            self.report.error(type(error).__name__, message, [task.id for task in self._tasks()])
        return next((code for kinds, code in _CODES if isinstance(error, kinds)), Code.FAILURE)

    def _told(self, error: WiroError | OSError) -> str:
        """What is said of an error: in terms of commands, where the library's own words are about calls."""
        tasks = self._tasks()
        if isinstance(error, TaskTimeout) and error.handle is not None:
            reason = "" if error.task is None else why(error.task)
            stands = f"it stands in {error.task.status} ({reason}); " if error.task and reason else ""
            return f"no end after {error.waited:g} s; {stands}{self._way_on(error.handle)}"
        if isinstance(error, SubmissionUnknown):
            lost = f"the answer to the run of {error.model} was lost: {error.cause}"
            if error.absent:
                return f"{lost}. No task came of it, so you can run it again"
            return (
                f"{lost}. The task may exist and be billed; it was searched for and not found, which proves "
                f"nothing so soon, so check {self.command('tasks')} before you run it again"
            )
        message = error.message if isinstance(error, WiroError) else str(error)
        if isinstance(error, BudgetExceeded):
            message = message.replace("this call's max_cost is", "--max-cost is")
            message = message.replace("allow_unpriced=True sends it", "--allow-unpriced runs it")
        if isinstance(error, DownloadError):
            hints = [f"{self.command('download', task.id or '')} tries again" for task in tasks]
        else:
            hints = [self._way_on(task) for task in tasks if not task.done]
        return "; ".join((message, *hints))


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat a SIGTERM or a closed terminal like Ctrl-C, so that they, too, end with the tasks' ids."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # One that is ignored (by nohup) or handled stays so.
    caught = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


class _ToReport(logging.Handler):
    """Writes the library's warnings like problems, on one line each."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report: Report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report.problem(record.getMessage())


@contextmanager
def _warnings_to(report: Report) -> Iterator[None]:
    logger = logging.getLogger("wiro_async")
    handler = _ToReport(report)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def without_warnings(*names: str) -> Iterator[None]:
    """Leave out the library's warnings that a command words itself.

    Args:
        names: The loggers of these warnings.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
