"""``wiro demo``: a batch on a sandbox that is started for it. It is killed in the middle, and resumed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import attrs

from wiro_async import Client, InvalidInput, JournalReader, Status, WiroError
from wiro_async.cli._batch_view import BatchView
from wiro_async.cli._demo_plan import HANGS, Books, Job, job_record, job_row, plan
from wiro_async.cli._demo_sandbox import SandboxProcess
from wiro_async.cli._demo_view import say_summary
from wiro_async.cli._report import Report
from wiro_async.cli._session import Code, interruptible
from wiro_async.sandbox import demo_images

__all__ = ["run_demo"]

SPEED = 6.0
OPTIONS: tuple[str, ...] = (f"--speed={SPEED:g}", "--seed=7", "--balance=1000")
"""The sandbox's. Above USD 250 the service does not limit how many tasks run at a time."""

CANCEL_AFTER = 2.0
"""Seconds that the job which is cancelled on purpose is seen running after the batch is resumed."""

LOOK_EVERY = 0.1


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
        with (
            interruptible(),
            tempfile.TemporaryDirectory(prefix="wiro-demo-") as place,
            SandboxProcess(OPTIONS) as sandbox,
        ):
            return _perform(_Demo(jobs, folder, Path(place), sandbox, report))
    except KeyboardInterrupt:
        report.error("Interrupted", "interrupted; the sandbox is stopped")
        return Code.INTERRUPTED
    except (WiroError, OSError) as error:
        report.error(type(error).__name__, error.message if isinstance(error, WiroError) else str(error))
        return Code.USAGE if isinstance(error, InvalidInput) else Code.FAILURE


def _checked(images: Sequence[Path]) -> Sequence[Path]:
    """Refuse what is not a file, before anything starts."""
    if not images:
        raise InvalidInput("no pictures came along with this installation; name some: wiro demo photo.jpg")
    for image in images:
        if not image.is_file():
            problem = "is not a file" if image.exists() else "does not exist"
            raise InvalidInput(f"the picture {str(image)!r} {problem}; nothing was started")
        if not image.stat().st_size:
            raise InvalidInput(f"the picture {str(image)!r} is empty; nothing was started")
    return images


def _perform(demo: _Demo) -> int:
    """Do all jobs, and compare the books."""
    report = demo.report
    report.say(f"{len(demo.jobs)} jobs in one batch, on a sandbox at {demo.sandbox.base_url},")
    report.say(f"{SPEED:g} times as fast as in reality. Two of them end badly on purpose.")
    report.say()
    began = time.monotonic()
    demo.run()
    seconds = time.monotonic() - began
    bill = asyncio.run(_read_journal(demo))
    ledger = demo.sandbox.ledger()
    books = Books(
        bill=bill,
        charged=Decimal(ledger["charged"]),
        runs=ledger["runs"],
        paid=ledger["paid"],
        requests=sum(ledger["requests"].values()),
        seconds=seconds,
    )
    return _concluded(demo.jobs, demo.folder, books, report)


async def _read_journal(demo: _Demo) -> Decimal:
    """Take over what the journal says of each job, and return the charges that are recorded."""
    jobs = {job.key: job for job in demo.jobs}
    async with JournalReader(demo.journal) as journal:
        async for entry in journal.entries():
            jobs[entry.key].entry = entry
    # For a task that was stopped, the journal has an estimate until the service tells a charge.
    recorded = (job.entry for job in demo.jobs if job.entry is not None and job.entry.cost_final)
    return sum((entry.cost for entry in recorded if entry.cost is not None), Decimal(0))


def _concluded(jobs: Sequence[Job], folder: Path, books: Books, report: Report) -> int:
    fine = all(job.as_planned for job in jobs) and books.agree(jobs)
    say_summary(report, jobs, folder, books)
    report.record(
        {
            "type": "demo",
            "as_planned": fine,
            "jobs": [job_record(job) for job in jobs],
            "folder": str(folder),
            "bill": f"{books.bill:f}",
            "charged": f"{books.charged:f}",
            "runs": books.runs,
            "paid": books.paid,
            "requests": books.requests,
            "seconds": round(books.seconds, 3),
        }
    )
    if not fine:
        report.problem("the demo did not go as planned; see above")
    return Code.OK if fine else Code.FAILURE


