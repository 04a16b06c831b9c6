"""Seeded chaos: callers that submit, wait, stop, download and are cancelled, over a wire that breaks.

    python -m tests.chaos --schedules 10000
    python -m tests.chaos --seed 4711

A schedule is drawn from its seed: who does what and when, who is cancelled how and when, what the wire does
to which request, and how the service tells things: late, oddly, by a clock of its own. Each has a sandbox, a
fault plan and a client of its own. At its end the faults stop, every caller uses what it was given (a handle,
a doubt to reconcile), and the sandbox's ledger is compared with what the callers know. The waits of the
library are shortened to a fraction of a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import functools
import gc
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest import mock

import anyio
import attrs

import wiro_async
from wiro_async import Client, Limits, Polling, SubmissionUnknown, TaskHandle, TaskNotFound, WiroError
from wiro_async._http.retry import DOWNLOADS, READS, RUNS
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox.faults import (
    Blackhole,
    CutSocket,
    Drip,
    Duplicate,
    Fault,
    FaultPlan,
    Foreign,
    Garbage,
    HalfClose,
    Held,
    Html,
    Latency,
    ListLag,
    NoTask,
    Refused,
    Reset,
    RotateKey,
    Status,
    WrongLength,
)

T = TypeVar("T")
Backend = Literal["asyncio", "trio"]

MODEL = "MiniMax/image-to-video-01-director"
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(200)

SETTLE = 0.4
REQUEST = 0.6
SLOT = 1.0
WAIT = 1.2
STOP = 1.2
DOWNLOAD = 1.5
LIMITS = Limits(
    connect_timeout=0.4,
    request_timeout=REQUEST,
    upload_timeout=REQUEST,
    download_timeout=DOWNLOAD,
    slot_timeout=SLOT,
    wait_timeout=WAIT,
    stop_timeout=STOP,
    settle_timeout=SETTLE,
    send_window=1.0,
    margin=0.6,
    error_grace=0.4,
)
POLLING = Polling(min_interval=0.03, max_interval=0.12, requests_per_second=2000, safety_interval=0.3)
"""The safety net is wide enough that a task whose socket fell silent is still found out within ``WAIT``."""

CALL = 3 * REQUEST + 0.3
"""The longest that a call may take: three attempts, and what lies between them."""
QUIET = LIMITS.send_window + REQUEST + LIMITS.margin + SETTLE
LOOKING = QUIET + 3 * CALL
"""The longest search: until the Run is quiet, a reading, and the wait for an equal Run on its way."""

UNSEEN = 0.3
"""Seconds for which a task that was named may be denied."""

LOOP = "(the event loop itself)"
SLACK = 15.0
"""Seconds beyond its deadline after which an await counts as stuck: the machine may be busy."""

SCALED = {
    "wiro_async._jobs.limiter.FIRST_ASKING": 0.05,
    "wiro_async._jobs.limiter.LONGEST_ASKING": 0.2,
    # As often as a read, so that a submit has the same bound.
    "wiro_async._jobs.pipeline.RUNS": attrs.evolve(RUNS, attempts=READS.attempts, base=0.02, longest=0.1),
    "wiro_async._jobs.limiter.RUNS": attrs.evolve(RUNS, base=0.02, longest=0.1),
    "wiro_async._http.retry.REFUSALS": (0.02, 0.04, 0.08),
    "wiro_async._tasks.state.UNSEEN": UNSEEN,
    "wiro_async._http.transport.READS": attrs.evolve(READS, base=0.02, longest=0.1),
    "wiro_async._files.download.DOWNLOADS": attrs.evolve(DOWNLOADS, base=0.08, longest=0.1),
    "wiro_async._files.download.STALL_SECONDS": 0.4,
}

# -- what the wire does ----------------------------------------------------------------------------------

LOST: tuple[Fault, ...] = (
    Reset(after="processing"),
    Reset(at_reply_byte=20),
    Reset(at_reply_byte=150),
    HalfClose(),
    HalfClose(100),
    Held(0.7),
    Blackhole(2.0, processed=True),
    WrongLength(7),
    WrongLength(-7),
    Garbage(),
    Garbage(part="head"),
    Html(200, processed=True),
    Html(502, processed=True),
    Status(500, processed=True),
    Status(504, processed=True),
    Refused(processed=True),
    Refused(processed=True, message="Request files could not be stored", status=400),
    Html(403, processed=True),
    Html(404, processed=True),
    Latency(1.0),
    Drip(60, part="head"),
    Drip(60),
)
"""The service does its work, and nobody hears of it."""

NOT_TAKEN: tuple[Fault, ...] = (
    Reset(),
    Reset(at_request_byte=40),
    Reset(at_request_byte=10_000),
    Blackhole(2.0),
    Html(200),
    Html(502),
    Status(429, retry_after=0.05),
    Status(500),
    Status(503, retry_after=0.05),
    Refused(),
    Html(403),
    Html(401),
)
"""The service never gets the request."""

MILD: tuple[Fault, ...] = (Latency(0.05), Latency(0.3), Drip(5000), HalfClose(None), Duplicate())
CUTS: tuple[Fault, ...] = (
    CutSocket(),
    CutSocket(after="register"),
    CutSocket(after=3, how="close"),
    CutSocket(after=5, how="silence"),
    Reset(),
    Blackhole(2.0),
    Status(503),
    Latency(0.3),
)
"""A WebSocket that breaks, or does not open."""

FALSE: tuple[Fault, ...] = (
    Refused(processed=True, names_task=True),
    Refused(processed=True, status=409, code=97, message="Insufficient balance"),
)
"""A Run is refused, and has a task all the same."""

BLIP = Refused(message="Project authorization is not valid.", status=401)
UNKNOWN: tuple[Fault, ...] = (NoTask(), NoTask(empty=True))
"""The service's machine does not know the task yet."""

