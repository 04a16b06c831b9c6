"""What every test gets: both event loops, and an alarm for blocking calls on them."""

from __future__ import annotations

import faulthandler
import functools
import os
import random
import shlex
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import attrs
import pytest
from blockbuster import BlockBuster
from coverage import Coverage

from tests.depth import DEPTH
from tests.virtual import on_virtual_time
from wiro_async._jobs.reconcile import TaskSearch
from wiro_async._jobs.submit import OpenRuns

KEY = "canary-key-5f3a"
SECRET = "canary-secret-9b1c"

# A shell's background jobs ignore Ctrl-C, and nohup's the terminal's end: so would the commands under test.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


ERRORS = pytest.StashKey[int]()
"""Where a process that is ended says why: the real stderr, which no test captures."""

GRACE = 60.0
"""Seconds for which a test may go on after its timeout."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real stderr; pytest captures nothing yet."""
    config.stash[ERRORS] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close it."""
    os.close(config.stash[ERRORS])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End a process whose test does not end by its timeout, and print where each of its threads is.

    The timeout is an exception in whatever runs just then: an event loop may take it for a task's failure,
    and clearing up after it may hang as well. pytest-xdist reports the failed test and starts another worker.
    """
    marker = item.get_closest_marker("timeout")
    seconds = float(item.config.getini("timeout") if marker is None else marker.args[0])
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=item.config.stash[ERRORS])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_report_header() -> str:
    """Say how to play the same again."""
    return f"depth: {DEPTH} (make test DEPTH={DEPTH})"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that differ from process to process, which could not share the tests then."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: this name has an address; give the parameter an id")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Give the command that plays each failed test again, as it was."""
    failed = [report.nodeid for kind in ("failed", "error") for report in terminalreporter.getreports(kind)]
    for test in dict.fromkeys(failed):
        if "/" in test:  # and not a worker's name
            terminalreporter.write_line(f"Replay it: DEPTH={DEPTH} python -m pytest {shlex.quote(test)}")


def pytest_sessionfinish() -> None:
    """Keep what coverage measured in a worker of pytest-xdist, which is killed if it takes long to end."""
    coverage = Coverage.current()
    if coverage is not None:
        coverage.save()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run every async test on asyncio and on trio, on virtual time where it is marked so."""
    marker = request.node.get_closest_marker("virtual_time")
    if marker is None:
        return request.param
    return on_virtual_time(request.param, request.getfixturevalue("monkeypatch"))


@functools.cache
def _alarm() -> BlockBuster:
    alarm = BlockBuster("wiro_async")
    # Coverage takes a lock of its own now and then, in whatever thread runs.
    acquire = alarm.functions["threading.Lock.acquire"]
    usual = acquire.can_block_predicate
    acquire.can_block_predicate = lambda lock, *args, **options: (
        lock is _lock_of_coverage() or usual(lock, *args, **options)
    )
    return alarm


def _lock_of_coverage() -> object:
    collector = getattr(Coverage.current(), "_collector", None)
    return getattr(collector, "data_lock", None)


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail a test in which the package blocks the event loop."""
    _alarm().activate()
    yield
    _alarm().deactivate()


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest) -> None:
    """Draw the same pauses on each run, so that no change fails by what was drawn for it."""
    if DEPTH != "explore":
        random.seed(request.node.nodeid)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own credentials out of the tests."""
    for name in (
        "WIRO_API_KEY",
        "WIRO_API_SECRET",
        "WIRO_BASE_URL",
        "WIRO_SOCKET_URL",
        "WIRO_TASK_TOKEN",
        "WIRO_ALLOW_HTTP",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of the processes that a test starts, where it costs more than it tells."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def quick_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for lost tasks twice, within a millisecond, and have a Run quiet after a second.

    tests/jobs has the real times, on virtual time.
    """
    quick: dict[str, float] = {"settle_timeout": 0.001, "send_window": 1.0, "margin": 0.001}
    monkeypatch.setattr("wiro_async._protocol.matching.SEARCHES", (0.0, 1.0))
    monkeypatch.setattr(
        "wiro_async._jobs.service.OpenRuns",
        lambda limits: OpenRuns(attrs.evolve(limits, request_timeout=0.001, **quick)),
    )
    monkeypatch.setattr(
        "wiro_async._jobs.service.TaskSearch",
        lambda calls, known, runs, limits: TaskSearch(calls, known, runs, attrs.evolve(limits, **quick)),
    )


@pytest.fixture
def call_program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give this process the command line of another program."""
    return lambda *words: monkeypatch.setattr(sys, "argv", list(words))
