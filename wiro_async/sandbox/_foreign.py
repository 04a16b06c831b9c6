"""Replies about a task that was not asked about."""

from __future__ import annotations

import json
import random
import string
import uuid
from typing import Any

from wiro_async.sandbox import _wire
from wiro_async.sandbox._replies import task_json
from wiro_async.sandbox._service import Service
from wiro_async.sandbox.faults import Request

__all__ = ["foreign_reply"]


def foreign_reply(service: Service, request: Request, reply: bytes, *, invented: bool) -> bytes:
    """Make a good reply about another task of the same project, or about one that does not exist.

    Args:
        service: What knows the tasks.
        request: The question.
        reply: The true answer.
        invented: Whether to invent the task even if there is another one.
    """
    true = json.loads(_wire.body_of(reply))
    task = None if invented else _other_task(service, request, true)
    if task is None:
        task = _invented_task(request, (true.get("tasklist") or [{}])[0])
    if request.operation == "Run":
        return _wire.envelope({"taskid": task["id"], "socketaccesstoken": task["socketaccesstoken"]})
    return _wire.envelope({"total": "1", "tasklist": [task]})


def _other_task(service: Service, request: Request, true: dict[str, Any]) -> dict[str, Any] | None:
    """The newest task of the project that the true answer is not about."""
    project = service.gate.project(request.headers.get("x-api-key", ""))
    if project is None:
        return None
    own = {true.get("taskid")} | {task["id"] for task in true.get("tasklist", [])}
    now = service.clock()
    for task in service.engine.tasks(now, project_id=project.id):
        if task.id not in own:
            return task_json(task, now, cdn_url=service.cdn_url)
    return None


def _invented_task(request: Request, model: dict[str, Any]) -> dict[str, Any]:
    rng = random.Random(f"{request.operation}/{request.number}")  # noqa: S311 - a simulation, not a secret
    return {
        "status": "task_queue",
        "outputs": [],
        **model,
        "id": str(900_000_000 + rng.randrange(1_000_000)),
        "uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "socketaccesstoken": "".join(rng.choices(string.ascii_letters + string.digits, k=30)),
        "callbackurl": "",
    }
