"""The service's calls, and how to read their answers. Pure.

A reply is believed only when it is about the task that was asked for: what is left over on a connection can
answer the wrong call.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

from wiro_async._errors import InvalidResponse, TaskNotFound
from wiro_async._protocol.records import OutputStore, Task, parse_task, records, secret, text
from wiro_async._protocol.slugs import model_path
from wiro_async._types import JSON, Payload, Secret, is_utf8

__all__ = ["Accepted", "Operation", "Priority", "TaskKey", "read_accepted", "read_task", "read_tasks", "run"]


class Priority(IntEnum):
    """Who goes first when there are more calls than slots: stopping saves money, submitting earns it."""

    STOP = 0
    RUN = 1
    READ = 2


class Operation(NamedTuple):
    """One of the service's calls.

    Attributes:
        name: What errors and logs call it.
        path: Its path below the base URL, percent-encoded.
        priority: Its place in the queue for a slot.
        paid: Whether it may cost money, so that it must never be repeated blindly.
        max_idle: Connections that were idle for longer are not used, in seconds: the service may be closing
            them at this moment, and then nobody knows whether the call arrived.
    """

    name: str
    path: str
    priority: Priority = Priority.READ
    paid: bool = False
    max_idle: float = 5.0


DETAIL: Final = Operation("Task/Detail", "Task/Detail")
LIST: Final = Operation("Task/List", "Task/List")
CANCEL: Final = Operation("Task/Cancel", "Task/Cancel", Priority.STOP)
KILL: Final = Operation("Task/Kill", "Task/Kill", Priority.STOP)
DELETE_FILES: Final = Operation("Task/InputOutputDelete", "Task/InputOutputDelete")
TOOL_LIST: Final = Operation("Tool/List", "Tool/List")
TOOL_DETAIL: Final = Operation("Tool/Detail", "Tool/Detail")
UPLOAD: Final = Operation("File/Upload", "File/Upload")


def run(model: str) -> Operation:
    """Return the Run of one model.

    Raises:
        InvalidInput: The slug is not ``owner/model``.
    """
    return Operation("Run", f"Run/{model_path(model)}", Priority.RUN, paid=True, max_idle=2.0)


class TaskKey(NamedTuple):
    """What a task is known by: its id, its token, or both."""

    id: str | None = None
    token: Secret | None = None

    def __str__(self) -> str:
        return self.id if self.id is not None else "known by its token only"

    def payload(self, token_name: str) -> JSON:
        """Return the key as a call's payload; the id wins, tokens being secrets."""
        if self.id is not None:
            return Payload(taskid=self.id)
        assert self.token is not None
        return Payload({token_name: self.token.reveal()})

    def fits(self, task: Task) -> bool:
        """Tell whether *task* is the one that this key names."""
        if self.id is not None:
            return task.id == self.id
        return self.token is not None and task.token == self.token


class Accepted(NamedTuple):
    """A Run that the service took."""

    id: str
    token: Secret | None


def read_accepted(payload: JSON) -> Accepted:
    """Read a Run's answer.

    Raises:
        InvalidResponse: It names no task, or one that cannot be asked for.
    """
    task_id = text(payload.get("taskid"))
    if not task_id or not is_utf8(task_id):
        raise InvalidResponse(
            "Run: accepted, but the reply names no task id", http_status=200, operation="Run"
        )
    token = secret(payload.get("socketaccesstoken"))
    return Accepted(task_id, token if token is not None and is_utf8(token.reveal()) else None)


def read_task(operation: Operation, payload: JSON, key: TaskKey, store: OutputStore | None = None) -> Task:
    """Read the one task that was asked for.

    Raises:
        TaskNotFound: The service has none.
        InvalidResponse: The reply is about another task, or not about tasks at all.
    """
    if "tasklist" not in payload:
        raise InvalidResponse(
            f"{operation.name}: asked for task {key}, the reply has no tasklist",
            http_status=200,
            operation=operation.name,
        )
    tasks = read_tasks(payload, store, key.token)
    if not tasks:
        raise TaskNotFound(
            f"{operation.name}: there is no task {key} under this project",
            http_status=200,
            operation=operation.name,
        )
    for task in tasks:
        if key.fits(task):
            return task
    raise InvalidResponse(
        f"{operation.name}: asked for task {key}, the reply is about {tasks[0].id or 'none that has an id'}",
        http_status=200,
        operation=operation.name,
    )


def read_tasks(payload: JSON, store: OutputStore | None = None, token: Secret | None = None) -> list[Task]:
    """Read every task of a reply.

    Args:
        payload: The reply.
        store: Reads the tasks' outputs.
        token: The token of one of the tasks, where it is known already.

    Raises:
        InvalidResponse: It is not about tasks: taken for an empty list, it would prove a Run's task absent.
    """
    if "tasklist" not in payload:
        raise InvalidResponse("Task/List: the reply has no tasklist", http_status=200, operation="Task/List")
    return [parse_task(item, store, token) for item in records(payload.get("tasklist"))]


def list_payload(model: str | None, start: int, limit: int) -> dict[str, Any]:
    """Return the payload of Task/List; numbers travel as strings, as in the official client."""
    payload = {"type": "model", "sort": "id", "order": "DESC", "start": str(start), "limit": str(limit)}
    return payload if model is None else {**payload, "modelName": model}
