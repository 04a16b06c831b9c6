"""How a task ended, or that it did not, as exceptions."""

from __future__ import annotations

from wiro_async._errors import WiroError
from wiro_async._protocol.records import Task

__all__ = ["TaskCancelled", "TaskError", "TaskFailed", "ending"]


class TaskError(WiroError):
    """How a task ended, or that it did not.

    Attributes:
        task_id: The task's id (None where only its token was ever known).
        task: The last snapshot of the task that was seen.
    """

    def __init__(self, message: str, *, task_id: str | None = None, task: Task | None = None) -> None:
        super().__init__(message)
        self.task_id: str | None = task_id
        self.task: Task | None = task


class TaskFailed(TaskError):
    """The task ran to its end and failed: its exit code is not "0".

    It is usually not billed; ``task.cost`` is what the service says (0: not billed; None: it does not say).

    Attributes:
        reason: The last line of the task's output, where models say what went wrong.
    """

    def __init__(
        self, message: str, *, reason: str = "", task_id: str | None = None, task: Task | None = None
    ) -> None:
        super().__init__(message, task_id=task_id, task=task)
        self.reason: str = reason


class TaskCancelled(TaskError):
    """The task was cancelled while queued, or killed while running, by anybody.

    One that was running may still be charged, some time after its end: ``task.cost`` is None until that is
    known.
    """


def ending(task: Task) -> TaskCancelled | TaskFailed:
    """Return the error that tells how a task ended that did not succeed."""
    if task.outcome == "cancelled":
        return TaskCancelled(f"task {task.id} was cancelled; {_bill(task)}", task_id=task.id, task=task)
    reason = task.reason
    shown = f": {reason[:300]}" if reason else " and gave no reason"
    return TaskFailed(
        f"task {task.id} failed (exit code {task.pexit}){shown}; {_bill(task)}",
        reason=reason,
        task_id=task.id,
        task=task,
    )


def _bill(task: Task) -> str:
    """Say what the service says of the charge."""
    if task.cost is None:
        return "the service does not say yet whether it is billed"
    return f"it was billed ${task.cost:f}" if task.cost else "it was not billed"
