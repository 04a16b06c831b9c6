"""What the demo does, job by job. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Literal

import attrs

from wiro_async._inputs import Director, HailuoSubject
from wiro_async._models import Task
from wiro_async._types import JSON, Status

__all__ = ["STAGES", "Books", "Job", "Purpose", "job_record", "plan"]

Purpose = Literal["clip", "failure", "cancellation"]

STAGES: tuple[str, ...] = (
    Status.QUEUE,
    Status.ACCEPT,
    Status.PREPROCESS_START,
    Status.PREPROCESS_END,
    Status.ASSIGN,
    Status.START,
    Status.OUTPUT,
    Status.OUTPUT_FULL,
    Status.END,
    Status.POSTPROCESS_START,
    Status.POSTPROCESS_END,
)
"""A task's life as the service describes it, without the ends that are none."""

_MOVES = (
    ("Zoom in", "[Zoom in] a slow approach"),
    ("Pan left", "[Pan left] the view wanders"),
    ("Push in", "[Push in] closer, step by step"),
    ("Pedestal up", "[Pedestal up] rising above it"),
    ("Pull out", "[Pull out] the whole scene appears"),
    ("Truck right", "[Truck right] passing by"),
)
_FAILS = "[sandbox:fail This failure was asked for.] a job that fails"
_HANGS = "[sandbox:hang] a job that never ends by itself"

_MODELS: dict[str, type[Director | HailuoSubject]] = {"director": Director, "subject": HailuoSubject}


@attrs.define(eq=False)
class Job:
    """One run of a model, and what became of it.

    Attributes:
        image: The picture it starts from.
        model: Director or HailuoSubject, by a short name.
        prompt: What the model is told.
        label: The prompt in two words.
        purpose: What is meant to come of it.
        file_name: What its clip is to be called.
        status: The task's status as it is known ("" before it is submitted).
        reached: How many of the known stages are behind it.
        began: When the job was begun, on a monotonic clock.
        ended: When it ended, on the same clock.
        task: The final snapshot.
        saved: Where the clip is.
        size: The clip's length in bytes.
        problem: What went wrong, other than by a task's own failure.
    """

    image: Path
    model: str
    prompt: str
    label: str
    purpose: Purpose
    file_name: str = ""
    status: str = ""
    reached: int = 0
    began: float | None = None
    ended: float | None = None
    task: Task | None = None
    saved: Path | None = None
    size: int = 0
    problem: str = ""

    def see(self, status: str) -> None:
        """Take note of the task's next status."""
        self.status = status
        if status in STAGES:
            self.reached = STAGES.index(status) + 1

    @property
    def as_planned(self) -> bool:
        """Whether that came of it which was meant to."""
        outcome = self.task.outcome if self.task is not None else None
        wanted = {"clip": "succeeded", "failure": "failed", "cancellation": "cancelled"}[self.purpose]
        return outcome == wanted and not self.problem and (self.purpose != "clip" or self.size > 0)

    @property
    def cost(self) -> Decimal:
        """What it was billed, in USD."""
        return (self.task.total_cost if self.task is not None else None) or Decimal(0)

    @property
    def trouble(self) -> str:
        """Why it did not go as planned ("" if it did)."""
        if self.as_planned:
            return ""
        reason = self.task.reason if self.task is not None else ""
        return self.problem or reason or f"it ended as {self.status or 'nothing'}"

    def inputs(self, url: str) -> Director | HailuoSubject:
        """Return what to submit, once the image is at *url*."""
        return _MODELS[self.model](image=url, prompt=self.prompt)


@attrs.frozen
class Books:
    """What the demo took.

    Attributes:
        bill: USD, by the results that the client got.
        charged: USD, by the sandbox's own books.
        requests: How many the sandbox answered.
        seconds: How long everything took.
    """

    bill: Decimal
    charged: Decimal
    requests: int
    seconds: float

    @property
    def agree(self) -> bool:
        """Whether both sides count the same money."""
        return self.bill == self.charged


def plan(images: Sequence[Path]) -> list[Job]:
    """Make two clips of each image, and two jobs that end otherwise on purpose."""
    moves = cycle(_MOVES)
    names = _readable_names(images)
    jobs = []
    for image, name in zip(images, names, strict=True):
        for model in _MODELS:
            label, prompt = next(moves)
            jobs.append(Job(image, model, prompt, label, "clip", f"{name}-{model}.mp4"))
    jobs.append(Job(images[0], "director", _FAILS, "fails on purpose", "failure"))
    jobs.append(Job(images[-1], "subject", _HANGS, "cancelled by us", "cancellation"))
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


def job_record(job: Job) -> JSON:
    """One job in the document that ``demo --json`` writes."""
    return {
        "image": str(job.image),
        "model": _MODELS[job.model].model,
        "prompt": job.prompt,
        "purpose": job.purpose,
        "as_planned": job.as_planned,
        "task_id": job.task.id if job.task is not None else None,
        "outcome": job.task.outcome if job.task is not None else None,
        "cost": f"{job.cost:f}",
        "saved": str(job.saved) if job.saved is not None else None,
        "size": job.size or None,
        "problem": job.trouble or None,
    }
