"""What a batch can be told on the command line, and what its journal remembers of that."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
from cyclopts import Parameter, validators

from wiro_async.cli._jobs_reader import Format, JobsFile
from wiro_async.cli._text import JSON

__all__ = ["Memory", "Options", "in_options"]

_COUNT = validators.Number(gte=0)


def in_options(message: str) -> str:
    """Write the library's complaint of an argument as one of an option: ``--max-cost is 'much'; …``."""
    names = "|".join(field.name for field in attrs.fields(Options))
    return re.sub(
        rf"^(?:{names})(?= )|\b(?:{names})=",
        lambda match: f"--{match[0].replace('_', '-').replace('=', ' ')}",
        message,
    )


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Options:
    """The options of ``wiro batch`` and ``wiro resume``; None where nothing was said."""

    model: Annotated[str | None, Parameter(help="The model of rows that name none.")] = None
    key: Annotated[
        str | None, Parameter(help="The field or column that holds each job's key (default: key, if there).")
    ] = None
    format: Annotated[
        Format | None,
        Parameter(help="How the jobs are written (default: by the name, else jsonl)."),
    ] = None
    download: Annotated[
        str | None,
        Parameter(
            help="Save the outputs: in a folder, or as a path with {key}, {task_id}, {n}, {name}, {ext} and "
            "{model} in it."
        ),
    ] = None
    max_cost: Annotated[
        str | None, Parameter(help="USD that the journal's runs may cost in all (default: no limit).")
    ] = None
    concurrency: Annotated[
        int | Literal["auto"] | None,
        Parameter(help="Tasks at a time at most (default: auto, as many as the account allows)."),
    ] = None
    retry_failed: Annotated[
        int | None, Parameter(validator=_COUNT, help="Run a job that failed again, so often (default: 0).")
    ] = None
    breaker: Annotated[
        int | None,
        Parameter(
            validator=_COUNT, help="Stop after so many equal failures in a row (default: 20; 0: go on)."
        ),
    ] = None
    canary: Annotated[
        int | None,
        Parameter(validator=_COUNT, help="Jobs that must succeed before the others start (default: 0)."),
    ] = None
    timeout: Annotated[
        float | None,
        Parameter(validator=validators.Number(gt=0), help="Seconds to wait for one task (default: 3600)."),
    ] = None
    on_unknown: Annotated[
        Literal["raise", "resubmit"] | None,
        Parameter(
            help="What to do with a run whose answer was lost and whose task is not in the service's list: "
            "give it up (default), or make it again, which may pay twice."
        ),
    ] = None
    check: Annotated[
        bool | None,
        Parameter(
            negative="--no-check", help="Check the jobs' inputs before anything is paid for (default: yes)."
        ),
    ] = None
    strict: Annotated[
        bool | None,
        Parameter(negative="--no-strict", help="Refuse inputs, too, that the catalogue does not list."),
    ] = None
    stop_on_exit: Annotated[
        bool | None,
        Parameter(negative="--no-stop-on-exit", help="End the running tasks, too, on an interruption."),
    ] = None
    fail_fast: Annotated[
        bool | None, Parameter(negative="--no-fail-fast", help="Start nothing more after the first failure.")
    ] = None
    ordered: Annotated[
        bool | None,
        Parameter(negative="--no-ordered", help="Tell of the ends in the order of the jobs."),
    ] = None
    overwrite: Annotated[
        bool | None,
        Parameter(negative="--no-overwrite", help="Replace files that are there and not the journal's."),
    ] = None
    delete_remote: Annotated[
        bool | None,
        Parameter(negative="--no-delete-remote", help="Delete the service's copies of what was saved."),
    ] = None
    skip_invalid: Annotated[
        bool | None,
        Parameter(negative="--no-skip-invalid", help="Go on without the rows that cannot be sent."),
    ] = None

    @property
    def said(self) -> JSON:
        """What was said, by name."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}

    def settled(self) -> Options:
        """Return these options with an absolute place for outputs: they may be remembered elsewhere."""
        return self if self.download is None else attrs.evolve(self, download=_absolute(self.download))

    def over(self, remembered: Mapping[str, Any]) -> Options:
        """Return these options, and what was remembered where nothing was said."""
        known = {field.name for field in attrs.fields(Options)}
        return Options(**{name: value for name, value in remembered.items() if name in known} | self.said)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``Client.batch`` that these stand for."""
        said = self.said
        for name in ("key", "format", "skip_invalid"):
            said.pop(name, None)
        if said.pop("strict", False) and said.get("check", True):
            said["check"] = "strict"
        if said.get("breaker") == 0:
            said["breaker"] = None
        if "stop_on_exit" in said:
            said["stop_on_exit"] = "stop" if said["stop_on_exit"] else "leave"
        return said


def _absolute(template: str) -> str:
    """Put a template below the present folder, whose own braces are no fields."""
    here = str(Path.cwd()).replace("{", "{{").replace("}", "}}")
    return os.path.join(here, template)  # noqa: PTH118 - a Path would drop the slash at the end


@attrs.frozen(kw_only=True)
class Memory:
    """What a journal remembers of the command that began it. It holds no secret.

    Attributes:
        options: What was said then.
        jobs: The job file's path ("" if it cannot be read again).
        sha256: The digest of its content.
        base_url: Where the tasks are.
    """

    options: Options = attrs.field(factory=Options)
    jobs: str = ""
    sha256: str = ""
    base_url: str = ""

    def after(self, options: Options, jobs: JobsFile | None, base_url: str) -> Memory:
        """Return what to remember of a command that goes on from here; jobs that it does not read stay."""
        after = attrs.evolve(self, options=options, base_url=base_url)
        if jobs is None:
            return after
        path = os.fsencode(jobs.path).decode("utf-8", "surrogateescape") if jobs.is_kept else ""
        return attrs.evolve(after, jobs=path, sha256=jobs.sha256 if jobs.is_kept else "")

    @classmethod
    def read(cls, data: object) -> Memory:
        """Read what ``record`` returned; what is not of its form is as if it were not there."""
        fields = data if isinstance(data, Mapping) else {}
        options = fields.get("options")
        texts = {name: str(fields.get(name) or "") for name in ("jobs", "sha256", "base_url")}
        return cls(options=Options().over(options if isinstance(options, Mapping) else {}), **texts)

    def record(self) -> JSON:
        """Return it as the journal keeps it."""
        return {
            "options": self.options.said,
            "jobs": self.jobs,
            "sha256": self.sha256,
            "base_url": self.base_url,
        }