FOREIGN: tuple[Fault, ...] = (Foreign(), Foreign(invented=True))
SHORT_LAG: tuple[Fault, ...] = (ListLag(0.1), ListLag(0.2))
LONG_LAG: tuple[Fault, ...] = (ListLag(3.0), ListLag(float("inf")))
ROTATED = RotateKey("rotated-key", "rotated-secret")


@attrs.frozen
class Rule:
    """How often which faults befall an operation."""

    operation: str
    probability: float
    faults: tuple[Fault, ...] = attrs.field(repr=False)


# -- what the callers do ---------------------------------------------------------------------------------

CANCELS = ("scope", "native", "twice", "timeout")
ACTS = (
    "wait", "result", "stop", "cancel", "kill", "refresh", "iterate", "two waiters", "wait or stop", "tasks",
)  # fmt: skip
DIRECTIVES = (
    "short", "fail", "queue", "hang", "error", "run=5", "run=100", "log=100000",
    # Records that come late, and ends that are none yet.
    "error][sandbox:after=requeue", "error][sandbox:after=end", "late=20", "late=never", "bare=20",
    "bare=never", "nofiles=20",
)  # fmt: skip


@attrs.frozen
class Job:
    """One caller: it submits once, and does things with the handle. All times are in seconds."""

    number: int
    prompt: str
    delay: float
    runs: bool
    acts: tuple[str, ...]
    downloads: str
    timeout: float
    slot_timeout: float | None
    on_unknown: wiro_async.OnUnknown
    on_cancel: wiro_async.OnCancel
    callback: str | None
    watch: wiro_async.Watch
    uploads: bool
    cancel: str
    cancel_after: float


@attrs.frozen
class Schedule:
    """All that a seed decides."""

    seed: int
    backend: Backend
    service: dict[str, Any]
    jobs: tuple[Job, ...]
    rules: tuple[Rule, ...]
    rotate_after: int | None
    concurrency: int
    max_in_flight: int


def draw(seed: int, backend: Backend) -> Schedule:
    """Draw a schedule from its seed."""
    rng = random.Random(f"chaos/{seed}")
    rotates = rng.random() < 0.08
    resubmits = not rotates and rng.random() < 0.35
    # Who attaches with the new key cannot see that a Run's answer had been another's, so these do not meet.
    foreign = not rotates and rng.random() < 0.35
    service = _service(random.Random(f"service/{seed}"))
    return Schedule(
        seed=seed,
        backend=backend,
        service=service,
        jobs=tuple(_jobs(rng, backend, resubmits=resubmits, foreign=foreign)),
        rules=_rules(
            rng,
            foreign=foreign,
            resubmits=resubmits,
            measured=service["record_size"] not in ("zero", "none"),
        ),
        rotate_after=rng.randrange(12) if rotates else None,
        concurrency=rng.choice((1, 2, 3, 1000, 1000, 1000)),
        max_in_flight=rng.choice((1, 2, 4, 8, 32)),
    )


def _service(rng: random.Random) -> dict[str, Any]:
    """How the service tells things; the options of a sandbox."""
    # Within the hour that a look-alike may be off: beyond, only the Date header helps.
    skew = rng.choice((0.0, 0.0, 0.0, 20.0, -20.0, 600.0, -600.0, 1800.0, -1800.0))
    return {
        "clock_skew": skew,
        "send_date": rng.random() < 0.5,
        "charge_delay": rng.choice((0.0, 0.0, 30.0, float("inf"))),
        "bare_seconds": rng.choice((0.0, 0.0, 0.0, 20.0)),
        "nofiles_seconds": rng.choice((0.0, 0.0, 0.0, 20.0)),
        "outputs_name": rng.choice(("outputs", "output")),
        "charge_stopped": rng.random() < 0.3,
        "record_size": rng.choice(("true", "true", "zero", "none", "larger", "smaller")),
        "mislabel": rng.random() < 0.2,
        "moving_urls": rng.random() < 0.3,
        "cdn_encoding": rng.choice(("", "", "", "gzip", "deflate", "aws-chunked", "utf-8", "identity")),
        "cdn_length": rng.random() < 0.8,
    }


