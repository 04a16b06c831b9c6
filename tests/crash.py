"""Power cuts: a batch in a child process is killed, and resumed, until it is done.

Then the sandbox's books, the journal and the folder are compared: every key has exactly one paid run, every
clip is whole, no task is unknown to the journal, and once all charges are recorded it has each of them. Some
tasks stand in ``task_error`` meanwhile. ``python -m tests.crash`` runs many schedules; each is replayable by
its seed.

A helper process without threads or sockets forks the children, so that one costs milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from asyncio import selector_events
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from wiro_async import Client, InvalidInput, Job, JournalError, Limits, Polling
from wiro_async._files import download
from wiro_async._jobs import pipeline
from wiro_async._jobs.job import JobState
from wiro_async._journal import sqlite, store
from wiro_async._journal.steps import Accepted, Ended, Intended, Released, Saved, Step
from wiro_async._tasks import state
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox.faults import Fault, FaultPlan, Held, Html, NoTask, Refused, Request

MODEL = "MiniMax/image-to-video-01-director"
JOBS = 4
SPEED = 300.0
SETTLE = 0.3
LIMITS = Limits(
    settle_timeout=SETTLE,
    send_window=1.0,
    request_timeout=1.5,
    margin=0.2,
    wait_timeout=30.0,
    error_grace=0.2,
)
"""A Run is quiet three seconds after its intent."""
HELD = 1.2
"""Seconds for which the network holds a Run whose process is killed: past the resume, and not past that."""
RESUMES = 4
"""How often a batch is resumed at its end, until every job is done, and until every charge is settled."""
FATES = {"stalled": " [sandbox:error worker lost]", "requeued": " [sandbox:error][sandbox:after=requeue]"}
"""What some jobs' prompts ask for: their tasks stand in task_error until they are released, or go back to the
queue by themselves."""
POLLING = Polling(min_interval=0.02, max_interval=0.2, requests_per_second=500.0)
LONGEST_LIFE = 60.0

FALSE_REFUSALS: tuple[Fault, ...] = (
    Refused(processed=True),
    Refused(processed=True, names_task=True),
    Refused(processed=True, status=409, code=97, message="Insufficient balance"),
    Html(403, processed=True),
)
"""Refusals of Runs that were accepted."""

POINTS = (
    "before the intent",
    "after the intent",
    "connection made",
    "request half written",
    "request written",
    "request held",
    "answer lost",
    "answer read",
    "answer recorded",
    "before the first poll",
    "end seen",
    "download begun",
    "file in place",
    "checkpoint",
    "closed",
)
"""Where the power is cut, in the order of a job's life."""


@attrs.frozen
class Cut:
    """One power cut: at the *nth* time that a point is reached, or after some seconds."""

    point: str = ""
    nth: int = 1
    after: float | None = None


@attrs.frozen
class Schedule:
    """What befalls one batch: cuts one after the other, each in a process of its own.

    Attributes:
        seed: What it is drawn from, together with the point.
        point: Where the first cut is ("": at a random moment).
        cuts: All of them.
        fates: What becomes of the jobs' tasks, by job ("": nothing out of the ordinary); see ``FATES``.
        moved: What befalls the journal after the first cut: ``half``: a copy of its main file alone is
            opened; ``restored``: a backup is resumed after the batch has come to its end ("": nothing).
    """

    seed: int
    point: str
    cuts: tuple[Cut, ...]
    fates: tuple[str, ...]
    moved: str = ""

    @property
    def command(self) -> str:
        """What plays this schedule again, and no other."""
        which = "--each 0 --random 1 --moved 0"
        if self.moved:
            which = "--each 0 --random 0 --moved 1"
        elif self.point:
            which = f"--each 1 --random 0 --moved 0 --points {shlex.quote(self.point)}"
        return f"python -m tests.crash --seed {self.seed} {which}"


def at_point(point: str, seed: int) -> Schedule:
    """Return a schedule of one cut at a point, and sometimes another while it is resumed."""
    rng = random.Random(f"{point}/{seed}")
    fates = _fates(seed)
    most = JOBS - fates.count("stalled")
    cuts = [Cut(point, 1 if point in ("checkpoint", "closed") else rng.randint(1, most))]
    if rng.random() < 0.3:
        cuts.append(Cut(rng.choice(POINTS), rng.randint(1, 2)))
    return Schedule(seed, point, tuple(cuts), fates)


