"""What the commands do, once their words are understood and a client is there."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import attrs
from rich.table import Table
from rich.text import Text

from wiro_async import (
    Check,
    CheckMode,
    Client,
    ConfigurationError,
    InvalidInput,
    InvalidTaskState,
    Model,
    ModelInput,
    OnCancel,
    Output,
    Task,
    TaskHandle,
    TaskResult,
    TaskTimeout,
    WiroError,
)
from wiro_async.cli._batch_options import in_options
from wiro_async.cli._live import StatusLine, status_line
from wiro_async.cli._records import (
    check_record,
    model_record,
    models_record,
    result_record,
    task_record,
    tasks_record,
    upload_record,
    why,
)
from wiro_async.cli._report import Report
from wiro_async.cli._session import Code, Session, without_warnings
from wiro_async.cli._text import charge, clean, clipped, clock, megabytes, usd
from wiro_async.cli._values import parse_values

__all__ = [
    "Run",
    "Watch",
    "check_folder",
    "download",
    "end",
    "list_models",
    "list_tasks",
    "show_model",
    "status",
    "upload",
]

Verb = Literal["cancel", "kill", "stop"]


# -- one task, to its end ------------------------------------------------------------------------------------


@attrs.frozen
class Watch:
    """Follows a task to its end.

    Args:
        session: The command.
        folder: Where its outputs are saved (None: nowhere).
        on_cancel: What becomes of the task when the command is interrupted or its timeout passes.
    """

    session: Session
    folder: Path | None = None
    on_cancel: OnCancel = "keep"

    async def follow(self, handle: TaskHandle) -> int:
        """Follow a task that was started elsewhere."""
        self.session.track(handle)
        with status_line(self.session.report, "looking") as line:
            return await self.to_end(handle, line)

    async def to_end(self, handle: TaskHandle, line: StatusLine) -> int:
        """Print the task's transitions, then what came of it.

        Raises:
            TaskFailed, TaskCancelled: So it ended.
            TaskUnclear: It has ended, and the service does not say how.
            TaskTimeout: It has not ended in time.
        """
        try:
            await self._print_events(handle, line)
        except (TaskTimeout, asyncio.CancelledError) as error:
            if self.on_cancel == "stop":
                await stop_quietly(handle)
            if not (isinstance(error, TaskTimeout) and _succeeded(handle)):
                raise
        # The end may come before its exit code and its outputs.
        task = await handle.wait()
        saved = await self._save(task, line)
        self.session.report.record(result_record(task, saved))
        _say_result(self.session.report, await handle, saved)
        return Code.OK

    async def _print_events(self, handle: TaskHandle, line: StatusLine) -> None:
        # One deadline for all of them: the iteration has one for each.
        seconds = self.session.timeout
        with anyio.move_on_after(seconds) as scope:
            async for event in handle.events():
                line.add(handle.id, event)
        if scope.cancelled_caught:
            raise TaskTimeout("", handle=handle, waited=seconds, task_id=handle.id, task=handle.task)

    async def _save(self, task: Task, line: StatusLine) -> list[Path]:
        if self.folder is None or task.outcome != "succeeded":
            return []
        line.doing("downloading")
        return await save_outputs(task.outputs, self.folder)


@attrs.frozen
class Run:
    """Starts a task and follows it to its end.

    Args:
        model: The model's slug.
        inputs: The inputs, as ``-i`` takes them.
        watch: How to follow it.
        max_cost: USD that it may cost (None: no limit).
        allow_unpriced: Whether to run it in spite of that if nobody knows its price.
        check: How the inputs are checked.
        dry_run: Whether only to check and to estimate.
    """

    model: str
    inputs: Sequence[str]
    watch: Watch
    max_cost: str | None = None
    allow_unpriced: bool = False
    check: CheckMode = attrs.field(default=True, kw_only=True)
    dry_run: bool = attrs.field(default=False, kw_only=True)

    async def __call__(self, client: Client) -> int:
        """Run it."""
        report = self.watch.session.report
        inputs = await anyio.to_thread.run_sync(parse_values, self.inputs)
        if self.check is not False or self.dry_run:
            with without_warnings("wiro_async.checks"):
                check = await client.check(self.model, inputs, strict=self.check == "strict")
            for note in check.notes:
                report.problem(f"note: {note}")
            if self.dry_run:
                return _say_check(report, self.model, check)
        if self.watch.folder is not None:
            await check_folder(self.watch.folder)
        with status_line(report, "submitting") as line:
            handle = self.watch.session.track(await self._submit(client, inputs))
            report.record({"type": "submitted", "task_id": handle.id, "model": self.model})
            report.say(f"task {handle.id} of {self.model}", "bold")
            return await self.watch.to_end(handle, line)

    async def _submit(self, client: Client, inputs: Mapping[str, object]) -> TaskHandle:
        try:
            # Where as many tasks run as the balance allows, this waits for one of them to end.
            return await client.submit(
                self.model,
                inputs,
                slot_timeout=self.watch.session.timeout,
                max_cost=self.max_cost,
                allow_unpriced=self.allow_unpriced,
                check=self.check,
            )
        except ConfigurationError as error:
            raise ConfigurationError(in_options(error.message)) from None
        except asyncio.CancelledError:
            # The answer may have come after the interruption; then the task is here and nowhere else.
            for handle in client.unclaimed if self.watch.on_cancel == "stop" else ():
                await stop_quietly(handle)
            raise


def _say_check(report: Report, model: str, check: Check) -> int:
    """Say whether a job could be made, and what it would cost."""
    report.record(check_record(model, check))
    for problem in check.problems:
        report.problem(problem)
    price = "unknown" if check.price is None else f"about {usd(check.price)}"
    report.say(f"price  {price}: {check.price_source}")
    if check.problems:
        return Code.USAGE
    report.say(f"{model} can be run; nothing was sent", "green")
    return Code.OK


async def check_folder(folder: Path) -> None:
    """Make the folder for the outputs, before anything is paid for.

    Raises:
        InvalidInput: Nothing can be written there.
    """

    def check() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    try:
        await anyio.to_thread.run_sync(check)
    except OSError as error:
        raise InvalidInput(f"the outputs cannot be saved in {str(folder)!r}: {error.strerror}") from None


async def stop_quietly(handle: TaskHandle) -> None:
    """Stop a task on the way out; if that fails, what is printed last says that it goes on."""
    with suppress(WiroError):
        await handle.stop()


def _succeeded(handle: TaskHandle) -> bool:
    return handle.task is not None and handle.task.outcome == "succeeded"


def _say_result(report: Report, result: TaskResult, saved: list[Path]) -> None:
    took = "" if result.elapsed is None else f" after a run of {clock(result.elapsed)}"
    report.say(f"succeeded{took}; cost {charge(result.cost)}", "green")
    for output in result.outputs:
        report.say(f"output  {_output_line(output)}")
    for path in saved:
        report.say(f"saved   {path}")


def _output_line(output: Output) -> str:
    if not output.url:
        return "  ".join(part for part in (output.name, output.text or json.dumps(output.content)) if part)
    return "  ".join(part for part in (output.name, megabytes(output.size), output.url) if part)


async def save_outputs(outputs: tuple[Output, ...], folder: Path) -> list[Path]:
    """Save every output that is a file, one after the other."""
    return [await output.save(f"{folder}{os.sep}") for output in outputs if output.url]


# -- one task, now -------------------------------------------------------------------------------------------


async def status(handle: TaskHandle, report: Report) -> int:
    """Show a task as it is now."""
    task = await handle.refresh()
    report.record(task_record(task))
    ended = f" ({task.outcome})" if task.outcome else ""
    elapsed = TaskResult.of(task).elapsed
    rows = [
        ("task", task.id),
        ("model", task.model),
        ("status", f"{task.status}{ended}"),
        ("reason", why(task)),
        ("created", task.created_at.isoformat() if task.created_at else ""),
        ("ended", task.ended_at.isoformat() if task.ended_at else ""),
        ("run time", "" if elapsed is None else clock(elapsed)),
        ("cost", charge(task.cost) if task.outcome else ""),
        *(("input", f"{name} = {clipped(value, 200)}") for name, value in task.parameters.items()),
        *(("output", _output_line(output)) for output in task.outputs),
    ]
    for name, value in rows:
        if value:
            report.say(f"{name:<9} {value}")
    return Code.OK


async def end(handle: TaskHandle, verb: Verb, report: Report) -> int:
    """Cancel, kill or stop a task, and show how it ended."""
    verbs = {"cancel": handle.cancel, "kill": handle.kill, "stop": handle.stop}
    try:
        task = await verbs[verb]()
    except InvalidTaskState:
        late, other = ("late", "kill") if verb == "cancel" else ("early", "cancel")
        message = f"task {handle.id} is {handle.status}: it is too {late} to {verb} it; {other} or stop it"
        report.error("InvalidTaskState", message, [handle.id])
        return Code.FAILURE
    report.record(task_record(task))
    if task.outcome == "cancelled":
        report.say(f"task {task.id} was cancelled; cost {charge(task.cost)}")
    elif not task.is_terminal:
        report.say(
            f"task {task.id} is {task.status}; its end was requested: `wiro watch {task.id}` waits for it"
        )
    else:
        report.say(
            f"task {task.id} had already ended: {task.outcome or task.status}; cost {charge(task.cost)}"
        )
    return Code.OK


async def download(handle: TaskHandle, folder: Path, report: Report) -> int:
    """Save the outputs of a task that has ended."""
    task = await handle.refresh()
    if not any(output.url for output in task.outputs):
        message = f"task {task.id} is {task.status} and has no output to download"
        if not task.is_terminal:
            message += f" yet; `wiro watch {task.id}` waits for it"
        report.error("NoOutput", message, [task.id])
        return Code.FAILURE
    with status_line(report, "downloading"):
        saved = await save_outputs(task.outputs, folder)
    report.record(result_record(task, saved))
    for path in saved:
        report.say(f"saved   {path}")
    return Code.OK


async def list_tasks(client: Client, model: str | None, limit: int, report: Report) -> int:
    """Show the project's newest tasks."""
    tasks = [task async for task in client.list_tasks(model=model, limit=limit)]
    report.record(tasks_record(tasks))
    if not tasks:
        report.say("no tasks found")
        return Code.OK
    rows = [
        (
            Text(clean(task.id), "bold"),
            Text(f"{task.created_at:%Y-%m-%d %H:%M:%S}" if task.created_at else ""),
            Text(clean(task.status)),
            Text(task.outcome or ""),
            Text(charge(task.cost) if task.outcome else ""),
            Text(clean(task.model)),
        )
        for task in tasks
    ]
    _show_rows(report, ("task", "created", "status", "outcome", "cost", "model"), rows, whole=(0, 5))
    _say_more(len(tasks), limit, report)
    return Code.OK


