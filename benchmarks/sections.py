"""What is measured: each section runs its contenders in turn, round by round, on one server."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import wiro_async
from benchmarks.contender import Order
from benchmarks.harness import Contender, ContenderFailed, Server, environ
from benchmarks.load import INPUTS, MODEL, Load
from benchmarks.results import Figures
from benchmarks.targets import (
    AIOHTTP,
    CALLBACK,
    HTTPX,
    LIBRARIES,
    LIBRARIES_AND_LOOP,
    NODE,
    POLL,
    RAW,
    SDK,
    SOCKET,
    SOCKETS,
    WIRO,
)

__all__ = ["EARLIER", "SECTIONS", "BatchPlan", "Bench", "Fan"]

MEGABYTE = 1e6

IMPORTS = (
    LIBRARIES,
    "import wiro_async",
    LIBRARIES_AND_LOOP,
    "from wiro_async import Client",
)

EARLIER = 200
"""Jobs of which wiro_async has seen the ends before: a client lives longer than one fan-out."""

OURS = Contender(WIRO, "ours")
RAW_BYTES = Contender(RAW, "raw")
SCRIPT_AIOHTTP = Contender(AIOHTTP, "script_aiohttp", "aiohttp")
SCRIPT_HTTPX = Contender(HTTPX, "script_httpx", "httpx")
GENERATED = Contender(SDK, "sdk", "httpx")
OFFICIAL = Contender(NODE, "official.mjs")
OTHERS = (RAW_BYTES, SCRIPT_AIOHTTP, OFFICIAL, GENERATED, SCRIPT_HTTPX)
WATCHES = (
    Contender(POLL, "ours"),
    Contender(SOCKET, "ours", "websockets", watch="socket"),
    Contender(SOCKETS, "ours", "websockets", watch="sockets"),
    Contender(CALLBACK, "ours", "uvicorn", watch="callback"),
)


@dataclass(frozen=True)
class Fan:
    """How one number of jobs is measured.

    Attributes:
        factor: By how much time is compressed.
        rounds: How often (0: as often as everything else).
        only: Which contenders, by their names (empty: all).
    """

    factor: float
    rounds: int = 0
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchPlan:
    """How much is measured.

    Attributes:
        mode: Its name.
        rounds: How often.
        waiting: How many coroutines make calls at a time, for each measurement of calls.
        tls_waiting: The same, over TLS.
        call_seconds: For how long calls are made each time.
        run_seconds: The median run time of a job, before time is compressed; the queue's is a tenth of it.
        jobs: How each number of jobs is measured.
        job_seconds: How much longer than ideal the jobs may take before they are given up.
        growth: How often each number of waiting jobs is measured.
        rows: Rows of a large journal.
        download: The size of a download in MiB.
    """

    mode: str
    rounds: int
    waiting: tuple[int, ...]
    tls_waiting: tuple[int, ...]
    call_seconds: float
    run_seconds: float
    jobs: dict[int, Fan]
    job_seconds: float
    growth: dict[int, int]
    rows: int
    download: int

    def load(self, count: int) -> Load:
        """Return how long *count* jobs that are submitted now take."""
        return Load(
            self.jobs[count].factor, time.time(), queue=self.run_seconds / 10, median=self.run_seconds
        )

    def earlier(self) -> list[tuple[float, float]]:
        """Return what jobs took that a client has seen before these, queued and running, in seconds."""
        return Load(seed=2, queue=self.run_seconds / 10, median=self.run_seconds).times(EARLIER)


@dataclass
class Bench:
    """One run of the benchmarks."""

    plan: BatchPlan
    server: Server
    figures: Figures = field(default_factory=Figures)
    notices: list[str] = field(default_factory=list)
    say: Callable[[str], object] = print
    _failures: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def notice(self, text: str) -> None:
        """Keep something that a reader of the results must know, once."""
        if text not in self.notices:
            self.notices.append(text)
            self.say(text)

    def able(self, contenders: tuple[Contender, ...]) -> list[Contender]:
        """Return those that can run here."""
        for contender in contenders:
            if contender.missing:
                self.notice(contender.missing)
        return [contender for contender in contenders if not contender.missing]

    def turns(
        self, section: str, contenders: tuple[Contender, ...], n: int = 0, rounds: int = 0
    ) -> Iterator[Contender]:
        """Yield the contenders round by round, without those that are not to be tried again."""
        able = self.able(contenders)
        rounds = rounds or self.plan.rounds
        for number in range(rounds):
            self.say(f"{section}{f', n = {n}' if n else ''}, round {number + 1} of {rounds}")
            yield from (contender for contender in able if not self.is_spent(section, contender, n))

    def run(self, section: str, n: int, contender: Contender, order: Order) -> dict[str, Any] | None:
        """Let a contender follow an order; None where it failed, and it is not tried again."""
        authority = self.server.authority if order.base.startswith("https") else None
        try:
            return contender.run(order, authority)
        except ContenderFailed as error:
            self._failures[section, contender.name, n] = 2
            self.notice(f"{section}, n = {n}: {error}; left out")
            return None

    def is_spent(self, section: str, contender: Contender, n: int) -> bool:
        """Tell whether a contender is not to be tried again."""
        return self._failures.get((section, contender.name, n), 0) >= 2

    def unfinished(self, section: str, contender: Contender, n: int, share: float) -> None:
        """Count a round that was given up; the second is the last, or the first if not half was done."""
        key = (section, contender.name, n)
        self._failures[key] = self._failures.get(key, 0) + (1 if share >= 0.5 else 2)
        if self.is_spent(section, contender, n):
            self.notice(
                f"{section}, n = {n}, {contender.name}: not done in time, and not tried again; its "
                f"figures are of what it had done"
            )

    def share(self, section: str, contender: Contender, n: int, seen: dict[str, Any]) -> float:
        """Return the percentage of its core that the server used meanwhile."""
        busy = 100 * self.server.share(seen["began"], seen["wall"])
        if busy > 85:
            self.notice(f"{section}, n = {n}, {contender.name}: the server may be the limit, at {busy:.0f} %")
        return busy


# -- calls -----------------------------------------------------------------------------------------------


def calls(bench: Bench) -> None:
    """CPU of a Detail call: sign, send, receive, decode, and for wiro_async build the record.

    Without the generated SDK's loop, whose calls are httpx's.
    """
    plan, server = bench.plan, bench.server
    _calls(bench, "calls", server.base, plan.waiting)
    if server.tls_base is None and plan.tls_waiting:
        bench.notice("openssl is not installed: nothing is measured over TLS")
    elif server.tls_base is not None:
        _calls(bench, "calls over TLS", server.tls_base, plan.tls_waiting)


def _calls(bench: Bench, section: str, base: str, waiting: tuple[int, ...]) -> None:
    for contender in bench.turns(section, (OURS, RAW_BYTES, SCRIPT_AIOHTTP, OFFICIAL, SCRIPT_HTTPX)):
        left = [n for n in waiting if not bench.is_spent(section, contender, n)]
        if not left:
            continue
        order = Order("calls", base, count=10**9, waiting=left, seconds=bench.plan.call_seconds)
        for n, seen in (bench.run(section, left[-1], contender, order) or {}).items():
            if seen["done"] < seen["begun"]:
                bench.unfinished(section, contender, int(n), seen["done"] / seen["begun"])
            if seen["done"] == 0:
                bench.notice(f"{section}, n = {n}, {contender.name}: no call was done in time")
                continue
            bench.figures.add(section, contender.name, int(n), [
                ("CPU", "µs", seen["cpu"] / seen["done"] * 1e6),
                ("calls a second", "", seen["done"] / seen["wall"]),
                ("not done", "%", 100 * (1 - seen["done"] / seen["begun"])),
                ("longest stall", "ms", seen["stall"] * 1e3),
                ("the server's share of its core", "%", bench.share(section, contender, int(n), seen)),
            ])  # fmt: skip


def pieces(bench: Bench) -> None:
    """The parts of a call that need no network."""
    for contender in bench.turns("pieces", (OURS,)):
        seen = bench.run("pieces", 1, contender, Order("pieces", bench.server.base))
        if seen is not None:
            bench.figures.add("pieces", WIRO, 1, [
                ("signing", "µs", seen["signing"] * 1e6),
                ("decoding and building a Task", "µs", seen["reading"] * 1e6),
            ])  # fmt: skip


# -- jobs ------------------------------------------------------------------------------------------------


def jobs(bench: Bench) -> None:
    """What N jobs cost from the submit to the known end, and how late the end is known."""
    for count, fan in bench.plan.jobs.items():
        contenders = tuple(one for one in (*WATCHES, *OTHERS) if not fan.only or one.name in fan.only)
        for contender in bench.turns("jobs", contenders, count, fan.rounds):
            load = bench.plan.load(count)
            bench.server.reset(load, count)
            patience = load.ideal(count) + bench.plan.job_seconds
            order = _order("jobs", bench, load, count, patience, watch=contender.watch)
            order = replace(order, earlier=bench.plan.earlier())
            seen = bench.run("jobs", count, contender, order)
            if seen is not None:
                _jobs(bench, contender, load, count, seen)


def _order(
    do: str, bench: Bench, load: Load, count: int, seconds: float, *, watch: str = "poll", journal: str = ""
) -> Order:
    return Order(
        do, bench.server.base, count, factor=load.factor, epoch=load.epoch, seconds=seconds, watch=watch,
        model=MODEL, inputs=INPUTS, journal=journal,
    )  # fmt: skip


def _jobs(bench: Bench, contender: Contender, load: Load, count: int, seen: dict[str, Any]) -> None:
    usage, known = bench.server.usage(), seen["known"]
    gave_up = seen["began"] + seen["wall"]
    late = sorted(max(known.get(task, gave_up) - end, 0.0) for task, end in usage["ends"].items())
    late += [gave_up - seen["began"]] * (count - len(late))
    if len(known) < count:
        bench.unfinished("jobs", contender, count, len(known) / count)
    span = max(known.values(), default=gave_up) - seen["began"] if len(known) == count else seen["wall"]
    ideal = load.ideal(count)
    requests = sum(number for kind, number in usage["requests"].items() if not kind.startswith("/control"))
    if len(known) >= count / 2:
        cpu = seen["cpu"] / len(known)
        bench.figures.add("jobs", contender.name, count, [("CPU a job", "ms", cpu * 1e3)])
    bench.figures.add("jobs", contender.name, count, [
        ("requests a job", "", requests / count),
        ("lateness p50", "ms", statistics.median(late) * 1e3),
        ("lateness p99", "ms", late[min(round(0.99 * count), count - 1)] * 1e3),
        ("makespan", "s", span),
        ("beyond the ideal makespan", "%", 100 * (span / ideal - 1)),
        ("peak memory", "MiB", seen["rss"] / 2**20),
        ("longest stall", "ms", seen["stall"] * 1e3),
        ("not done", "%", 100 * (1 - len(known) / count)),
        ("the server's share of its core", "%", bench.share("jobs", contender, count, seen)),
    ])  # fmt: skip


def growth(bench: Bench) -> None:
    """What a waiting job costs as their number grows: two looks each, all waiting at a time."""
    for count, rounds in bench.plan.growth.items():
        for number in range(rounds):
            bench.say(f"growth, n = {count}, round {number + 1} of {rounds}")
            bench.server.reset(Load(), 0)
            order = Order("growth", bench.server.base, count, seconds=240.0)
            seen = bench.run("growth", count, OURS, order)
            if seen is not None:
                bench.figures.add("growth", WIRO, count, [
                    ("CPU a job", "ms", seen["cpu"] / count * 1e3),
                    ("memory a waiting job", "KiB", seen["a_job"] / 1024),
                    ("longest stall", "ms", seen["stall"] * 1e3),
                ])  # fmt: skip


# -- beside the calls ------------------------------------------------------------------------------------


def start(bench: Bench) -> None:
    """CPU of the import, above the interpreter's own start, with the byte code in place."""
    for number in range(max(2 * bench.plan.rounds, 5) + 1):
        for code in IMPORTS:
            seconds = _import_seconds(code)
            if number:  # The first time the byte code is written.
                bench.figures.add("start", code, 1, [("CPU of the import", "ms", seconds * 1e3)])