def _rules(rng: random.Random, *, foreign: bool, resubmits: bool, measured: bool) -> tuple[Rule, ...]:
    # A CDN that lies about a file is found out by the size in the record only.
    of_files = tuple(
        fault for fault in LOST + NOT_TAKEN + MILD if measured or not isinstance(fault, WrongLength | Garbage)
    )
    common = LOST + NOT_TAKEN + MILD
    others = FOREIGN if foreign else ()
    # What is resent was proved absent by the list, so there the list may be late or broken, but may not lie.
    lists = SHORT_LAG if resubmits else SHORT_LAG + LONG_LAG + others
    return (
        Rule("Run", rng.choice((0.15, 0.35, 0.6)), (*common, *FALSE, BLIP, *others * 4)),
        Rule("Task/Detail", rng.choice((0.0, 0.1, 0.3)), (*common, BLIP) + UNKNOWN * 3 + others),
        Rule("Task/List", rng.choice((0.0, 0.2, 0.5)), (*common, BLIP) + lists * 2),
        Rule("Task/Cancel", rng.choice((0.0, 0.3)), (*common, BLIP, *UNKNOWN, *others)),
        Rule("Task/Kill", rng.choice((0.0, 0.3)), (*common, BLIP, *UNKNOWN, *others)),
        Rule("File/Upload", 0.2, common),
        Rule("cdn", rng.choice((0.0, 0.3)), of_files),
        Rule("socket", rng.choice((0.0, 0.5, 0.9)), CUTS),
    )


def _jobs(rng: random.Random, backend: Backend, *, resubmits: bool, foreign: bool) -> Iterator[Job]:
    identical = rng.random() < 0.25
    # Detail's short form tells no inputs, and files are compared by nobody, for the service may move them: so
    # there it cannot be seen that a Run's answer had been another's.
    directives = DIRECTIVES[1:] if foreign else DIRECTIVES
    for number in range(rng.randint(3, 7)):
        directive = f" [sandbox:{rng.choice(directives)}]" if rng.random() < 0.35 else ""
        yield Job(
            number=number,
            prompt="the same" if identical and rng.random() < 0.8 else f"waves {number}{directive}",
            delay=rng.choice((0.0, 0.0, rng.random() * 0.3)),
            runs=rng.random() < 0.35,
            acts=tuple(rng.choices(ACTS, k=rng.randint(0, 3))),
            downloads=rng.choice(("", "save", "read")),
            timeout=rng.choice((0.1, 0.4, 0.8, WAIT)),
            slot_timeout=rng.choice((None, None, 0.0, 0.4)),
            on_unknown="resubmit" if resubmits and rng.random() < 0.7 else "raise",
            on_cancel=rng.choice(("keep", "stop")),
            # Of equal Runs with another's answer, it cannot be seen which one had the callback.
            callback=rng.choice((None, None, "https://example.org/done?a=1" if not foreign else None)),
            # The callback's host is nowhere: every one of them is lost.
            watch=rng.choice(("auto", "auto", "poll", "callback")),
            uploads=rng.random() < 0.1 and not (identical and foreign),
            cancel="" if rng.random() < 0.5 else rng.choice(CANCELS if backend == "asyncio" else CANCELS[:1]),
            cancel_after=rng.random() ** 2 * 1.2,
        )


# -- measuring -------------------------------------------------------------------------------------------


@attrs.define
class Report:
    """What became of a number of schedules.

    Attributes:
        schedules: How many there were.
        seconds: How long they took.
        counts: What happened in them.
        overruns: By kind of await, the longest time beyond its deadline, in seconds.
        failures: By seed, a text that tells all.
    """

    schedules: int = 0
    seconds: float = 0.0
    counts: Counter[str] = attrs.field(factory=Counter)
    overruns: dict[str, float] = attrs.field(factory=dict)
    failures: dict[int, str] = attrs.field(factory=dict)

    def overrun(self, what: str, seconds: float) -> None:
        """Note how far an await went beyond its deadline."""
        self.overruns[what] = max(self.overruns.get(what, 0.0), seconds)

    def add(self, other: Report) -> None:
        """Add what another process saw at the same time."""
        self.schedules += other.schedules
        self.seconds = max(self.seconds, other.seconds)
        self.counts += other.counts
        self.failures |= other.failures
        for what, seconds in other.overruns.items():
            self.overrun(what, seconds)

    @classmethod
    def parse(cls, text: str) -> Report:
        """Read what ``json.dumps(attrs.asdict(report))`` wrote."""
        facts = json.loads(text)
        facts["counts"] = Counter(facts["counts"])
        facts["failures"] = {int(seed): story for seed, story in facts["failures"].items()}
        return cls(**facts)

    def __str__(self) -> str:
        lines = [f"{self.schedules} schedules in {self.seconds:.0f} s, {len(self.failures)} failed"]
        lines += [f"  {count:8} {what}" for what, count in sorted(self.counts.items())]
        lines += [f"  {seconds:8.3f} s over: {what}" for what, seconds in sorted(self.overruns.items())]
        return "\n".join([*lines, *self.failures.values()])


