"""What the journal costs: a durable write, a hundred at once, and opening it with 100 000 jobs.

``python -m benchmarks.journal [--rows N] [--folder DIR]``. The disk is measured beside it, by turns with it
in the same run: a bare 4 KiB write and fsync is what no durable write can be cheaper than.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio

from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import (
    Accepted,
    Done,
    Ended,
    Intended,
    JournalFile,
    Saved,
    Step,
    text_of,
)
from wiro_async._journal.store import Store
from wiro_async._protocol.matching import RunFingerprint
from wiro_async._types import Secret

MODEL = "MiniMax/image-to-video-01-director"


def intended(number: int) -> Intended:
    """Return a Run of the usual size."""
    inputs = {
        "prompt": "[Zoom in] a woman underwater, her hair flowing in the current " * 4,
        "inputImageFirstUrl": f"https://images.example.org/{number:032d}.jpg",
    }
    fingerprint = RunFingerprint(
        MODEL, tuple(sorted(inputs)), f"{number:064x}", 1.7e9, f"{number:032x}", 1.7e9 + 85
    )
    return Intended(f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}-0", inputs, fingerprint)


def life(number: int) -> tuple[Step, ...]:
    """Return the steps of a job with one output, from the intent to the end."""
    run = intended(number)
    output = JournalFile(0, "0.mp4", f"https://cdn1.wiro.ai/{number:032x}/0.mp4", "video/mp4", 1_200_000)
    return (
        run,
        Accepted(run.key, str(10**7 + number), Secret(f"{number:064x}")),
        Ended(run.key, "succeeded", 1.7e9, Decimal("0.35"), 60.5, outputs=(output,)),
        Saved(run.key, 0, f"/data/clips/{number}_0.mp4", 1_200_000, f"{number:064x}"),
        Done(run.key),
    )


def fill(path: Path, rows: int) -> float:
    """Make a journal of finished jobs, a hundred a transaction, and return the seconds that took."""
    start = time.perf_counter()
    store = Store(path)
    for first in range(0, rows, 100):
        with store.transaction():
            for number in range(first, min(first + 100, rows)):
                for step in life(number):
                    store.apply(step, text_of(step))
    store.close()
    return time.perf_counter() - start


def fsync_once(file: int) -> float:
    """Return the seconds of one bare 4 KiB write with its fsync."""
    start = time.perf_counter()
    os.pwrite(file, b"x" * 4096, 0)
    os.fsync(file)
    return time.perf_counter() - start


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds that *work* takes."""
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def single(folder: Path, writes: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each write by one writer, and of each bare fsync in between."""
    ours: list[float] = []
    bare: list[float] = []
    file = os.open(folder / "bare", os.O_CREAT | os.O_RDWR)
    async with await SQLiteJournal.open(folder / "single.db") as journal:
        for number in range(writes):
            wanted = partial(journal.record, intended(number))
            ours.append(await timed(wanted))
            bare.append(await anyio.to_thread.run_sync(fsync_once, file))
    os.close(file)
    return ours, bare


async def together(folder: Path, writers: int, writes: int) -> tuple[list[float], float]:
    """Return the seconds of each write by many writers, and of all of it."""
    waits: list[float] = []

    async def writer(journal: SQLiteJournal, first: int) -> None:
        for number in range(first, first + writes):
            seconds = await timed(partial(journal.record, intended(number)))
            waits.append(seconds)

    async with await SQLiteJournal.open(folder / f"{writers}.db") as journal:
        # A full collection of all that the process has imported takes longer than all of this.
        gc.collect()
        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(writers):
                group.start_soon(writer, journal, number * writes)
        return waits, time.perf_counter() - start


async def reading(path: Path, rows: int) -> dict[str, float]:
    """Return the seconds of opening, counting, finding and reading all."""
    opened: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        journal = await SQLiteJournal.open(path)
        opened.append(time.perf_counter() - start)
        await journal.aclose()
    async with await SQLiteJournal.open(path) as journal:
        counted = await timed(journal.counts)
        found = await timed(lambda: journal.find(intended(rows // 2).key))
        start = time.perf_counter()
        seen = 0
        async for _ in journal.entries("done"):
            seen += 1
        assert seen == rows
        read = time.perf_counter() - start
    return {
        "open, s": statistics.median(opened),
        "counts, s": counted,
        "find one, ms": found * 1e3,
        "read all, s": read,
    }


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of all does not exceed, in milliseconds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3


def row(name: str, waits: list[float], seconds: float) -> str:
    """Return a line of the table."""
    rate, middle, late = len(waits) / seconds, percentile(waits, 0.5), percentile(waits, 0.99)
    return f"| {name} | {rate:,.0f} | {middle:.2f} | {late:.2f} |"


def main() -> None:
    """Measure, and print two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--writes", type=int, default=2000)
    parser.add_argument("--folder", default=None, help="where, which decides what disk is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        ours, bare = anyio.run(single, folder, options.writes)
        print("| writing | writes/s | p50, ms | p99, ms |")
        print("|---|---|---|---|")
        print(row("bare fsync of 4 KiB", bare, sum(bare)))
        print(row("one writer", ours, sum(ours)))
        for writers in (10, 100):
            print(row(f"{writers} writers", *anyio.run(together, folder, writers, options.writes // 10)))
        path = folder / "full.db"
        filled = fill(path, options.rows)
        print(f"\n| {options.rows:,} jobs, {path.stat().st_size / 1e6:,.0f} MB, filled in {filled:.1f} s | |")
        print("|---|---|")
        for what, value in anyio.run(reading, path, options.rows).items():
            print(f"| {what} | {value:.2f} |")


if __name__ == "__main__":
    main()