# -- files and models ----------------------------------------------------------------------------------------


async def upload(client: Client, file: Path, name: str | None, report: Report) -> int:
    """Upload a file; people get its URL alone, so that a shell can take it."""
    with status_line(report, "uploading"):
        uploaded = await client.upload(file, name=name)
    report.record(upload_record(uploaded))
    report.say(uploaded.url)
    return Code.OK


async def list_models(client: Client, word: str, category: str | None, limit: int, report: Report) -> int:
    """Show a part of the catalogue."""
    models = [model async for model in client.list_models(word, category=category, limit=limit)]
    report.record(models_record(models))
    if not models:
        report.say("no model matches; try a shorter word, or no category")
        return Code.OK
    rows = [
        (
            Text(clean(model.slug), "bold"),
            Text(clipped(model.title, 60)),
            Text(clean(", ".join(model.categories))),
        )
        for model in models
    ]
    _show_rows(report, ("model", "title", "categories"), rows, whole=(0,))
    _say_more(len(models), limit, report)
    return Code.OK


NARROWEST = 12
"""Columns of a terminal that a cell needs which may be broken."""


def _show_rows(
    report: Report, columns: Sequence[str], rows: Sequence[tuple[Text, ...]], whole: Sequence[int]
) -> None:
    """Show a table; or a few lines for each row, if the terminal is too narrow for what one came to copy.

    Args:
        report: Where it goes.
        columns: The names of the columns.
        rows: The cells.
        whole: The columns that must not be broken: the first of them heads the lines.
    """
    widths = [
        max(map(len, cells)) if place in whole else NARROWEST
        for place, cells in enumerate(zip(*rows, strict=True))
    ]
    if sum(widths) + 2 * (len(widths) - 1) <= report.console.width:
        table = _table(*columns)
        for place in whole:
            table.columns[place].no_wrap = True
        for row in rows:
            table.add_row(*row)
        report.show(table)
        return
    for head, *cells in rows:
        report.show(head, soft_wrap=True)
        for place, cell in enumerate(cells, 1):
            if cell.plain:
                line = Text(f"  {columns[place]}  ", "dim").append_text(cell)
                report.show(line, soft_wrap=place in whole)