@attrs.define(eq=False)
class Record:
    """What one caller was told.

    Attributes:
        job: What it wanted.
        handles: What it was given.
        ids: Tasks that it knows for certain to be its own.
        doubts: What it was told that nobody knows.
        endings: How tasks ended, as it was told.
        costs: What tasks were charged, as it was told, in USD (None: not recorded yet).
        files: What it downloaded, by task.
        errors: Every error that it met.
        cancelled: Whether it was cancelled.
        wrong: What must not happen to any caller.
    """

    job: Job
    handles: list[TaskHandle] = attrs.field(factory=list)
    ids: set[str] = attrs.field(factory=set)
    doubts: list[SubmissionUnknown] = attrs.field(factory=list)
    endings: dict[str, str] = attrs.field(factory=dict)
    costs: dict[str, Decimal | None] = attrs.field(factory=dict)
    files: list[tuple[wiro_async.Output, bytes]] = attrs.field(factory=list, repr=False)
    errors: list[str] = attrs.field(factory=list)
    cancelled: bool = False
    wrong: list[str] = attrs.field(factory=list)


class Caller:
    """Does one job, and keeps the record."""

    def __init__(self, client: Client, job: Job, report: Report, folder: Path) -> None:
        self._client = client
        self._job = job
        self._report = report
        self._folder = folder
        self._grace = 0.0
        self.record: Record = Record(job)

    async def live(self) -> None:
        """Do the job, and be cancelled as it says."""
        await anyio.sleep(self._job.delay)
        start = anyio.current_time()
        try:
            self.record.cancelled = await _CANCELLING[self._job.cancel](self._work, self._job.cancel_after)
        except Exception:
            self.record.wrong.append(traceback.format_exc())
        if self.record.cancelled:
            late = anyio.current_time() - start - self._job.cancel_after
            self._judge("cancellation", late - self._grace)

    def _judge(self, what: str, overrun: float) -> None:
        self._report.overrun(what, overrun)
        if overrun > SLACK + self._report.overruns.get(LOOP, 0.0):
            self.record.wrong.append(f"{what}: {overrun:.2f} s beyond its deadline")

    @contextmanager
    def _within(self, what: str, seconds: float, grace: float = 0.0) -> Iterator[None]:
        """Measure an await.

        Args:
            what: What it is.
            seconds: How long it may take.
            grace: How long it may hold a cancellation back.
        """
        self._grace = grace
        start = anyio.current_time()
        try:
            yield
        except anyio.get_cancelled_exc_class():
            raise
        except WiroError as error:
            self._note(error)
        self._judge(what, anyio.current_time() - start - seconds)

    def _note(self, error: WiroError) -> None:
        self.record.errors.append(f"{type(error).__name__}: {error}")
        doubt = error.doubt if isinstance(error, TaskNotFound) else error
        if isinstance(doubt, SubmissionUnknown):
            self.record.doubts.append(doubt)
        left = wiro_async.TaskTimeout | wiro_async.TaskUnclear
        if isinstance(error, left) and error.handle not in self.record.handles:
            assert error.handle is not None
            self.record.handles.append(error.handle)
        elif isinstance(error, wiro_async.TaskFailed | wiro_async.TaskCancelled):
            assert error.task is not None
            self._ended(error.task)
            if "it was not billed" in str(error):
                self.record.costs[error.task.id] = Decimal(0)

    def _ended(self, task: wiro_async.Task) -> None:
        self.record.ids.add(task.id)
        self.record.endings[task.id] = str(task.outcome)
        self.record.costs[task.id] = task.cost

    # -- submitting --------------------------------------------------------------------------------------

    async def _work(self) -> None:
        job = self._job
        image: Any = IMAGE if job.uploads else "https://example.org/a.png"
        inputs = {"inputImageFirstUrl": image, "prompt": job.prompt}
        submitting = (REQUEST if job.uploads else 0.0) + SLOT + CALL
        submitting += (3 if job.on_unknown == "resubmit" else 1) * (SLOT + CALL + LOOKING)
        if job.runs:
            await self._run(inputs, submitting)
            return
        handle: TaskHandle | None = None
        with self._within("submit", submitting, REQUEST):
            handle = await self._client.submit(
                MODEL,
                inputs,
                slot_timeout=job.slot_timeout,
                on_unknown=job.on_unknown,
                callback_url=job.callback,
                watch=job.watch,
            )
        if handle is not None:
            self.record.handles.append(handle)
            await self._use(handle)

    async def _run(self, inputs: dict[str, Any], submitting: float) -> None:
        job = self._job
        done: list[wiro_async.Task] = []
        stopping = STOP if job.on_cancel == "stop" else 0.0
        with self._within("run", submitting + WAIT + stopping, REQUEST + stopping):
            result = await self._client.run(
                MODEL,
                inputs,
                timeout=job.timeout + SLOT,
                on_cancel=job.on_cancel,
                on_unknown=job.on_unknown,
                callback_url=job.callback,
                watch=job.watch,
            )
            self._ended(result.task)
            done.append(result.task)
        for task in done if job.downloads else ():
            await self._download(task)

    # -- using the handle --------------------------------------------------------------------------------

    async def _use(self, handle: TaskHandle) -> None:
        for act in self._job.acts:
            if not self.record.doubts:
                await self._act(act, handle)
        task = handle.task
        # Who stops a task that has ended meanwhile does not wait for outputs that come later.
        if self._job.downloads and task is not None and task.outcome == "succeeded" and task.outputs:
            await self._download(task)

    async def _act(self, act: str, handle: TaskHandle) -> None:
        seconds = self._job.timeout
        if act == "two waiters":
            async with anyio.create_task_group() as group:
                group.start_soon(self._act, "wait", handle)
                group.start_soon(self._act, "iterate", handle)
            return
        acts: dict[str, tuple[Callable[[], Awaitable[object]], float, float]] = {
            "wait": (lambda: handle.wait(seconds), seconds, 0.0),
            "result": (lambda: handle.result(seconds), seconds, 0.0),
            "wait or stop": (lambda: handle.wait(seconds, on_cancel="stop"), seconds + STOP, STOP),
            "stop": (handle.stop, STOP, 0.0),
            "cancel": (handle.cancel, 2 * CALL, 0.0),
            "kill": (handle.kill, 2 * CALL, 0.0),
            "refresh": (handle.refresh, CALL, 0.0),
            "iterate": (lambda: _exhaust(handle), 12 * WAIT, 0.0),
            "tasks": (lambda: anext(self._client.list_tasks(), None), CALL, 0.0),
        }
        do, bound, grace = acts[act]
        with self._within(act, bound, grace):
            await do()

    async def _download(self, task: wiro_async.Task) -> None:
        (output,) = task.outputs
        with self._within(self._job.downloads, DOWNLOAD):
            if self._job.downloads == "read":
                data = await output.read()
            else:
                path = await output.save(self._folder / f"{self._job.number}.bin")
                data = await anyio.Path(path).read_bytes()
            self.record.files.append((output, data))


