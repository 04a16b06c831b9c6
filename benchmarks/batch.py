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
from typing import Any

import httpx

from benchmarks.contender import resident
from benchmarks.journal import fsync_once
from benchmarks.load import MODEL
from wiro_async import Client, Job, Limits, Polling
from wiro_async._store import Store

MIB = 2**20
BEAT = 0.01
SPEED = 60.0
"""How much faster the sandbox's tasks live: a minute becomes a second."""


def jobs(count: int) -> Iterator[Job]:
    """Yield jobs, each made when it is asked for."""
    for number in range(count):
        image = f"https://images.example.org/{number:08d}.jpg"
        prompt = f"[Zoom in] {number} waves roll in at dusk, the last light on the wet sand"
        yield Job({"prompt": prompt, "inputImageFirstUrl": image}, key=f"sku-{number}")


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
        task["totalcost"] = "0.35"
        return httpx.Response(200, json={"errors": [], "result": True, "tasklist": [task]})


@contextmanager
def sandbox(limit: int) -> Iterator[dict[str, str]]:
    """Run a sandbox that renders nothing, in a process of its own."""
    words = [
        "--json", "--no-render", "--balance", "1000000", "--concurrency-limit", str(limit),
        "--speed", str(SPEED), "--price", "0.35",
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


class Beat:
    """Looks every few milliseconds whether the event loop still turns.

    Attributes:
        stall: The longest time that it did not, in seconds.
        busy: How long the loop's own thread computed in the worst of these times: on a busy machine the rest
            was another program's.
    """

    def __init__(self) -> None:
        self.stall: float = 0.0
        self.busy: float = 0.0
        self._due: float = 0.0
        self._cpu: float = 0.0
        self._next()

    def _next(self) -> None:
        self._due, self._cpu = time.perf_counter() + BEAT, time.thread_time()
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._look)

    def _look(self) -> None:
        self.stall = max(self.stall, time.perf_counter() - self._due)
        self.busy = max(self.busy, time.thread_time() - self._cpu - BEAT)
        self._next()

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()


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


async def measure(
    count: int, concurrency: int, journal: Path | None, address: dict[str, str] | None
) -> dict[str, Any]:
    """Run the batch, and return what was seen."""
    ends: Counter[str] = Counter()
    memory: list[int] = []
    async with client(address) as own:
        # What is imported at the first use is no stall of a large batch.
        async with own.batch([Job(next(jobs(1)).inputs)], model=MODEL) as first:
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
        return {"ends": ends, "memory": memory, "stopped": stopped, "wall": wall, "cpu": cpu, "beat": beat}


def report(count: int, seen: dict[str, Any], commits: Commits, folder: Path) -> None:
    """Print the figures."""
    wall = seen["wall"]
    each = seen["cpu"] / count * 1e3
    print(f"{count:,} jobs in {wall:.1f} s, {each:.2f} ms of CPU each: {dict(seen['ends'])}")
    grown = ", ".join(f"{size / MIB:.0f}" for size in seen["memory"])
    print(f"RSS growth at each tenth, MiB: {grown}")
    stall, busy = seen["beat"].stall * 1e3, seen["beat"].busy * 1e3
    print(f"longest stall of the event loop: {stall:.0f} ms, of its own work {busy:.0f} ms")
    if seen["stopped"] is not None:
        print(f"stopped: {seen['stopped']}")
    if commits.count:
        share = commits.seconds / wall
        print(f"{commits.count / wall:,.0f} commits/s; they take {share:.0%} of the journal's thread")
        with (folder / "bare").open("wb") as file:
            bare = sorted(fsync_once(file.fileno()) for _ in range(100))[50]
        print(f"a bare fsync here takes {bare * 1e3:.2f} ms at the median")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=500)
    parser.add_argument("--stub", action="store_true", help="answer within this process, at once")
    parser.add_argument("--journal", action="store_true", help="with --stub: keep a journal all the same")
    parser.add_argument("--folder", default=None, help="where the journal is, which decides what disk it has")
    options = parser.parse_args()
    commits = Commits()
    with tempfile.TemporaryDirectory(dir=options.folder) as name, commits.counted():
        folder = Path(name)
        journal = folder / "journal.db" if options.journal or not options.stub else None
        with nullcontext() if options.stub else sandbox(options.concurrency) as address:
            seen = asyncio.run(measure(options.jobs, options.concurrency, journal, address))
        report(options.jobs, seen, commits, folder)


if __name__ == "__main__":
    main()