def _say_more(count: int, limit: int, report: Report) -> None:
    """Say that a list may have been cut."""
    if count >= limit:
        report.say(f"more: --limit {2 * limit}", "dim")


async def show_model(client: Client, slug: str, report: Report) -> int:
    """Show a model's inputs, and a command that runs it."""
    model = await client.get_model(slug)
    report.record(model_record(model))
    report.say(model.slug, "bold")
    about = dict.fromkeys((model.title, model.description, ", ".join(model.categories)))
    for line in filter(None, about):
        report.say(line)
    if model.price is not None:
        report.say(f"price  about {usd(model.price)} a run")
    report.say()
    if model.inputs:
        table = _table("input", "type", "required", "default", "options")
        for item in model.inputs:
            table.add_row(*_input_row(item))
        report.show(table)
        report.say()
    report.say(f"try  {_example(model)}")
    return Code.OK


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _input_row(item: ModelInput) -> tuple[Text, ...]:
    name = Text(clean(item.name), "bold")
    if item.label and item.label != item.name:
        name.append(f"\n{clipped(item.label, 40)}", "dim")
    if item.note:
        name.append(f"\n{clipped(item.note, 200)}", "dim")
    return (
        name,
        Text(clean(item.type)),
        Text("yes" if item.required else ""),
        Text("" if item.default in (None, "", []) else clipped(item.default, 40)),
        Text(_choices(item)),
    )


def _choices(item: ModelInput) -> str:
    """The values to choose from, or the range of a number."""
    if item.options:
        return clipped(", ".join(option or '""' for option in item.options), 200)
    bounds = ((word, bound) for word, bound in (("from", item.min), ("to", item.max), ("step", item.step)))
    return " ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _example(model: Model) -> str:
    """A command that runs the model with its required inputs, or the first three where none is required."""
    required = [item for item in model.inputs if item.required] or list(model.inputs[:3])
    words = [f"wiro run {_quoted(model.slug)}"]
    for item in required:
        is_file = "file" in item.type or "image" in item.name.lower()
        words.append(f"-i {item.name}={'@photo.jpg' if is_file else '...'}")
    return " ".join(words)


def _quoted(slug: str) -> str:
    return f"'{slug}'" if " " in slug else slug
