"""What goes into a batch and what comes out of it: jobs, outcomes and keys. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from wiro_async._errors import InvalidInput, WiroError
from wiro_async._files.inputs import TypedInputs
from wiro_async._protocol.envelope import is_utf8
from wiro_async._protocol.records import TaskResult

__all__ = ["Inputs", "Job", "JobOutcome", "check_key", "named"]

Inputs = Mapping[str, Any] | TypedInputs
"""A model's inputs: by name, or typed inputs, which know their model."""

MAX_KEY = 500
"""Characters of a key at most: it is a primary key in the journal."""


@attrs.frozen
class Job:
    """One thing to be made by a batch.

    Args:
        inputs: The model's inputs by name, or typed inputs.
        model: The slug (None: typed inputs know their model, or the batch has one for all).
        key: What the caller knows the job by: under one journal no key is paid for twice (None: the batch's
            ``key`` function, or else a digest of model and inputs).
    """

    inputs: Inputs
    model: str | None = None
    key: str | None = None


@attrs.frozen
class JobOutcome:
    """How one job of a batch ended.

    Attributes:
        key: What the job is known by.
        job: The job (None: it was taken up from the journal).
        result: What it brought (None: it did not succeed, or nothing more than files was left to fetch).
        error: Why it brought nothing, or why its files were not saved.
        attempts: How many Runs were made for it.
        cost: What these were charged, in USD; estimated where the service does not tell (None: not known).
        paths: Where its outputs were saved.
        task_id: The id of the last task ("" if there was none).
    """

    key: str
    job: Job | None = None
    result: TaskResult | None = None
    error: WiroError | OSError | None = None
    attempts: int = 0
    cost: Decimal | None = None
    paths: tuple[Path, ...] = ()
    task_id: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether everything that was wanted is there."""
        return self.error is None


def named(job: Job, model: str | None) -> tuple[str, Inputs]:
    """Return the model and the inputs of a job.

    Raises:
        InvalidInput: Nobody has named the model, or these are no inputs.
    """
    inputs = job.inputs
    if isinstance(inputs, TypedInputs):
        return job.model or inputs.model, inputs
    if not isinstance(inputs, Mapping):
        raise InvalidInput(
            f"the inputs of a job are a {type(inputs).__name__}; give a mapping or typed inputs",
            name="inputs",
        )
    slug = job.model or model
    if slug is None:
        raise InvalidInput("a job names no model; give Job(model=...) or batch(model=...)", name="model")
    return slug, inputs


def check_key(key: object) -> str:
    """Return a key that a journal can hold.

    Raises:
        InvalidInput: It is empty, too long, or not a string or a number.
    """
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise InvalidInput(
            f"the key {str(key)[:60]!r} is a {type(key).__name__}; it must be a str or an int", name="key"
        )
    text = str(key)
    if not text or len(text) > MAX_KEY or "\0" in text or not is_utf8(text):
        raise InvalidInput(
            f"the key {text[:60]!r} cannot be used; it must be a text of 1 to {MAX_KEY} characters",
            name="key",
        )
    return text
