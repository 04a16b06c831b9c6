"""The options of batch() and map(): each declared once for type checkers, and once with its validator.

``tests/batch/test_options.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from os import PathLike
from typing import Literal, TypedDict, get_args

import attrs

from wiro_async._batch.progress import BatchProgress
from wiro_async._config import check_mode, function, of_type, one_of, path, seconds, text, truth, usd, whole
from wiro_async._jobs.job import Job
from wiro_async._types import CheckMode, JSONMapping, OnUnknown

__all__ = ["BatchOptions", "BatchSettings", "MapOptions"]


class MapOptions(TypedDict, total=False):
    """The options of ``Client.map``.

    Attributes:
        journal: A file that records what must not be lost; created if missing. One process at a time.
        key: Returns each job's key (defaults to the jobs' own keys, or digests of their inputs).
        concurrency: How many tasks of the batch may run at a time (``"auto"``: as many as the account
            allows, learned from its refusals).
        max_cost: Total USD that the journal's runs may cost (None: no limit). It is exceeded by at most what
            the runs in flight cost beyond their estimates. An estimate comes from the catalogue until three
            such runs have ended, then from their cost. Until a run's charge is recorded, its estimate counts.
            Runs without any estimate go one at a time, and count as the highest charge seen; if the first of
            them shows no charge a minute after its end, the batch stops. The client's ``max_cost``, if it has
            one, covers these runs, too.
        download: Where outputs are saved: a folder, or a path with ``{key}``, ``{task_id}``, ``{n}``,
            ``{name}``, ``{ext}``, ``{model}`` in it (None: nowhere).
        overwrite: Whether outputs replace files that are there already. Otherwise a file that the journal
            does not know as this output's stays, unless it has the same content; the output is saved beside
            it, with a digest in its name, and a warning says so.
        delete_remote: Whether to delete the service's copies once they are saved. They are kept if it is not
            certain that a file is whole: neither the service nor the server told its length, and the end of
            the connection was its end; or its length or type is not what the service says.
        ordered: Whether to yield outcomes in the jobs' order instead of completion order.
        fail_fast: Whether to submit nothing more after the first failure.
        retry_failed: How often to rerun a job whose task failed, or was cancelled in an earlier run of the
            journal.
        breaker: Submit nothing more after this many equal failures in a row (None: continue).
        canary: How many jobs must succeed before the others are submitted.
        timeout: Seconds to wait for one task (defaults to ``Limits.wait_timeout``).
        on_unknown: As for ``submit()``.
        check: As for ``submit()``; a job that is refused is a failed outcome.
        stop_on_exit: What to do with running tasks when the block is left early: ``"leave"`` or ``"stop"``;
            ``retry_failed`` reruns stopped ones.
        on_progress: Called with the counts as they change, at most ten times a second.
        total: The number of jobs, if known; without it there is no ETA until all jobs are read.
        memo: A JSON object stored in the journal for whoever resumes the batch (None: keep the existing
            one). ``JournalReader.memo()`` returns it; ``wiro batch`` stores its options there.
    """

    journal: str | PathLike[str] | None
    key: Callable[[Job], object] | None
    concurrency: int | Literal["auto"]
    max_cost: Decimal | float | str | None
    download: str | PathLike[str] | None
    overwrite: bool
    delete_remote: bool
    ordered: bool
    fail_fast: bool
    retry_failed: int
    breaker: int | None
    canary: int
    timeout: float | None
    on_unknown: OnUnknown
    check: CheckMode | None
    stop_on_exit: Literal["leave", "stop"]
    on_progress: Callable[[BatchProgress], object] | None
    total: int | None
    memo: JSONMapping | None


class BatchOptions(MapOptions, total=False):
    """The options of ``Client.batch``: those of ``map``, and one more.

    Attributes:
        model: The default model of jobs.
    """

    model: str | None


@attrs.frozen(kw_only=True)
class BatchSettings:
    """The options of one batch, each checked; see ``BatchOptions``."""

    journal: str | PathLike[str] | None = attrs.field(default=None, validator=path)
    key: Callable[[Job], object] | None = attrs.field(default=None, validator=function)
    model: str | None = attrs.field(default=None, validator=text)
    concurrency: int | Literal["auto"] = attrs.field(default="auto", validator=whole(1, or_else="auto"))
    max_cost: Decimal | None = attrs.field(default=None, converter=usd)
    download: str | PathLike[str] | None = attrs.field(default=None, validator=path)
    overwrite: bool = attrs.field(default=False, validator=truth)
    delete_remote: bool = attrs.field(default=False, validator=truth)
    ordered: bool = attrs.field(default=False, validator=truth)
    fail_fast: bool = attrs.field(default=False, validator=truth)
    retry_failed: int = attrs.field(default=0, validator=whole(0))
    breaker: int | None = attrs.field(default=20, validator=whole(1, or_else=None))
    canary: int = attrs.field(default=0, validator=whole(0))
    timeout: float | None = attrs.field(default=None, validator=seconds)
    on_unknown: OnUnknown = attrs.field(default="raise", validator=one_of(*get_args(OnUnknown)))
    check: CheckMode | None = attrs.field(default=None, validator=check_mode)
    stop_on_exit: Literal["leave", "stop"] = attrs.field(default="leave", validator=one_of("leave", "stop"))
    on_progress: Callable[[BatchProgress], object] | None = attrs.field(default=None, validator=function)
    total: int | None = attrs.field(default=None, validator=whole(0, or_else=None))
    memo: JSONMapping | None = attrs.field(default=None, validator=of_type("a JSON object", Mapping))