@attrs.frozen
class _Demo:
    """The batch, in processes of its own.

    Args:
        jobs: What is to be done.
        folder: Where the clips go.
        place: Where the job file and the journal are.
        sandbox: Who does it.
        report: Who is told.
    """

    jobs: Sequence[Job]
    folder: Path
    place: Path
    sandbox: SandboxProcess
    report: Report

    @property
    def journal(self) -> Path:
        """The journal's path."""
        return self.place / "demo.db"

    def run(self) -> None:
        """Begin the batch, kill it at its first clip, and take it up again.

        Raises:
            OSError: It ended by itself before its time.
        """
        table = self.place / "jobs.jsonl"
        table.write_text("".join(json.dumps(job_row(job)) + "\n" for job in self.jobs), "utf-8")
        view = BatchView(self.report)
        with view.shown(by_itself=True):
            with self._child("batch", str(table), f"--journal={self.journal}", self._download()) as child:
                self._follow(child, view, until=self._is_moment())
                child.kill()
                child.wait()
            running = self.sandbox.ledger()["active"]
            self.report.say(
                f"The power fails: the batch's process is killed. {running} tasks run on.", "bold"
            )
            self.report.say("`wiro resume` continues it, from its journal alone.", "bold")
            with self._child("resume", str(self.journal)) as child, self._cancelling(child):
                self._follow(child, view)

    def _is_moment(self) -> Callable[[Any], bool]:
        """Return what tells when to kill: at the first clip, or when only the job that never ends is left."""
        outcomes = count(1)

        def is_moment(record: Any) -> bool:
            return record["type"] == "outcome" and (
                next(outcomes) >= len(self.jobs) - 1 or bool(record["saved"])
            )

        return is_moment

    def _download(self) -> str:
        """Return the option that names the clips after their jobs."""
        folder = str(self.folder.absolute()).replace("{", "{{").replace("}", "}}")
        return f"--download={folder}/{{key}}_{{n}}{{ext}}"

    @contextmanager
    def _child(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run one command line in a process of its own, which does not outlive the block."""
        urls = {"WIRO_BASE_URL": self.sandbox.base_url, "WIRO_SOCKET_URL": self.sandbox.socket_url}
        keys = {"WIRO_API_KEY": self.sandbox.api_key, "WIRO_API_SECRET": self.sandbox.api_secret}
        with (self.place / "stderr").open("wb") as stderr:
            child = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
                [
                    sys.executable,
                    "-m",
                    "wiro_async",
                    *arguments,
                    "--json",
                    "--timeout=120",
                    "--interval=0.25",
                ],
                env={**os.environ, **urls, **keys},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                # A terminal sends Ctrl-C to the whole group; this one ends with its parent's block.
                start_new_session=True,
            )
        with child:
            try:
                yield child
            finally:
                child.kill()

    def _follow(
        self, child: subprocess.Popen[str], view: BatchView, until: Callable[[Any], bool] = lambda _: False
    ) -> None:
        """Show what a child tells, to its end, or until something is told.

        Raises:
            OSError: It ended before its time.
        """
        assert child.stdout is not None
        for line in child.stdout:
            record = json.loads(line)
            tell = {"progress": view.progress, "outcome": view.outcome}.get(record["type"])
            if tell is not None and not self.report.as_json:
                tell(record)
            if record["type"] == "batch" or until(record):
                return
        said = (self.place / "stderr").read_text("utf-8", "replace").strip().rpartition("\n")[2]
        code = child.wait()
        raise OSError(f"the batch ended before its time (exit code {code}): {said or 'it said nothing'}")

    @contextmanager
    def _cancelling(self, child: subprocess.Popen[str]) -> Iterator[None]:
        """Stop the job that never ends, from outside the batch, while the block runs."""
        over = threading.Event()

        def cancel() -> None:
            try:
                while not over.wait(LOOK_EVERY):
                    task_id = self._hanging()
                    if task_id and not over.wait(CANCEL_AFTER):
                        asyncio.run(self._stop(task_id))
                        return
            except (WiroError, OSError):
                child.kill()  # Nothing else would end it; whoever follows it says so.

        thread = threading.Thread(target=cancel, name="wiro-demo-cancel")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _hanging(self) -> str:
        """Return the task that never ends, once it runs."""
        for task in self.sandbox.ledger()["tasks"]:
            if task["prompt"] == HANGS and task["status"] == Status.START:
                return str(task["id"])
        return ""

    async def _stop(self, task_id: str) -> None:
        sandbox = self.sandbox
        async with Client(sandbox.api_key, sandbox.api_secret, base_url=sandbox.base_url) as client:
            # It runs, so this is a kill; in the queue it would have been a cancel.
            await client.attach(task_id).stop()