async def _exhaust(handle: TaskHandle) -> None:
    async for _ in handle:
        pass


# -- being cancelled -------------------------------------------------------------------------------------

Work = Callable[[], Awaitable[None]]


async def _in_peace(work: Work, _after: float) -> bool:
    await work()
    return False


async def _by_scope(work: Work, after: float) -> bool:
    with anyio.move_on_after(after) as scope:
        await work()
    return scope.cancelled_caught


async def _by_timeout(work: Work, after: float) -> bool:
    try:
        async with asyncio.timeout(after) as limit:
            await work()
    except TimeoutError:
        if not limit.expired():
            raise
        return True
    assert not limit.expired(), "a cancellation was swallowed"
    return False


async def _by_task(work: Work, after: float, *, again: bool = False) -> bool:
    async def run() -> None:
        await work()

    task = asyncio.create_task(run())
    done, _ = await asyncio.wait({task}, timeout=after)
    asked = not done and task.cancel()
    if asked and again:
        await asyncio.sleep(0.002)
        task.cancel()
    await asyncio.wait({task})
    if task.cancelled():
        return True
    task.result()
    assert not asked, "a cancellation was swallowed"
    return False


async def _by_task_twice(work: Work, after: float) -> bool:
    return await _by_task(work, after, again=True)


_CANCELLING: dict[str, Callable[[Work, float], Awaitable[bool]]] = {
    "": _in_peace,
    "scope": _by_scope,
    "native": _by_task,
    "twice": _by_task_twice,
    "timeout": _by_timeout,
}


# -- one schedule ----------------------------------------------------------------------------------------


@attrs.define
class Story:
    """What callers know when all is over.

    Attributes:
        records: What each was told.
        late: Tasks in ``client.unclaimed``.
        found: Tasks that ``client.reconcile`` found.
        named: Tasks that it named: they may be what is looked for, if the clocks are far apart.
        wrong: What must not be.
    """

    records: list[Record]
    late: list[str] = attrs.field(factory=list)
    found: list[str] = attrs.field(factory=list)
    named: set[str] = attrs.field(factory=set)
    wrong: list[str] = attrs.field(factory=list)


