"""The JSON that ``--json`` writes. Pure.

Amounts of money are strings, to the last digit that the service sent; durations are seconds as numbers;
times are ISO 8601 strings in UTC; what is not known is null. No record holds a token or a key.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from wiro_async import (
    Check,
    LogLine,
    Model,
    ModelInput,
    Output,
    Status,
    Task,
    TaskProgress,
    TaskResult,
    Transition,
    Upload,
)
from wiro_async.cli._text import JSON

__all__ = [
    "check_record",
    "line_record",
    "model_record",
    "models_record",
    "progress_record",
    "result_record",
    "task_record",
    "tasks_record",
    "transition_record",
    "upload_record",
    "why",
]


def transition_record(task_id: str | None, transition: Transition) -> JSON:
    """One line of ``run --json`` and ``watch --json``."""
    return {
        "type": "transition",
        "task_id": task_id,
        "status": transition.status,
        "at": transition.at.isoformat(),
        "observed": transition.observed,
    }


def progress_record(task_id: str | None, progress: TaskProgress) -> JSON:
    """One line of ``run --json`` and ``watch --json``: how far the task is."""
    return {
        "type": "progress",
        "task_id": task_id,
        "task": progress.task,
        "percentage": progress.percentage,
        "step": progress.step,
        "steps": progress.steps,
        "speed": progress.speed,
        "speed_unit": progress.speed_unit,
        "elapsed": progress.elapsed_seconds,
        "remaining": progress.remaining_seconds,
    }


def line_record(task_id: str | None, line: LogLine) -> JSON:
    """One line of ``run --json`` and ``watch --json``: what the task wrote."""
    return {"type": "line", "task_id": task_id, "stream": line.stream, "text": line.text}


def result_record(task: Task, saved: list[Path]) -> JSON:
    """The last line of ``run --json`` and ``watch --json``: how the task ended."""
    return {**task_record(task), "type": "result", "saved": [str(path) for path in saved]}


def task_record(task: Task) -> JSON:
    """A task as it is now."""
    return {
        "type": "task",
        "task_id": task.id,
        "model": task.model or None,
        "status": task.status,
        "outcome": task.outcome,
        "reason": why(task) or None,
        "cost": _money(task.cost),
        "elapsed": TaskResult.of(task).elapsed,
        "created_at": task.created_at.isoformat() if task.created_at else None,
        "started_at": task.started_at.isoformat() if task.started_at else None,
        "ended_at": task.ended_at.isoformat() if task.ended_at else None,
        "parameters": dict(task.parameters),
        "outputs": [_output(output) for output in task.outputs],
        "debug_output": task.debug_output,
        "debug_error": task.debug_error,
    }


def tasks_record(tasks: list[Task]) -> JSON:
    """A listing of tasks."""
    return {"type": "tasks", "tasks": [task_record(task) for task in tasks]}


def why(task: Task) -> str:
    """Why a task failed or waits in ``task_error`` ("" for others: their last line is just a line)."""
    stands = task.status in (Status.ERROR, Status.ERROR_FULL)
    return task.reason if task.outcome == "failed" or stands else ""


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _output(output: Output) -> JSON:
    return {
        "name": output.name,
        "url": output.url or None,
        "content_type": output.content_type,
        "size": output.size,
        "content": output.content,
    }


def upload_record(upload: Upload) -> JSON:
    """A file that was uploaded."""
    return {
        "type": "upload",
        "url": upload.url,
        "name": upload.name,
        "id": upload.id,
        "size": upload.size,
        "content_type": upload.content_type,
    }


def models_record(models: list[Model]) -> JSON:
    """A listing of the catalogue."""
    return {
        "type": "models",
        "models": [
            {"slug": model.slug, "title": model.title, "categories": list(model.categories)}
            for model in models
        ],
    }


def model_record(model: Model) -> JSON:
    """One model and its inputs; the price is about what a run costs, in USD."""
    return {
        "type": "model",
        "slug": model.slug,
        "title": model.title,
        "description": model.description,
        "categories": list(model.categories),
        "price": _money(model.price),
        "inputs": [_model_input(item) for item in model.inputs],
    }


def check_record(model: str, check: Check) -> JSON:
    """What ``run --dry-run`` finds; the price is about what the run costs, in USD."""
    return {
        "type": "check",
        "model": model,
        "problems": list(check.problems),
        "notes": list(check.notes),
        "price": _money(check.price),
        "price_source": check.price_source,
    }


def _model_input(item: ModelInput) -> JSON:
    return {
        "name": item.name,
        "type": item.type,
        "label": item.label,
        "required": item.required,
        "default": item.default,
        "options": list(item.options),
        "min": item.min,
        "max": item.max,
        "step": item.step,
        "note": item.note,
    }
