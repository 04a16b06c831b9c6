"""``wiro demo``: the library's main job, on a sandbox that is started for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from wiro_async._client import Client
from wiro_async._config import Limits, Polling
from wiro_async._errors import InvalidInput, WiroError
from wiro_async._task import TaskHandle
from wiro_async._types import Status
from wiro_async.cli._demo_plan import Books, Job, job_record, plan
from wiro_async.cli._demo_sandbox import SandboxProcess
from wiro_async.cli._demo_view import DemoView, say_summary
from wiro_async.cli._report import Report
from wiro_async.cli._session import Code, interruptible
from wiro_async.sandbox._images import demo_images

__all__ = ["run_demo"]

SPEED = 6.0
OPTIONS: tuple[str, ...] = (f"--speed={SPEED:g}", "--seed=7", "--balance=1000")
"""The sandbox's. Above USD 250 the service does not limit how many tasks run at a time."""

CANCEL_AFTER = 2.0
"""Seconds that the job which is cancelled on purpose is seen running."""

_POLLING = Polling(min_interval=0.25, max_interval=1.0, growth=0.1)
"""The sandbox's tasks live six times as fast as real ones, so they are looked at more often."""


def run_demo(images: Sequence[Path], folder: Path, report: Report) -> int:
    """Make clips from *images* in *folder*, and return the exit code.

    Args:
        images: Pictures (none: the three that come along).
        folder: Where the clips go; made when missing.
        report: Where the words go.
    """
    try:
        jobs = plan(_checked(images or demo_images()))
        folder.mkdir(parents=True, exist_ok=True)
        with interruptible(), SandboxProcess(OPTIONS) as sandbox:
            return asyncio.run(_perform(jobs, folder, report, sandbox))
    except KeyboardInterrupt:
        report.error("Interrupted", "interrupted; the sandbox is stopped, nothing goes on")
        return Code.INTERRUPTED
    except (WiroError, OSError) as error:
        report.error(type(error).__name__, error.message if isinstance(error, WiroError) else str(error))
        return Code.USAGE if isinstance(error, InvalidInput) else Code.FAILURE


def _checked(images: Sequence[Path]) -> Sequence[Path]:
    """Refuse what is no file, before anything starts."""
    if not images:
        raise InvalidInput("no pictures came along with this installation; name some: wiro demo photo.jpg")
    for image in images:
        if not image.is_file():
            problem = "is no file" if image.exists() else "does not exist"
            raise InvalidInput(f"the picture {str(image)!r} {problem}; nothing was started")
        if not image.stat().st_size:
            raise InvalidInput(f"the picture {str(image)!r} is empty; nothing was started")
    return images


async def _perform(jobs: Sequence[Job], folder: Path, report: Report, sandbox: SandboxProcess) -> int:
    """Do all jobs, and compare the books."""
    report.say(f"{len(jobs)} jobs at the same time, on a sandbox at {sandbox.base_url},")
    report.say(f"{SPEED:g} times as fast as in reality. Two of them end badly on purpose.")
    report.say()
    began = time.monotonic()
    view = DemoView(report, jobs)
    with view.shown():
        await _Demo(jobs, folder, view).run(sandbox)
    seconds = time.monotonic() - began
    ledger = await anyio.to_thread.run_sync(sandbox.ledger)
    books = Books(
        bill=sum((job.cost for job in jobs), Decimal(0)),
        charged=Decimal(ledger["charged"]),
        requests=sum(ledger["requests"].values()),
        seconds=seconds,
    )
    return _concluded(jobs, folder, books, report)


def _concluded(jobs: Sequence[Job], folder: Path, books: Books, report: Report) -> int:
    fine = all(job.as_planned for job in jobs) and books.agree
    say_summary(report, jobs, folder, books)
    report.record(
        {
            "type": "demo",
            "as_planned": fine,
            "jobs": [job_record(job) for job in jobs],
            "folder": str(folder),
            "bill": f"{books.bill:f}",
            "charged": f"{books.charged:f}",
            "requests": books.requests,
            "seconds": round(books.seconds, 3),
        }
    )
    if not fine:
        report.problem("the demo did not go as planned; see above")
    return Code.OK if fine else Code.FAILURE


@attrs.frozen
class _Demo:
    """The fan-out itself.

    Args:
        jobs: What is to be done.
        folder: Where the clips go.
        view: Who is told.
    """

    jobs: Sequence[Job]
    folder: Path
    view: DemoView

    async def run(self, sandbox: SandboxProcess) -> None:
        """Upload every picture once, then run all jobs at the same time."""
        limits = Limits(wait_timeout=120.0 + 20.0 * len(self.jobs))
        async with Client(
            sandbox.api_key, sandbox.api_secret, base_url=sandbox.base_url, polling=_POLLING, limits=limits
        ) as client:
            images = dict.fromkeys(job.image for job in self.jobs)
            urls = {image: (await client.upload(image)).url for image in images}
            async with asyncio.TaskGroup() as group:
                for job in self.jobs:
                    group.create_task(self._do(client, job, urls[job.image]))

    async def _do(self, client: Client, job: Job, url: str) -> None:
        """Do one job. Its failure is its own: the others go on."""
        job.began = time.monotonic()
        try:
            handle = await client.submit(job.inputs(url))
            await self._follow(handle, job)
            await self._save(job)
        except (WiroError, OSError) as error:
            job.problem = error.message if isinstance(error, WiroError) else str(error)
        job.ended = time.monotonic()
        self.view.changed(job)

    async def _follow(self, handle: TaskHandle, job: Job) -> None:
        async for transition in handle:
            job.see(transition.status)
            if transition.observed:
                self.view.changed(job)
            if job.purpose == "cancellation" and transition.status == Status.START:
                await asyncio.sleep(CANCEL_AFTER)
                # It runs, so this is a kill; in the queue it would have been a cancel.
                await handle.stop()
        job.task = handle.task

    async def _save(self, job: Job) -> None:
        if job.purpose == "clip" and job.task is not None and job.task.outcome == "succeeded":
            job.saved = await job.task.outputs[0].save(self.folder / job.file_name)
            job.size = (await anyio.Path(job.saved).stat()).st_size
