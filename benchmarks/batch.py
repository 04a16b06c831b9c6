"""A large batch in one process: what becomes of its jobs, its memory, its event loop, its commits.

``python -m benchmarks.batch --jobs 10000`` runs it on a sandbox in a process of its own, with a journal;
``--stub --jobs 1000000`` over a transport that answers at once, without one (``--journal`` adds it).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import attrs
import httpx

from benchmarks.contender import resident
from benchmarks.harness import environment
from benchmarks.journal import fsync_once
from benchmarks.lines import Line, show
from benchmarks.load import MODEL
from benchmarks.stalls import COLLECTORS, Beat, set_collector
from wiro_async import Client, Job, Limits, Polling
from wiro_async._journal.store import Store

MIB = 2**20
MOST_GROWTH = 100.0
SPEED = 60.0
"""How much faster the sandbox's tasks live: a minute becomes a second."""


def jobs(count: int) -> Iterator[Job]:
    """Yield jobs, each made when it is asked for."""
    for number in range(count):
        image = f"https://images.example.org/{number:08d}.jpg"
        prompt = f"[Zoom in] {number} waves roll in at dusk, the last light on the wet sand"
        yield Job(inputs={"prompt": prompt, "inputImageFirstUrl": image}, key=f"sku-{number}")


# -- who answers -----------------------------------------------------------------------------------------


class Stub(httpx.AsyncBaseTransport):
    """Takes every Run, and says of every task that it is done."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer at once."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b"".join([piece async for piece in request.stream])
        if "/Run/" in request.url.path:
            number = str(next(self._ids))
            return httpx.Response(
                200, json={"errors": [], "result": True, "taskid": number, "socketaccesstoken": f"t{number}"}
            )
        task = {"id": json.loads(body)["taskid"], "status": "task_postprocess_end", "pexit": "0"}
        facts = {"totalcost": "0.35", "outputs": [{"name": "0.txt", "content": {}}]}
        return httpx.Response(200, json={"errors": [], "result": True, "tasklist": [{**task, **facts}]})


@contextmanager
def sandbox(limit: int, speed: float) -> Iterator[dict[str, str]]:
    """Run a sandbox that renders nothing, in a process of its own."""
    words = [
        "--json", "--no-render", "--balance", "1000000", "--concurrency-limit", str(limit),
        "--speed", str(speed), "--price", "0.35",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "wiro_async.sandbox", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
        process.terminate()
        books = json.loads(process.stdout.readlines()[-1])
        print(f"the sandbox's books: {books['runs']} runs, {books['paid']} paid, refused {books['refused']}")
    finally:
        process.kill()
        process.wait()


def client(address: dict[str, str] | None) -> Client:
    """Return a client of a sandbox, or of the stub."""
    if address is None:
        eager = Polling(min_interval=1e-4, max_interval=1e-3, requests_per_second=1e6)
        return Client("key", "secret", base_url="http://127.0.0.1:9/v1", transport=Stub(), polling=eager)
    quick = Polling(min_interval=0.1, max_interval=0.5, requests_per_second=2000.0)
    keys = (address["api_key"], address["api_secret"])
    return Client(*keys, base_url=address["base_url"], polling=quick, watch="poll", limits=Limits())


# -- what is measured ------------------------------------------------------------------------------------


class Commits:
    """Counts the journal's commits, and the time that its thread spends in them."""

    def __init__(self) -> None:
        self.count: int = 0
        self.seconds: float = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count all while the block runs."""
        usual = Store.transaction

        @contextmanager
        def transaction(store: Store) -> Iterator[None]:
            start = time.perf_counter()
            with usual(store):
                yield
            self.count += 1
            self.seconds += time.perf_counter() - start

        Store.transaction = transaction  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Store.transaction = usual  # type: ignore[method-assign]


@attrs.frozen
class Seen:
    """What was seen of one batch."""

    ends: Counter[str]
    memory: list[int]
    stopped: str | None
    wall: float
    cpu: float
    beat: Beat


async def measure(count: int, concurrency: int, journal: Path | None, address: dict[str, str] | None) -> Seen:
    """Run the batch, and return what was seen."""
    ends: Counter[str] = Counter()
    memory: list[int] = []
    async with client(address) as own:
        # What is imported at the first use is no stall of a large batch.
        async with own.batch([Job(inputs=next(jobs(1)).inputs)], model=MODEL) as first:
            await first.wait()
        before = resident()
        beat, wall, cpu = Beat(), time.perf_counter(), time.process_time()
        async with own.batch(jobs(count), model=MODEL, journal=journal, concurrency=concurrency) as batch:
            async for outcome in batch:
                ends["succeeded" if outcome.error is None else type(outcome.error).__name__] += 1
                if ends.total() % max(count // 10, 1) == 0:
                    memory.append(resident() - before)
        beat.stop()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        stopped = batch.report.stopped
        return Seen(ends, memory, None if stopped is None else stopped.message, wall, cpu, beat)


def lines(count: int, seen: Seen, commits: Commits, bare: float) -> Iterator[Line]:
    """Yield the table; *bare* is what one fsync takes on this disk, in seconds."""
    missed = count - seen.ends["succeeded"]
    yield Line("jobs that did not succeed", missed, 0, seen.stopped or str(dict(seen.ends)))
    grown = [size / MIB for size in seen.memory]
    tenths = ", ".join(f"{size:.0f}" for size in grown)
    yield Line("RSS growth, MiB", max(grown, default=0.0), MOST_GROWTH, f"at each tenth: {tenths}")
    yield seen.beat.line
    yield Line("CPU a job, ms", seen.cpu / count * 1e3, None, f"{seen.wall:.1f} s in all")
    if commits.count:
        rate = f"{commits.count / seen.wall:,.0f} commits/s; a bare fsync here takes {bare * 1e3:.2f} ms"
        yield Line("share of the journal's thread in commits", commits.seconds / seen.wall, 1.0, rate)


def fsync_here(folder: Path) -> float:
    """Return the median seconds of an fsync after a small write."""
    with (folder / "bare").open("wb") as file:
        return sorted(fsync_once(file.fileno()) for _ in range(100))[50]


def main() -> int:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=500)
    parser.add_argument("--stub", action="store_true", help="answer within this process, at once")
    parser.add_argument("--journal", action="store_true", help="with --stub: keep a journal all the same")
    parser.add_argument("--folder", default=None, help="where the journal is, which decides what disk it has")
    parser.add_argument("--collector", choices=COLLECTORS, default="usual", help="the garbage collector")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    commits = Commits()
    with tempfile.TemporaryDirectory(dir=options.folder) as name, commits.counted():
        folder = Path(name)
        journal = folder / "journal.db" if options.journal or not options.stub else None
        with nullcontext() if options.stub else sandbox(options.concurrency, SPEED) as address:
            set_collector(options.collector)
            seen = asyncio.run(measure(options.jobs, options.concurrency, journal, address))
        table = lines(options.jobs, seen, commits, fsync_here(folder))
        settings = {name: value for name, value in vars(options).items() if name not in ("json", "folder")}
        return 0 if show(table, options.json, **settings, environment=environment()) else 1


if __name__ == "__main__":
    sys.exit(main())
