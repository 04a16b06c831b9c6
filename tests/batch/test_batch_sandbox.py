"""Batches end to end, over real sockets and with a real journal."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from benchmarks.batch import Stub
from tests.batches import MODEL, states_of
from tests.journals import rows_of
from wiro_async import (
    BatchFailure,
    BatchStopped,
    Client,
    DownloadError,
    InsufficientBalance,
    Job,
    Limits,
    Polling,
    TaskFailed,
)
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox._config import CdnEncoding
from wiro_async.sandbox.faults import FaultPlan, ListLag, Reset, Status

SPEED = 200.0
POLLING = Polling(min_interval=0.03, max_interval=0.3, requests_per_second=500.0)


def client(sandbox: Sandbox) -> Client:
    return Client(
        "sandbox-key",
        "sandbox-secret",
        base_url=sandbox.base_url,
        watch="poll",
        polling=POLLING,
        limits=Limits(settle_timeout=1.0),
    )


def job(key: str, directive: str = "", **inputs: Any) -> Job:
    prompt = f"waves {key} {directive}"
    return Job(inputs={"prompt": prompt, "inputImageFirstUrl": "https://host/a.jpg", **inputs}, key=key)


async def test_a_batch_from_beginning_to_end(tmp_path: Path) -> None:
    """Ten at a time, each paid for once, every clip on the disk, and its failures explained."""
    given = [*(job(f"k{number}") for number in range(30)), job("bad", "[sandbox:fail no face found]")]
    path = tmp_path / "a.db"
    async with Sandbox(speed=SPEED, render=False, balance=105, price=0.01) as sandbox:
        async with (
            client(sandbox) as own,
            own.batch(given, model=MODEL, journal=path, download=tmp_path / "clips") as batch,
        ):
            found = {outcome.key: outcome async for outcome in batch}
            report = batch.report
        books = sandbox.ledger()
    assert isinstance(found["bad"].error, TaskFailed)
    assert report.failures == (BatchFailure("TaskFailed", "no face found", 1),)
    assert report.progress.succeeded == books["paid"] == 30
    assert report.progress.spent == Decimal(books["charged"])
    assert books["runs"] == 31
    assert books["refused"].get("96", 0) <= 6

    def clips() -> int:
        return sum(path.read_bytes() != b"" for path in (tmp_path / "clips").glob("k*.mp4"))

    assert await anyio.to_thread.run_sync(clips) == 30


async def test_money_that_runs_out_and_comes_back(tmp_path: Path) -> None:
    """The batch stops, what runs is seen to its end, and the same call goes on after a top-up."""
    given = [job(f"k{number}") for number in range(12)]
    path = tmp_path / "a.db"
    async with Sandbox(speed=SPEED, render=False, balance=2.0, price=0.35) as sandbox:
        async with client(sandbox) as own, own.batch(given, model=MODEL, journal=path) as batch:
            found = [outcome async for outcome in batch]
            assert batch.report.stopped is not None
            assert batch.report.stopped.reason == "balance"
        errors = [outcome.error for outcome in found if outcome.error is not None]
        assert errors
        assert all(isinstance(error, InsufficientBalance | BatchStopped) for error in errors)
        sandbox.engine.set_balance(200, sandbox._clock())
        async with client(sandbox) as own, own.batch(given, model=MODEL, journal=path) as batch:
            assert (await batch.wait()).stopped is None
        books = sandbox.ledger()
    assert books["paid"] == books["runs"] == 12
    assert set((await states_of(path)).values()) == {"done"}


async def test_a_wire_that_breaks(tmp_path: Path) -> None:
    """Answers are lost, the list lags, the proxy fails: nothing is paid twice, and nothing is lost."""
    plan = FaultPlan(seed=3)
    plan.random(0.4, ["Run"], faults={Reset(after="processing"): 3, Reset(): 1})
    plan.random(0.1, ["Task/Detail"], faults=[Status(503)])
    plan.random(0.5, ["Task/List"], faults=[ListLag(0.3)])
    given = [job(f"k{number}") for number in range(25)]
    path = tmp_path / "a.db"
    async with Sandbox(speed=SPEED, render=False, balance=1000, faults=plan) as sandbox:
        for _ in range(4):
            async with client(sandbox) as own, own.batch(given, model=MODEL, journal=path) as batch:
                await batch.wait()
            plan.clear()
        books = sandbox.ledger()
    rows = await rows_of(path)
    done = [row for row in rows.values() if row.state == "done"]
    doubts = [row for row in rows.values() if row.state == "unknown"]
    # A Run that was reset before it was processed was never taken, and nobody but the sandbox knows that.
    assert len(done) + len(doubts) == 25
    assert books["paid"] == books["runs"] == len(done)
    assert {row.task_id for row in done} == {task["id"] for task in books["tasks"]}


async def test_a_clip_that_is_gone_is_an_outcome(tmp_path: Path) -> None:
    """The run is paid for; its file is looked for half a minute, and again by the next batch."""
    plan = FaultPlan()
    plan.script("cdn", Status(410), times=None)
    async with Sandbox(speed=SPEED, render=False, faults=plan) as sandbox:
        path, clips = tmp_path / "a.db", tmp_path / "clips"
        async with (
            client(sandbox) as own,
            own.batch([job("a")], model=MODEL, journal=path, download=clips) as batch,
        ):
            outcome = await anext(batch)
            assert isinstance(outcome.error, DownloadError)
        plan.clear()
        async with client(sandbox) as own, own.batch(journal=path, download=clips) as batch:
            assert (await anext(batch)).succeeded
        assert sandbox.ledger()["runs"] == 1


async def test_memory_does_not_depend_on_how_many_jobs_there_are() -> None:
    """Of four hundred jobs no more are alive at a time than are under way."""
    alive = most = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def jobs() -> Iterator[Job]:
        nonlocal alive, most
        for number in range(400):
            made = Job(inputs={"prompt": str(number)}, key=str(number))
            weakref.finalize(made, gone)
            alive += 1
            most = max(most, alive)
            yield made

    quick = Polling(min_interval=1e-4, max_interval=1e-3, requests_per_second=1e6)
    own = Client("key", "secret", base_url="http://127.0.0.1:9/v1", transport=Stub(), polling=quick)
    async with own, own.batch(jobs(), model=MODEL, concurrency=20) as batch:
        succeeded = sum([outcome.succeeded async for outcome in batch])
    assert succeeded == 400
    assert most < 100


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("options", [["--jobs", "20"], ["--stub", "--jobs", "50", "--journal"]])
def test_the_benchmark_runs(options: list[str]) -> None:
    """It prints the figures that it is for."""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.batch", *options],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{{'succeeded': {options[options.index('--jobs') + 1]}}}" in run.stdout
    for figure in ("RSS growth", "longest stall", "garbage collection", "commits/s", "fsync"):
        assert figure in run.stdout
    if "--stub" not in options:
        assert "21 runs, 21 paid, refused {}" in run.stdout


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "aws-chunked", "utf-8", ""])
async def test_files_as_object_stores_serve_them(encoding: CdnEncoding, tmp_path: Path) -> None:
    """Compressed, or with an encoding that is none, or without a length: everybody gets them whole."""
    path = tmp_path / "a.db"
    async with Sandbox(
        speed=SPEED, render=False, balance=105, cdn_encoding=encoding, cdn_length=bool(encoding)
    ) as sandbox:
        async with client(sandbox) as own:
            result = await own.run(MODEL, job("single").inputs)
            (single,) = await result.save(tmp_path)
            content = await anyio.to_thread.run_sync(single.read_bytes)
            assert len(content) == result.outputs[0].size
            assert await result.outputs[0].read() == content
            for _ in range(2):
                async with own.batch(
                    [job("a")], model=MODEL, journal=path, download=tmp_path / "clips", delete_remote=True
                ) as batch:
                    report = await batch.wait()
                assert report.complete
        assert sandbox.ledger()["paid"] == 2
    row = (await rows_of(path))["a"]
    assert row.state == "done"
    assert row.files[0].whole


async def test_a_file_of_somebody_elses_at_an_outputs_path(tmp_path: Path) -> None:
    """It stays, on a resume too; and is replaced where that is wanted."""
    path, clip = tmp_path / "a.db", tmp_path / "a_0.mp4"
    await anyio.to_thread.run_sync(clip.write_bytes, b"mine")
    template = f"{tmp_path}/{{key}}_{{n}}{{ext}}"
    async with Sandbox(speed=SPEED, render=False, balance=105) as sandbox, client(sandbox) as own:
        for _ in range(2):
            async with own.batch([job("a")], model=MODEL, journal=path, download=template) as batch:
                assert (await batch.wait()).complete
            assert await anyio.to_thread.run_sync(clip.read_bytes) == b"mine"
            saved = (await rows_of(path))["a"].files[0].path
            assert Path(saved).name.startswith("a_0-")
        async with own.batch([job("a")], model=MODEL, download=template, overwrite=True) as batch:
            assert (await batch.wait()).complete
        assert await anyio.to_thread.run_sync(clip.read_bytes) != b"mine"
        assert sandbox.ledger()["paid"] == 2