async def play(schedule: Schedule, report: Report, folder: Path) -> str:
    """Play one schedule, count what happened, note what was wrong, and tell the story."""
    plan = FaultPlan(schedule.seed)
    for rule in schedule.rules:
        plan.random(rule.probability, [rule.operation], faults=rule.faults)
    if schedule.rotate_after is not None:
        plan.script("Task/Detail", ROTATED, skip=schedule.rotate_after)
    async with Sandbox(
        seed=schedule.seed, speed=250, render=False, faults=plan, balance=10**6,
        concurrency_limit=schedule.concurrency, allow_fetch=["127.0.0.1"], **schedule.service,
    ) as sandbox:  # fmt: skip
        story = await _story(schedule, report, folder, sandbox)
        ledger = sandbox.ledger()
    wrong = [*story.wrong, *check(ledger, story)]
    _count(report, plan, ledger, story)
    text = _tell(schedule, plan, ledger, story, wrong)
    if wrong:
        report.failures[schedule.seed] = text
    return text


async def _story(schedule: Schedule, report: Report, folder: Path, sandbox: Sandbox) -> Story:
    key, secret = sandbox.config.api_key, sandbox.config.api_secret
    limits = attrs.evolve(LIMITS, max_in_flight=schedule.max_in_flight)
    assert sandbox.faults is not None
    async with Client(
        key, secret, base_url=sandbox.base_url, socket_url=sandbox.socket_url, polling=POLLING, limits=limits
    ) as client:
        callers = [Caller(client, job, report, folder) for job in schedule.jobs]
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller.live)
        story = Story([caller.record for caller in callers])
        story.wrong += stuck(client)
        sandbox.faults.clear()
        rotated = any(injection.fault == ROTATED for injection in sandbox.faults.injected)
        await _recollect(client, story, None if not rotated else sandbox.base_url)
        story.wrong += stuck(client)
    assert client._service.sockets is not None
    if count := client._service.sockets.open_sockets:
        story.wrong.append(f"{count} WebSockets were left open")
    if any(stack.connections for stack in stacks_of(client)):
        story.wrong.append("connections are open after aclose()")
    return story


def stacks_of(client: Client) -> tuple[Any, Any]:
    """Return a client's own connections: those to the service, and those to its files."""
    service: Any = client._service
    return service.transport._http._inner, service.downloader._http


def stuck(client: Client) -> list[str]:
    """Tell what is occupied although nobody calls."""
    service, statistics = client._service, client.statistics()
    downloads = service.downloader._gate
    occupied = {
        "slots in flight": statistics.in_flight,
        "callers in the queue": statistics.waiting,
        "connections in use": sum(len(stack._busy) for stack in stacks_of(client)),
        "Runs on their way": service.runs.flying,
        "places in the line": service.line.waiting,
        "downloads": downloads.in_flight + downloads.waiting,
        "Runs under way": service.transport.paid_calls,
    }
    return [f"stuck: {count} {what}" for what, count in occupied.items() if count]


async def _recollect(client: Client, story: Story, rotated: str | None) -> None:
    """Let every caller use what it has, over a wire that works."""
    doubts = [error for record in story.records for error in record.doubts[-1:]]
    doubts += client.unresolved
    new = client
    if rotated is not None:
        new = Client("rotated-key", "rotated-secret", base_url=rotated, polling=POLLING, limits=LIMITS)
    try:
        for handle in client.unclaimed:
            await _claim(new, client, handle, story.late.append, doubts)
        for record in story.records:
            for handle in record.handles:
                await _claim(new, client, handle, record.ids.add, [] if record.doubts else doubts)
        for task_id in [*story.late, *(task_id for record in story.records for task_id in record.ids)]:
            new.attach(task_id)
        for error in doubts:
            try:
                handle = await _patiently(functools.partial(new.reconcile, error))
                story.found.append(str(handle.id))
            except SubmissionUnknown as doubt:
                story.named |= set(re.findall(r"task (\d+) has the same model and inputs", str(doubt)))
        files = [file for record in story.records for file in record.files]
        for output, data in files:
            whole = await _patiently(functools.partial(output.read, timeout=30))
            if whole != data:
                told = f"{len(data)} bytes ...{data[-120:]!r}, not {len(whole)} ...{whole[-120:]!r}"
                story.wrong.append(f"{output} has {told}")
    except WiroError:
        story.wrong.append(f"after the faults:\n{traceback.format_exc()}")
    finally:
        await new.aclose()