def _import_seconds(code: str) -> float:
    script = f"import time; begin = time.process_time(); {code}; print(time.process_time() - begin)"
    command = [sys.executable, "-c", script]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environ()).stdout)


def downloads(bench: Bench) -> None:
    """A large output, saved: flushed and renamed by wiro_async, written by httpx, dropped by the bound."""
    n = bench.plan.download
    size = n * 2**20
    url = f"http://127.0.0.1:{bench.server.port}/cdn/{size}/0.mp4"
    contenders = (OURS, RAW_BYTES, SCRIPT_HTTPX)
    for contender in bench.turns("downloads", contenders):
        bench.server.reset(Load(), 0, (url, size))
        bench.server.end()
        base = bench.server.base if contender is OURS else url
        order = Order("download", base, size, seconds=120.0)
        seen = bench.run("downloads", n, contender, order)
        if seen is not None:
            bench.figures.add("downloads", contender.name, n, [
                ("speed", "MB/s", size / MEGABYTE / seen["wall"]),
                ("CPU a GB", "s", seen["cpu"] / (size / 1e9)),
                ("peak memory", "MiB", seen["rss"] / 2**20),
            ])  # fmt: skip


def batch(bench: Bench) -> None:
    """What a batch with its journal adds to a job."""
    if not hasattr(wiro_async.Client, "batch"):
        bench.notice("this version of wiro_async has no batches; left out")
        return
    count = min(bench.plan.jobs)
    for contender in bench.turns("batch", (OURS,)):
        for do in ("jobs", "batch"):
            load = bench.plan.load(count)
            bench.server.reset(load, count)
            with tempfile.TemporaryDirectory() as folder:
                journal = str(Path(folder) / "journal.db")
                order = _order(do, bench, load, count, load.ideal(count) + 60.0, journal=journal)
                seen = bench.run("batch", count, contender, order)
            if seen is not None:
                name = "Client.batch with a journal" if do == "batch" else "gather"
                bench.figures.add("batch", name, count, [
                    ("CPU a job", "ms", seen["cpu"] / count * 1e3),
                    ("time", "s", seen["wall"]),
                ])  # fmt: skip


def journal(bench: Bench) -> None:
    """Durable writes, and the opening of a large journal."""
    if importlib.util.find_spec("wiro_async._journal.sqlite") is None:
        bench.notice("this version of wiro_async has no journal; left out")
        return
    for number, contender in enumerate(bench.turns("journal", (OURS,))):
        rows = 0 if number else bench.plan.rows
        seen = bench.run("journal", rows, contender, Order("journal", "", rows, seconds=120.0))
        for name, figures in (seen or {}).items():
            bench.figures.add("journal", name, bench.plan.rows, figures)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "calls": calls,
    "pieces": pieces,
    "jobs": jobs,
    "start": start,
    "downloads": downloads,
    "growth": growth,
    "journal": journal,
    "batch": batch,
}
