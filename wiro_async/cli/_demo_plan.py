"""What the demo does, job by job, and what has to come of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Literal

import attrs

from wiro_async import Director, HailuoSubject, JournalEntry, JournalFile
from wiro_async.cli._text import JSON

__all__ = ["HANGS", "Books", "Job", "Purpose", "job_record", "job_row", "plan"]

Purpose = Literal["clip", "failure", "cancellation"]

_MOVES = (
    ("Zoom in", "[Zoom in] a slow approach"),
    ("Pan left", "[Pan left] the view wanders"),
    ("Push in", "[Push in] closer, step by step"),
    ("Pedestal up", "[Pedestal up] rising above it"),
    ("Pull out", "[Pull out] the whole scene appears"),
    ("Truck right", "[Truck right] passing by"),
)
FAILS = "[sandbox:fail This failure was asked for.] a job that fails"
HANGS = "[sandbox:hang] a job that never ends by itself"

_MODELS: dict[str, type[Director | HailuoSubject]] = {"director": Director, "subject": HailuoSubject}

_WANTED: dict[Purpose, str] = {"clip": "done", "failure": "failed", "cancellation": "cancelled"}


@attrs.define(eq=False)
class Job:
    """One job of the demo's batch, and what became of it.

    Attributes:
        key: Its key in the journal, and the beginning of its clip's name.
        image: The picture it starts from.
        model: Director or HailuoSubject, by a short name.
        prompt: What the model is told.
        label: The prompt in two words.
        purpose: What is meant to come of it.
        entry: What the journal says of it in the end (None: nothing).
    """

    key: str
    image: Path
    model: str
    prompt: str
    label: str
    purpose: Purpose
    entry: JournalEntry | None = None

    @property
    def clip(self) -> JournalFile | None:
        """The clip, once it is on the disk."""
        files = self.entry.files if self.entry is not None else ()
        return next((file for file in files if file.path), None)

    @property
    def as_planned(self) -> bool:
        """Whether that came of it which was meant to."""
        state = self.entry.state if self.entry is not None else None
        return state == _WANTED[self.purpose] and (
            self.purpose != "clip" or bool(self.clip and self.clip.size)
        )

    @property
    def cost(self) -> Decimal:
        """What it was billed, in USD."""
        return (self.entry.cost if self.entry is not None else None) or Decimal(0)

    @property
    def trouble(self) -> str:
        """Why it did not go as planned ("" if it did)."""
        if self.as_planned:
            return ""
        if self.entry is None:
            return "it had no run"
        return self.entry.reason or f"it ended as {self.entry.state}"


@attrs.frozen
class Books:
    """What the demo took.

    Attributes:
        bill: USD, by the batch's journal.
        charged: USD, by the sandbox's own books.
        runs: How many runs the sandbox accepted.
        paid: How many of these it charged.
        requests: How many requests it answered.
        seconds: How long everything took.
    """

    bill: Decimal
    charged: Decimal
    runs: int
    paid: int
    requests: int
    seconds: float

    def agree(self, jobs: Sequence[Job]) -> bool:
        """Whether both sides count the same money, and nothing was paid for twice."""
        clips = sum(job.purpose == "clip" for job in jobs)
        return self.bill == self.charged and self.paid == clips and self.runs == len(jobs)


def plan(images: Sequence[Path]) -> list[Job]:
    """Make two clips of each image, and two jobs that end otherwise on purpose."""
    moves = cycle(_MOVES)
    jobs = []
    for model in _MODELS:
        for image, name in zip(images, _readable_names(images), strict=True):
            label, prompt = next(moves)
            jobs.append(Job(f"{name}-{model}", image, model, prompt, label, "clip"))
    jobs.append(Job("fails on purpose", images[0], "director", FAILS, "fails on purpose", "failure"))
    jobs.append(Job("cancelled by us", images[-1], "subject", HANGS, "cancelled by us", "cancellation"))
    return jobs


def _readable_names(images: Sequence[Path]) -> list[str]:
    """Name each image by its stem: harmless characters only, and no name twice."""
    names: list[str] = []
    for image in images:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", image.stem)[:60].lstrip(".-") or "image"
        name, count = stem, 1
        while name.lower() in (taken.lower() for taken in names):
            count += 1
            name = f"{stem}-{count}"
        names.append(name)
    return names


def job_row(job: Job) -> JSON:
    """One line of the demo's job file."""
    inputs = {"inputImageFirstUrl": f"@{job.image.absolute()}", "prompt": job.prompt}
    return {"key": job.key, "model": _MODELS[job.model].model, "inputs": inputs}


def job_record(job: Job) -> JSON:
    """One job in the document that ``demo --json`` writes."""
    entry, clip = job.entry, job.clip
    return {
        "key": job.key,
        "image": str(job.image),
        "model": _MODELS[job.model].model,
        "prompt": job.prompt,
        "purpose": job.purpose,
        "as_planned": job.as_planned,
        "task_id": None if entry is None else entry.task_id or None,
        "outcome": None if entry is None else entry.outcome,
        "cost": f"{job.cost:f}",
        "saved": None if clip is None else clip.path,
        "size": None if clip is None else clip.size,
        "problem": job.trouble or None,
    }