async def _claim(
    new: Client,
    old: Client,
    handle: TaskHandle,
    claim: Callable[[str], object],
    doubts: list[SubmissionUnknown],
) -> None:
    """Look at a task that a caller has the handle of: it is its own, or a doubt."""
    try:
        task = await _patiently((handle if new is old else new.attach(handle.id)).refresh)
    except SubmissionUnknown as error:
        doubts.append(error)
    except TaskNotFound as error:
        if error.doubt is None:
            raise
        doubts.append(error.doubt)
    else:
        claim(task.id)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call over a wire that works: only a machine that is too busy for its deadline can fail it."""
    for _ in range(5):
        try:
            return await call()
        except SubmissionUnknown as error:
            if error.absent or error.cause.startswith("the reply name"):
                raise
        except (wiro_async.ConnectionFailed, wiro_async.DownloadError):
            await anyio.sleep(0.2)
        except TaskNotFound as error:
            if not error.passing:
                raise
            await anyio.sleep(UNSEEN)
    return await call()


# -- the checker -----------------------------------------------------------------------------------------

_PEXITS = {"succeeded": "0", "failed": "1", "cancelled": ""}


def check(ledger: dict[str, Any], story: Story) -> list[str]:
    """Compare the ledger with what callers were told, and return what does not fit."""
    wrong = [f"caller {record.job.number}: {text}" for record in story.records for text in record.wrong]
    tasks = {entry["id"]: entry for entry in ledger["tasks"]}
    claims = Counter(task_id for record in story.records for task_id in record.ids)
    claims.update([*story.late, *story.found])
    wrong += [f"{count} callers were given task {task_id}" for task_id, count in claims.items() if count > 1]
    wrong += [f"a caller was given task {task_id}, which is not" for task_id in claims.keys() - tasks.keys()]
    # Of equal Runs whose clock is far off, only one task is named.
    named = {tasks[task_id]["prompt"] for task_id in story.named & tasks.keys()}
    wrong += [
        f"nobody was told of task {task_id}"
        for task_id in tasks.keys() - claims.keys()
        if tasks[task_id]["prompt"] not in named
    ]
    wanted = Counter(record.job.prompt for record in story.records)
    for prompt, count in Counter(entry["prompt"] for entry in ledger["tasks"]).items():
        if count > wanted[prompt]:
            wrong.append(f"{prompt!r} was wanted {wanted[prompt]} times, and accepted {count} times")
    for record in story.records:
        wrong += _misled(record, tasks)
    if ledger["credentials_leaked"]:
        wrong.append("a key was sent to the CDN")
    return wrong


def _misled(record: Record, tasks: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield what a caller was told of a task, and is not so."""
    who = f"caller {record.job.number}"
    if len(record.ids) > 1:
        yield f"{who} was given several tasks: {sorted(record.ids)}"
    for task_id in record.ids & tasks.keys():
        if tasks[task_id]["prompt"] != record.job.prompt:
            yield f"{who} was given task {task_id}, which is another's"
        outcome = record.endings.get(task_id)
        if outcome is not None and tasks[task_id]["pexit"] != _PEXITS[outcome]:
            yield f"{who} was told that task {task_id} {outcome}"
        cost = record.costs.get(task_id)
        if cost is not None and cost != Decimal(tasks[task_id]["totalcost"]):
            yield f"{who} was told that task {task_id} cost {cost}"


# -- telling ---------------------------------------------------------------------------------------------


def _count(report: Report, plan: FaultPlan, ledger: dict[str, Any], story: Story) -> None:
    counts = report.counts
    report.schedules += 1
    counts["callers"] += len(story.records)
    counts["tasks accepted"] += ledger["runs"]
    counts["tasks paid"] += ledger["paid"]
    counts["refused by code 96"] += ledger["refused"].get("96", 0)
    counts["tasks in client.unclaimed"] += len(story.late)
    counts["tasks found by reconcile() afterwards"] += len(story.found)
    counts["tasks named by a doubt, for the clocks differ"] += len(story.named)
    counts["files downloaded"] += sum(len(record.files) for record in story.records)
    for record in story.records:
        counts[f"callers cancelled: {record.job.cancel}"] += record.cancelled
        counts["callers told SubmissionUnknown"] += bool(record.doubts)
        counts["callers told of an end before its charge"] += None in record.costs.values()
        for error in record.errors:
            counts[f"error: {error.partition(':')[0]}"] += 1
    for injection in plan.injected:
        kind = type(injection.fault).__name__
        counts[f"fault: {kind}{', processed' if injection.processed else ''}"] += 1
        counts["Runs whose answer was lost"] += injection.operation == "Run" and injection.fault in LOST
    counts["faults"] += len(plan.injected)


def _tell(
    schedule: Schedule, plan: FaultPlan, ledger: dict[str, Any], story: Story, wrong: Sequence[str]
) -> str:
    """Tell a schedule with both views of it."""
    lines = [f"=== seed {schedule.seed} ===", *wrong, "", "The schedule:"]
    lines += [f"  {attrs.evolve(schedule, jobs=())}", *(f"  {job}" for job in schedule.jobs)]
    lines += ["The faults:"]
    lines += [f"  {each.at:.3f} {each.operation} {each.number}: {each.fault}" for each in plan.injected]
    lines += ["The ledger:"]
    lines += [
        f"  {entry['created']:.3f} {entry['id']} {entry['status']} pexit={entry['pexit']!r} "
        f"{entry['prompt']!r} {entry['callbackurl']}"
        for entry in ledger["tasks"]
    ]
    lines += [f"  refused: {ledger['refused']}, requests: {ledger['requests']}", "The callers:"]
    for record in story.records:
        told = "cancelled, " if record.cancelled else ""
        lines.append(f"  {record.job.number}: {told}tasks {sorted(record.ids)}, {record.endings}")
        lines += [f"     {error}" for error in record.errors]
    lines += [f"  unclaimed: {story.late}, reconciled: {story.found}"]
    replay = f"Replay it: python -m tests.chaos --seed {schedule.seed} --backend {schedule.backend}"
    return "\n".join([*lines, replay])