def _fates(seed: int) -> tuple[str, ...]:
    rng = random.Random(f"fates/{seed}")
    return (*rng.choices(("", *FATES), (8, 1, 1), k=JOBS - 1), "")


def at_random(seed: int) -> Schedule:
    """Return a schedule of one to three cuts at random moments."""
    rng = random.Random(f"moment/{seed}")
    cuts = tuple(Cut(after=rng.uniform(0.0, 0.5)) for _ in range(rng.randint(1, 3)))
    return Schedule(seed, "", cuts, _fates(seed))


def with_moved_journal(how: str, seed: int) -> Schedule:
    """Return a schedule of one cut, at any point or moment, of a batch whose journal is copied then."""
    rng = random.Random(f"{how}/{seed}")
    cut = (
        Cut(after=rng.uniform(0.1, 0.5))
        if rng.random() < 0.5
        else Cut(rng.choice(POINTS[1:12]), rng.randint(1, 3))
    )
    return Schedule(seed, cut.point, (cut,), _fates(seed), how)


# -- the child -------------------------------------------------------------------------------------------


def die() -> None:
    """Cut the power of this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class _Fuse:
    """Counts how often the point is reached."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.left = cut.nth

    def reached(self, point: str) -> bool:
        if point != self.cut.point:
            return False
        self.left -= 1
        return self.left == 0

    def at(self, point: str) -> None:
        if self.reached(point):
            die()


