"""Jobs: a batch's inputs and outcomes, and a job passing through the pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

import attrs

from wiro_async._errors import BatchStopped, InvalidInput, WiroError
from wiro_async._files.inputs import TypedInputs
from wiro_async._jobs.budget import Bill
from wiro_async._jobs.options import DEFAULTS, CallSettings
from wiro_async._protocol.records import Task, TaskResult
from wiro_async._types import Record, Stage

if TYPE_CHECKING:
    from wiro_async._jobs.limiter import Slot
    from wiro_async._jobs.submit import Run
    from wiro_async._journal.steps import JournalEntry
    from wiro_async._tasks.ends import TaskFailed
    from wiro_async._tasks.state import TaskState

__all__ = ["Inputs", "Job", "JobOutcome", "JobState"]

Inputs = Mapping[str, Any] | TypedInputs
"""A model's inputs: by name, or typed inputs, which name their model."""


@attrs.frozen(init=False)
class Job(Record):
    """One job of a batch.

    Its arguments are those of ``submit()``::

        Job("owner/model", {"prompt": "waves"}, key="sku-1")
        Job(Director("photo.jpg", "waves"), key="sku-2")
        Job(inputs={"prompt": "waves"})  # in a batch that has a model=

    Args:
        model: The slug, or typed inputs (defaults to the model of the typed inputs or of the batch).
        inputs: The model's inputs by name, or typed inputs.
        key: The caller's name for the job: within one journal no key is paid for twice (defaults to the
            batch's ``key`` function, then to a digest of model and inputs).
        where: Where the job comes from, such as ``line 7``, for ``InvalidJob.where``.

    Raises:
        InvalidInput: The inputs are in the model's place. The rest is checked when the batch reads the job,
            so that one bad job is one failed outcome.
    """

    model: str | None
    inputs: Inputs = attrs.field(hash=False)
    key: str | None
    where: str = attrs.field(eq=False)

    @overload
    def __init__(self, model: TypedInputs, *, key: str | None = None, where: str = "") -> None: ...

    @overload
    def __init__(
        self, model: str | None, inputs: Inputs, *, key: str | None = None, where: str = ""
    ) -> None: ...

    @overload
    def __init__(self, *, inputs: Inputs, key: str | None = None, where: str = "") -> None: ...

    def __init__(
        self,
        model: str | TypedInputs | None = None,
        inputs: Inputs | None = None,
        *,
        key: str | None = None,
        where: str = "",
    ) -> None:
        slug: str | TypedInputs | None = model
        if isinstance(model, TypedInputs) and inputs is None:
            slug, inputs = model.model, model
        elif isinstance(model, Mapping):
            raise InvalidInput(
                "a job's model comes first: Job('owner/model', {...}), or Job(inputs={...}) for the model of "
                "the batch",
                name="model",
            )
        # What the overloads rule out besides is left to named(): a table with an empty cell must not end the
        # iterable that the jobs come from.
        self.__attrs_init__(slug, inputs, key, where)  # type: ignore[arg-type]


@attrs.frozen
class JobOutcome(Record):
    """How one job of a batch ended.

    Attributes:
        key: The job's key.
        job: The job (None: it was resumed from the journal).
        result: Its result (None: it did not succeed, or only files were left to fetch).
        error: Why it has no result, or why its files were not saved.
        attempts: How many Runs were made for it.
        cost: What these cost in USD (None: unknown, as the service may record a charge after the end).
        paths: Where its outputs were saved.
        task_id: The id of the last task ("" if there was none).
    """

    _derived: ClassVar[tuple[str, ...]] = ("succeeded", "not_started")

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
        """Whether the result and all wanted files are there."""
        return self.error is None

    @property
    def not_started(self) -> bool:
        """Whether it has had no Run because the batch had stopped: it cost nothing, and can be run later."""
        return isinstance(self.error, BatchStopped)


# -- a job on its way ------------------------------------------------------------------------------------


@attrs.define(eq=False)
class JobState:
    """A job passing through the pipeline: what was given, and its state so far.

    Attributes:
        model: The slug.
        inputs: The inputs, by name, or typed inputs.
        options: The options of its call.
        key: Its key ("" for single calls).
        told: The inputs as the journal keeps them: bytes are digests.
        job: What the caller gave (None: it was resumed from the journal).
        entry: Its journal entry (None: there was none).
        problem: Why it cannot be started (None: it can).
        index: Its place in the order of outcomes.
        let_next: Called once it no longer blocks the next job (None: no job waits).
        stage: Where it is, for the counts (None: not counted).
        on_trial: Whether it needs a Run of this batch, so that its end predicts later ones.
        through: Whether it has had a slot.
        attempts: How many Runs were made for it.
        number: The number of its latest attempt in the journal; those that were turned away count.
        bill: Its latest Run's place in the budgets.
        spent: What these cost, in USD (None: unknown).
        is_uncharged: Whether the charge of one of them is not recorded yet.
        patience: Seconds that it waits for a slot.
        slot_until: When that ends, on the event loop's clock.
        until: When its caller's timeout ends, on the event loop's clock.
        run: The Run, once its inputs are resolved.
        refusal: Why the last Run was not accepted (None: it was, or there was none).
        tries: How often the Run was sent in vain: not reached, or asked to come later (HTTP 429).
        resubmits: How many Runs were resent after they were proved absent.
        slot: The slot of its task, until that is settled.
        state: Its task (None: it has none).
        task: The task's last snapshot, once it has succeeded.
        failure: How the last task failed, if another one will follow.
        paths: Where its outputs were saved.
        unproved: Those of which it is not certain that all of the output came.
    """

    model: str
    inputs: Inputs
    options: CallSettings = DEFAULTS
    key: str = ""
    told: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    job: Job | None = None
    entry: JournalEntry | None = None
    problem: InvalidInput | None = None
    index: int = 0
    let_next: Callable[[], object] | None = None
    stage: Stage | None = None
    on_trial: bool = False
    through: bool = False
    attempts: int = 0
    number: int = 0
    bill: Bill = attrs.field(factory=Bill)
    spent: Decimal | None = None
    is_uncharged: bool = False
    patience: float = math.inf
    slot_until: float = math.inf
    until: float = math.inf
    run: Run | None = None
    refusal: WiroError | None = None
    tries: int = 0
    resubmits: int = 0
    slot: Slot | None = None
    state: TaskState | None = None
    task: Task | None = None
    failure: TaskFailed | None = None
    paths: list[Path] = attrs.field(factory=list)
    unproved: list[Path] = attrs.field(factory=list)