# -- many schedules --------------------------------------------------------------------------------------

_seed: contextvars.ContextVar[str] = contextvars.ContextVar("seed", default="no schedule")


class _Watch(logging.Handler):
    """Counts what the library says in its log, and what the interpreter complains of."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.INFO)
        self._report = report
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        for words, name in (("answer was lost is task", "tasks adopted"), ("sending it anew", "Runs resent")):
            if words in record.msg:
                self._report.counts[name] += 1

    def complain(self, *args: Any) -> None:
        """Serve as the loop's exception handler, and as the hook for what cannot be raised."""
        self.complaints.append(" ".join(map(str, args)))


@contextmanager
def shortened() -> Iterator[None]:
    """Shorten the library's waits."""
    patches = [mock.patch(name, value) for name, value in SCALED.items()]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def run(
    seeds: Sequence[int],
    backend: Backend = "asyncio",
    parallel: int = 16,
    tell: Callable[[str], object] = lambda _: None,
) -> Report:
    """Play schedules in this process, several at a time, and tell the story of each."""
    report = Report()
    watch = _Watch(report)
    log = logging.getLogger("wiro_async")
    before = log.level, log.propagate, sys.unraisablehook
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(watch)
    sys.unraisablehook = watch.complain
    start = time.monotonic()
    try:
        with shortened(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("error", ResourceWarning)
            work = functools.partial(_play_all, seeds, backend, Path(folder), parallel=parallel, tell=tell)
            anyio.run(work, report, watch, backend=backend)
            gc.collect()
    finally:
        log.removeHandler(watch)
        log.level, log.propagate, sys.unraisablehook = before
    report.seconds = time.monotonic() - start
    if watch.complaints:
        report.failures[-1] = "\n".join(["the interpreter complained:", *watch.complaints])
    return report


async def _play_all(
    seeds: Sequence[int],
    backend: Backend,
    folder: Path,
    report: Report,
    watch: _Watch,
    *,
    parallel: int,
    tell: Callable[[str], object],
) -> None:
    places = anyio.CapacityLimiter(parallel)

    async def play_one(seed: int) -> None:
        _seed.set(f"seed {seed}")
        async with places:
            mine = folder / str(seed)
            mine.mkdir()
            tell(await play(draw(seed, backend), report, mine))

    if backend == "asyncio":
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(watch.complain)
        loop.set_task_factory(_named_task)
    async with anyio.create_task_group() as group:
        group.start_soon(_feel_pulse, report)
        async with anyio.create_task_group() as players:
            for seed in seeds:
                players.start_soon(play_one, seed)
        group.cancel_scope.cancel()
    if backend == "asyncio":
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            watch.complain("a task was left behind:", task)


async def _feel_pulse(report: Report) -> None:
    """Note how late the event loop itself is: so late may every await be through no fault of its own."""
    while True:
        due = anyio.current_time() + 0.01
        await anyio.sleep_until(due)
        report.overrun(LOOP, anyio.current_time() - due)


def _named_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    task.set_name(f"{_seed.get()}: {task.get_name()}")
    return task


def spread(seeds: range, backend: Backend = "asyncio", parallel: int = 16) -> Report:
    """Play schedules in as many processes as there are cores."""
    workers = os.cpu_count() or 1
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    processes = []
    for part in (seeds[number::workers] for number in range(workers)):
        command = [sys.executable, "-m", "tests.chaos", "--worker", "--backend", backend]
        command += [
            "--parallel",
            str(parallel),
            "--schedules",
            str(len(part)),
            "--first-seed",
            str(part.start),
            "--step",
            str(part.step),
        ]
        processes.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env=environ, cwd=Path(__file__).parents[1]
            )
        )
    report = Report()
    for process in processes:
        output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"a worker of the chaos suite ended with {process.returncode}")
        report.add(Report.parse(output))
    return report


def main() -> int:
    """Play what the command line asks for; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="the distance from one seed to the next")
    parser.add_argument("--seed", type=int, help="replay one schedule, and tell all of it")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--parallel", type=int, default=16, help="schedules at a time in each process")
    parser.add_argument("--worker", action="store_true", help="play all in this process, and print JSON")
    options = parser.parse_args()
    last = options.first_seed + options.schedules * options.step
    seeds = range(options.first_seed, last, options.step)
    if options.worker:
        sys.stdout.write(json.dumps(attrs.asdict(run(seeds, options.backend, options.parallel))))
        return 0
    if options.seed is not None:
        report = run([options.seed], options.backend, tell=sys.stdout.write)
    else:
        report = spread(seeds, options.backend, options.parallel)
    sys.stdout.write(f"{report}\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
