"""How tasks, files and models look on the wire: flat objects whose scalars are strings. Pure."""

from __future__ import annotations

import functools
import json
from decimal import Decimal
from typing import Any

from wiro_async._types import Status
from wiro_async.sandbox._catalogue import Input, Model
from wiro_async.sandbox._engine import Output, Task

__all__ = ["file_json", "outputs_json", "task_json", "tool_json"]

_TIMES = {
    Status.START: "starttime",
    Status.END: "endtime",
    Status.ACCEPT: "accepttime",
    Status.ASSIGN: "assigntime",
    Status.PREPROCESS_START: "preprocessstarttime",
    Status.PREPROCESS_END: "preprocessendtime",
    Status.POSTPROCESS_START: "postprocessstarttime",
    Status.POSTPROCESS_END: "postprocessendtime",
    Status.CANCEL: "canceltime",
}


def task_json(task: Task, now: float, *, cdn_url: str, short: bool = False) -> dict[str, Any]:
    """A task as Detail, List, Cancel and Kill show it.

    Args:
        task: The task.
        now: The time.
        cdn_url: What output URLs begin with.
        short: Whether to show the first documents' short form: no pexit, no costs.
    """
    status = task.status(now)
    ended = status in {Status.POSTPROCESS_END, Status.CANCEL}
    done = ended and now >= task.judged_at
    outputs = outputs_json(task, cdn_url=cdn_url, short=short) if done and now >= task.files_at else []
    began, stopped = _span(task, now)
    reply: dict[str, Any] = {
        "id": task.id,
        "uuid": task.uuid,
        "socketaccesstoken": task.token,
        "parameters": {} if short else task.order.parameters,
        "debugoutput": task.debugoutput if done else "",
        "debugerror": task.debugerror if status is Status.ERROR else "",
        "elapsedseconds": f"{stopped - began:.4f}",
        "status": status.value,
        "createtime": str(int(task.created)),
        **_times(task, now),
        "outputs": outputs,
        "size": str(sum(output.size for output in task.outputs) if outputs else 0),
    }
    if not short:
        reply |= _long_form(task, now)
        reply["pexit"] = task.pexit if done else ""
    if task.printed and ended:
        outputs = [_output_json(output, task, cdn_url, short=short) for output in task.printed_outputs]
        reply |= {**task.printed, "outputs": outputs}
    return reply


def _span(task: Task, now: float) -> tuple[float, float]:
    """When the run began and ended, or would end if it did now."""
    reached = {stage.status: stage.at for stage in task.stages if stage.at <= now}
    end = reached.get(Status.END, reached.get(Status.CANCEL, now))
    # What was cancelled in the queue never ran: it took no time.
    return reached.get(Status.START, end), end


def _times(task: Task, now: float) -> dict[str, str]:
    times = dict.fromkeys(_TIMES.values(), "0")
    for at, status in task.stages:
        if at > now:
            break
        name = _TIMES.get(status)
        if name is not None:
            times[name] = str(int(at))
    return times


def _cost(task: Task, now: float) -> str | None:
    """The charge; before it is recorded, one of the forms in which the service says nothing."""
    if task.cost and now < task.charged_at:
        return ("0", None, "")[int(task.id) % 3]
    return f"{task.cost:.12f}" if task.cost else "0"


def _long_form(task: Task, now: float) -> dict[str, Any]:
    model = task.order.model
    owner, _, name = model.slug.partition("/")
    return {
        "name": "",
        "cps": f"{task.order.price / round(task.order.run_median) if task.order.run_median >= 1 else 0:.12f}",
        "totalcost": _cost(task, now),
        "guestid": None,
        "projectid": task.order.project_id,
        "modelid": model.id,
        "description": "",
        "basemodelid": "0",
        "runtype": "model",
        "modelfolderid": "",
        "modelfileid": "",
        "callbackurl": task.order.callback_url,
        "marketplaceid": None,
        "categories": _as_text(model.categories),
        "modeldescription": model.description or model.title,
        "modelslugowner": owner,
        "modelslugproject": name,
        "outputfolderid": task.outputs[0].parentid if task.outputs else "",
    }


@functools.cache
def _as_text(categories: tuple[str, ...]) -> str:
    """Task records hold JSON as a text, where the catalogue has an array: the documents show it so."""
    return json.dumps(list(categories))


def outputs_json(task: Task, *, cdn_url: str, short: bool = False) -> list[dict[str, Any]]:
    """A finished task's outputs."""
    return [_output_json(output, task, cdn_url, short=short) for output in task.outputs]


def _output_json(output: Output, task: Task, cdn_url: str, *, short: bool) -> dict[str, Any]:
    if output.content is not None:
        return {"contenttype": output.contenttype, "content": output.content}
    reply = file_json(output, cdn_url=cdn_url) | {"uuid": task.uuid}
    if not short:
        reply |= {"foldercount": "0", "filecount": "0", "ispublic": 0, "expiretime": None}
    return reply


def file_json(file: Output, *, cdn_url: str) -> dict[str, Any]:
    """A stored file: an output or an upload."""
    return {
        "id": file.id,
        "name": file.name,
        "contenttype": file.contenttype,
        "parentid": file.parentid,
        "size": str(file.size),
        "addedtime": str(int(file.addedtime)),
        "modifiedtime": str(int(file.addedtime)),
        "accesskey": file.accesskey,
        "url": f"{cdn_url}/{file.path}",
    }


def tool_json(model: Model, *, price: Decimal, detail: bool = False) -> dict[str, Any]:
    """A model as Tool/List shows it, or with its parameters as Tool/Detail does."""
    owner, _, name = model.slug.partition("/")
    clean_owner, _, clean_name = model.clean_slug.partition("/")
    reply: dict[str, Any] = {
        "id": model.id,
        "title": model.title,
        "slugowner": owner,
        "slugproject": name,
        "cleanslugowner": clean_owner,
        "cleanslugproject": clean_name,
        "description": model.description or model.title,
        "image": model.image,
        "computingtime": f"{model.typical_seconds:g} seconds",
        "categories": list(model.categories),
        "tags": list(model.tags),
        "dynamicprice": json.dumps([{"inputs": {}, "price": float(price), "priceMethod": "cpr"}]),
    }
    if detail:
        items = [_input_json(item) for item in model.inputs]
        reply["parameters"] = [{"title": "Inputs", "items": items}]
    return reply


def _input_json(item: Input) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "id": item.id,
        "type": item.type,
        "label": item.label,
        "required": item.required,
        "default": item.default,
        "note": item.note,
    }
    if item.options:
        reply["options"] = [{"label": option, "value": option} for option in item.options]
    limits = {"min": item.min, "max": item.max, "step": item.step}
    return reply | {name: value for name, value in limits.items() if value is not None}