def _around(owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Put hooks around an async method."""
    method = getattr(owner, name)

    async def hooked(*args: Any, **kwargs: Any) -> Any:
        before()
        result = await method(*args, **kwargs)
        after()
        return result

    setattr(owner, name, hooked)


def _nothing() -> None:
    return


BEFORE: dict[type[Step], str] = {
    Intended: "before the intent",
    Accepted: "answer read",
    Ended: "end seen",
    Saved: "file in place",
}
AFTER: dict[type[Step], str] = {Intended: "after the intent", Accepted: "answer recorded"}
"""The points around the record of a step."""


def _lay(fuse: _Fuse) -> None:
    """Lay the fuse to every point."""
    record = sqlite.SQLiteJournal.record

    async def recording(self: Any, *steps: Step) -> None:
        for step in steps:
            fuse.at(BEFORE.get(type(step), "another step"))
        await record(self, *steps)
        for step in steps:
            fuse.at(AFTER.get(type(step), "another step"))

    sqlite.SQLiteJournal.record = recording  # type: ignore[method-assign]
    _around(state.TaskState, "poll_once", lambda: fuse.at("before the first poll"), _nothing)
    _around(download._PartFile, "write", _nothing, lambda: fuse.at("download begun"))
    close = store.Store.close

    def closing(self: Any) -> None:
        fuse.at("checkpoint")
        close(self)
        fuse.at("closed")

    store.Store.close = closing  # type: ignore[method-assign]
    _lay_to_the_wire(fuse)


def _lay_to_the_wire(fuse: _Fuse) -> None:
    transport: Any = vars(selector_events)["_SelectorSocketTransport"]
    write, receive = transport.write, transport._read_ready__data_received
    sent: set[int] = set()

    def writing(self: Any, data: bytes) -> None:
        if not bytes(data[:12]).startswith(b"POST /v1/Run"):
            write(self, data)
            return
        fuse.at("connection made")
        if fuse.reached("request half written"):
            write(self, data[: len(data) // 2])
            die()
        write(self, data)
        fuse.at("request written")
        fuse.at("request held")
        sent.add(id(self))

    def receiving(self: Any) -> None:
        if id(self) in sent:
            # The answer is in the socket's buffer, and nobody has read it.
            sent.discard(id(self))
            fuse.at("answer lost")
        receive(self)

    transport.write, transport._read_ready__data_received = writing, receiving
    transport.writelines = lambda self, parts: self.write(b"".join(parts))


def run_batch(order: dict[str, Any]) -> None:
    """Run or resume a batch, as the only work of this process."""
    cut = Cut(**order["cut"]) if order["cut"] else Cut()
    if cut.after is not None:
        signal.signal(signal.SIGALRM, lambda *_: die())
        signal.setitimer(signal.ITIMER_REAL, max(cut.after, 1e-4))
    _lay(_Fuse(cut))
    if order.get("careless"):
        pipeline.Pipeline._take_up = _forget_and_resend  # type: ignore[method-assign]
    asyncio.run(_batch(order))


async def _forget_and_resend(self: pipeline.Pipeline, job: JobState) -> None:
    """Do what a careless client would: take a lost answer for a lost request."""
    if job.entry is not None and job.entry.state == "intended":
        await self.journal.record(Released.of(job.key, InvalidInput("sent again without a search")))
        job.entry = attrs.evolve(job.entry, state="refused", open=False, error="InvalidInput", reason="")
    await _TAKE_UP(self, job)


_TAKE_UP = pipeline.Pipeline._take_up


async def _batch(order: dict[str, Any]) -> None:
    jobs = [
        Job(inputs={"prompt": prompt, "inputImageFirstUrl": order["image"], **order["more"]}, key=key)
        for key, prompt in order["prompts"].items()
    ]
    client = Client(
        order["key"],
        order["secret"],
        base_url=order["base_url"],
        polling=POLLING,
        limits=LIMITS,
        watch="poll",
    )
    async with (
        client,
        client.batch(
            jobs,
            model=MODEL,
            journal=order["journal"],
            download=order["folder"] + "/{key}_{n}{ext}",
            concurrency=JOBS,
            max_cost=1e6,
        ) as batch,
    ):
        async for outcome in batch:
            if outcome.error is not None:
                sys.stderr.write(f"{outcome.key}: {outcome.error!r}\n")


# -- the helper that forks -------------------------------------------------------------------------------


class Forks:
    """A process that forks children for us, having imported everything once."""

    def __init__(self) -> None:
        there, ours = os.pipe()
        self._answers, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            os.close(self._answers)
            _serve_forks(there, theirs)
        os.close(there)
        os.close(theirs)
        self._orders = ours
        self._pid = pid
        self._buffer = b""

    def run(self, order: dict[str, Any]) -> int:
        """Run one child to its end and return its wait status."""
        os.write(self._orders, json.dumps(order).encode() + b"\n")
        while b"\n" not in self._buffer:
            piece = os.read(self._answers, 4096)
            assert piece, "the helper died"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return int(line)

    def close(self) -> None:
        """End the helper."""
        os.close(self._orders)
        os.waitpid(self._pid, 0)
        os.close(self._answers)


def _serve_forks(orders: int, answers: int) -> None:
    buffer = b""
    while True:
        while b"\n" not in buffer:
            piece = os.read(orders, 65536)
            if not piece:
                os._exit(0)
            buffer += piece
        line, _, buffer = buffer.partition(b"\n")
        os.write(answers, b"%d\n" % _in_child(json.loads(line)))


def _in_child(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run_batch(order)
            code = 0
        except BaseException as error:  # the child's last words
            sys.stderr.write(f"{order['journal']}: {error!r}\n")
        finally:
            os._exit(code)
    deadline = time.monotonic() + LONGEST_LIFE
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


# -- the check -------------------------------------------------------------------------------------------


@attrs.define
class Record:
    """What came of the schedules.

    Attributes:
        schedules: How many were run.
        cuts: How often the power was really cut, by point.
        met: What else happened, and how often.
        failures: What did not hold.
    """

    schedules: int = 0
    cuts: Counter[str] = attrs.field(factory=Counter)
    met: Counter[str] = attrs.field(factory=Counter)
    failures: list[str] = attrs.field(factory=list)


def _runs_of(name: str) -> Callable[[Request], bool]:
    """Return what tells the Runs of a schedule from all others."""
    return lambda request: request.operation == "Run" and name.encode() in request.body


class Bench:
    """Runs schedules on one sandbox.

    Args:
        sandbox: Where.
        forks: What makes the children.
        folder: For journals and clips.
        careless: Whether the batch is broken on purpose, so that the check has something to find.
    """

    def __init__(self, sandbox: Sandbox, forks: Forks, folder: Path, *, careless: bool = False) -> None:
        self._careless = careless
        self._sandbox = sandbox
        self._forks = forks
        self._folder = folder
        self._runs = 0
        assert sandbox.faults is not None
        self._plan: FaultPlan = sandbox.faults
        self.record = Record()

    def run(self, schedule: Schedule) -> None:
        """Run one schedule and check what is left."""
        self._runs += 1
        name = f"{self._runs}-{schedule.seed}"
        folder = self._folder / name
        folder.mkdir()
        keys = [f"{name}-{number}" for number in range(JOBS)]
        # By their keys; the ledger and a search know the prompts.
        prompts = {key: key + FATES.get(fate, "") for key, fate in zip(keys, schedule.fates, strict=True)}
        config = self._sandbox.config
        order: dict[str, Any] = {
            "prompts": prompts,
            "image": "https://example.org/image.jpg",
            "journal": str(folder / "run.db"),
            "folder": str(folder / "clips"),
            "base_url": self._sandbox.base_url,
            "key": config.api_key,
            "secret": config.api_secret,
            "careless": self._careless,
            # Nobody is there: what the service keeps of it is our marker.
            "more": {"callbackUrl": "http://127.0.0.1:9/"} if schedule.moved == "restored" else {},
        }
        if schedule.point == "request held":
            # The first ones, up to the one at which the process is killed; they land while it is resumed.
            self._plan.script(_runs_of(name), Held(HELD), times=schedule.cuts[0].nth)
        for cut in schedule.cuts:
            status = self._forks.run({**order, "cut": attrs.asdict(cut)})
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            if killed:
                self.record.cuts[cut.point or "a random moment"] += 1
            elif status != 0:
                self._fail(schedule, f"a child ended with status {status}")
            if schedule.moved == "half":
                self._resume_half(schedule, order)
            backup = self._copied(order, "backup.db")
        # A task whose end could not be read stays `ended`, and is looked at again by the next resume.
        for _ in range(RESUMES):
            status = self._forks.run({**order, "cut": None})
            if status != 0:
                self._fail(schedule, f"the last child ended with status {status}")
            self._release(prompts, folder)
            if set(_journal(folder / "run.db")[1]) == {"done"}:
                break
        self._settle(schedule, order, prompts)
        self._check(schedule, prompts, folder)
        if schedule.moved == "restored" and _journal_rows(backup):
            # It lacks the Runs since then, and must not make them again.
            status = self._forks.run({**order, "journal": str(backup), "cut": None})
            if status != 0:
                self._fail(schedule, f"the child on the backup ended with status {status}")
            self._check(schedule, prompts, folder)
            self.record.cuts["restored"] += 1
        self.record.schedules += 1

    def _tasks(self, prompts: Mapping[str, str]) -> list[dict[str, Any]]:
        """The ledger's tasks of some prompts."""
        wanted = set(prompts.values())
        return [found for found in self._sandbox.ledger()["tasks"][-10_000:] if found["prompt"] in wanted]

    def _release(self, prompts: Mapping[str, str], folder: Path) -> None:
        """Let tasks go on that stand in task_error; the journal waits for them, and runs none again."""
        self.record.met["stalled"] += _journal(folder / "run.db")[1]["stalled"]
        for task in self._tasks(prompts):
            if task["status"] == "task_error":
                self._sandbox.engine.steer(task["id"], "release", time.time())

    def _settle(self, schedule: Schedule, order: dict[str, Any], prompts: Mapping[str, str]) -> None:
        """Have all charges recorded, resume, and compare what the journal has with the books.

        What a resume cannot read, because its poll was answered by a fault, it leaves to the next one.
        """
        journal = Path(order["journal"])
        self.record.met["recorded late"] += len(_uncharged(journal))
        for task in self._tasks(prompts):
            self._sandbox.engine.steer(task["id"], "tell", time.time())
        for _ in range(RESUMES):
            if self._forks.run({**order, "cut": None}) != 0:
                self._fail(schedule, "the child that settles charges failed")
            charged = {task["id"]: Decimal(task["totalcost"]) for task in self._tasks(prompts)}
            if (known := _costs(journal)) == charged:
                return
        self._fail(schedule, f"the journal has the charges {known}, the books {charged}")

    def _copied(self, order: dict[str, Any], name: str, *, wal: bool = True) -> Path:
        """Copy a journal as it is, with its -wal file or without."""
        path, copy = Path(order["journal"]), Path(order["journal"]).with_name(name)
        for end in ("", "-wal") if wal else ("",):
            if Path(f"{path}{end}").exists():
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
        return copy

    def _resume_half(self, schedule: Schedule, order: dict[str, Any]) -> None:
        """Resume a copy of a killed batch's main file alone: it must be refused, or be whole.

        Where it is whole (its batch was killed before its first step, or after its last), nothing is to be
        resumed by it: this machine has the journal itself.
        """
        if not Path(order["journal"]).exists() or not Path(f"{order['journal']}-wal").exists():
            return
        half = self._copied(order, "half.db", wal=False)
        before = half.read_bytes()
        try:
            store.Store(half).close()
        except JournalError as error:
            if error.reason != "apart" or half.read_bytes() != before:
                self._fail(schedule, f"half a journal: {error!r}")
            self.record.cuts["half"] += 1
            return
        whole = _journal(self._copied(order, "whole.db"))
        if _journal(half) != whole:
            self._fail(schedule, "half a journal was taken for a whole one")

    def _fail(self, schedule: Schedule, problem: str) -> None:
        replay = schedule.command + (" --careless" if self._careless else "")
        self.record.failures.append(f"{schedule.cuts}: {problem}. Replay it: {replay}")

    def _check(self, schedule: Schedule, prompts: Mapping[str, str], folder: Path) -> None:
        tasks = self._tasks(prompts)
        paid = Counter(found["prompt"] for found in tasks if found["pexit"] == "0")
        for prompt in prompts.values():
            if paid[prompt] != 1:
                self._fail(schedule, f"{prompt} was paid {paid[prompt]} times")
        known, states = _journal(folder / "run.db")
        for lost in {found["id"] for found in tasks} - known.keys():
            self._fail(schedule, f"task {lost} is in no journal")
        if set(states) - {"done"}:
            self._fail(schedule, f"the journal has {dict(states)}")
        clips = sorted((folder / "clips").glob("*"))
        if [clip.name for clip in clips] != sorted(f"{key}_0.mp4" for key in prompts):
            self._fail(schedule, f"the folder has {[clip.name for clip in clips]}")
        whole = known.values()
        for clip in clips:
            if clip.suffix == ".mp4" and clip.stat().st_size not in whole:
                self._fail(schedule, f"{clip.name} has {clip.stat().st_size} bytes, not {set(whole)}")


def _journal_rows(path: Path) -> int:
    """Return how many Runs a copy of a journal has; only those with some can be told from new ones."""
    if not path.exists():
        return 0
    seen = path.with_name("seen.db")
    for end in ("", "-wal"):
        if Path(f"{path}{end}").exists():
            shutil.copyfile(f"{path}{end}", f"{seen}{end}")
    with closing(sqlite3.connect(seen)) as database:
        has_runs = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'runs'").fetchone()[0]
        return int(database.execute("SELECT count(*) FROM runs").fetchone()[0]) if has_runs else 0


def _journal(path: Path) -> tuple[dict[str, int], Counter[str]]:
    """Return the tasks of a journal with the sizes of their files, and how many jobs are in each state."""
    with sqlite3.connect(path) as database:
        sizes = dict(
            database.execute(
                "SELECT task_id, coalesce(size, -1) FROM runs LEFT JOIN files USING (job, attempt)"
            )
        )
        states = Counter(state for (state,) in database.execute("SELECT state FROM jobs"))
    database.close()
    return sizes, states


def _costs(path: Path) -> dict[str, Decimal | None]:
    """Return what a journal has as its tasks' charges (None: it is not final)."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT task_id, cost, cost_final FROM runs WHERE task_id != ''")
        return {task_id: Decimal(cost).scaleb(-12) if final else None for task_id, cost, final in rows}


def _uncharged(path: Path) -> list[str]:
    return [task_id for task_id, cost in _costs(path).items() if cost is None]


def run(schedules: Sequence[Schedule], *, careless: bool = False) -> Record:
    """Run schedules on a sandbox of their own."""
    forks = Forks()  # before the sandbox's thread: a fork copies no threads
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Sandbox(
                speed=SPEED,
                render=False,
                balance=1e9,
                concurrency_limit=100_000,
                faults=_faults(),
                # Ends come in pieces, and charges after them: a child dies in between, too.
                bare_seconds=15.0,
                charge_delay=300.0,
                # What is estimated is not what is charged.
                price=0.35,
                listed_price=0.5,
                error_seconds=10.0,
            ) as sandbox,
        ):
            bench = Bench(sandbox, forks, Path(folder), careless=careless)
            for schedule in schedules:
                bench.run(schedule)
            return bench.record
    finally:
        forks.close()


def _faults() -> FaultPlan:
    """What the service says wrongly meanwhile: Runs are accepted and refused, tasks made and denied."""
    plan = FaultPlan()
    plan.random(0.1, ["Run"], faults=FALSE_REFUSALS)
    plan.random(0.05, ["Task/Detail"], faults=[NoTask(), NoTask(empty=True), Html(403)])
    return plan


def schedules_of(points: Sequence[str], each: int, moments: int, moved: int, seed: int) -> list[Schedule]:
    """Return the schedules of a first seed: *each* for every point, *moments* at random, *moved* of a way."""
    schedules = [at_point(point, number) for point in points for number in range(seed, seed + each)]
    schedules += [
        with_moved_journal(how, number)
        for how in ("half", "restored")
        for number in range(seed, seed + moved)
    ]
    return [*schedules, *(at_random(number) for number in range(seed, seed + moments))]


def run_parts(parts: int) -> Record:
    """Run the command line's schedules in several processes, which wait more than they work."""
    processes = []
    for part in range(parts):
        command = [sys.executable, "-m", "tests.crash", *sys.argv[1:], "--part", str(part), str(parts)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    record = Record()
    for process in processes:
        said, _ = process.communicate()
        if process.returncode == 0:
            told = json.loads(said.splitlines()[-1])
            record.schedules += int(told["schedules"])
            record.cuts.update(told["cuts"])
            record.met.update(told["met"])
            record.failures += told["failures"]
        else:
            record.failures.append(f"a process ended with {process.returncode}")
    return record


def main() -> int:
    """Run what the command line asks for, and say what came of it."""
    parser = argparse.ArgumentParser(
        description="Cut the power of batches, resume them, and check the books."
    )
    parser.add_argument("--each", type=int, default=100, help="schedules for each of the 15 points")
    parser.add_argument("--random", type=int, default=2000, help="schedules with cuts at random moments")
    parser.add_argument("--moved", type=int, default=100, help="schedules for each way to move a journal")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--points", nargs="*", default=POINTS, help="which points (default: all)")
    parser.add_argument(
        "--careless", action="store_true", help="break the batch, to see that it is found out"
    )
    parser.add_argument("--parallel", type=int, default=4, help="processes at a time")
    parser.add_argument("--part", type=int, nargs=2, help="which part of how many, for these processes")
    options = parser.parse_args()
    began = time.monotonic()
    schedules = schedules_of(options.points, options.each, options.random, options.moved, options.seed)
    if options.part is not None:
        part, parts = options.part
        record = run(schedules[part::parts], careless=options.careless)
        sys.stdout.write(json.dumps(attrs.asdict(record)) + "\n")
        return 0
    record = run_parts(options.parallel)
    words = [f"{record.schedules} schedules in {time.monotonic() - began:.0f} s", json.dumps(record.cuts)]
    words.append(", ".join(f"{what}: {count}" for what, count in record.met.items()))
    words += [*record.failures[:20], f"{len(record.failures)} failures"]
    sys.stdout.write("\n".join(words) + "\n")
    return 1 if record.failures or record.schedules != len(schedules) else 0


if __name__ == "__main__":
    sys.exit(main())
