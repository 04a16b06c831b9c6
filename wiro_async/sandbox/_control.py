"""The sandbox's own switches below ``/sandbox``: no service has them, and they need a token of their own."""

from __future__ import annotations

from typing import Any, cast, get_args

from wiro_async.sandbox._body import Fields
from wiro_async.sandbox._engine import Action
from wiro_async.sandbox._refusal import Refusal, bad_request
from wiro_async.sandbox._service import Reply, Service
from wiro_async.sandbox._sockets import check_cut

__all__ = ["control"]


def control(service: Service, method: str, parts: list[str], fields: Fields) -> Reply:
    """Answer one request.

    ``GET ledger`` shows the books, ``POST balance {"balance": 25}`` sets the account's balance in USD,
    ``POST tasks/{id} {"action": "fail", "reason": "..."}`` steers a task (see ``Engine.steer``),
    ``POST reset`` begins anew (see ``Sandbox.reset``),
    ``POST sockets {"how": "drop", "code": 1011, "share": 1}`` breaks WebSockets (``Sandbox.cut_sockets``).

    Raises:
        Refusal: 404 for other paths, 0 for unknown actions and values, 1 for tasks that do not live.
    """
    now = service.clock()
    match method, parts:
        case "GET", ["ledger"]:
            return service.ledger()
        case "POST", ["balance"]:
            service.engine.set_balance(_amount(fields.get("balance")), now)
            return {"balance": str(service.engine.balance)}
        case "POST", ["tasks", task_id]:
            reason = fields.get("reason")
            task = service.engine.steer(
                task_id, _action(fields.get("action")), now, None if reason is None else str(reason)
            )
            service.renderer.poke()
            return {"taskid": task.id, "status": task.status(now).value}
        case "POST", ["reset"]:
            service.reset()()
            return {}
        case "POST", ["sockets"]:
            return {"cut": _cut(service, fields)}
    raise Refusal(0, "Error parsing url.", http_status=404)


def _cut(service: Service, fields: Fields) -> int:
    how, code, share = fields.get("how", "drop"), fields.get("code", 1011), fields.get("share", 1)
    try:
        check_cut(how, code, share)
    except (TypeError, ValueError) as error:
        raise bad_request(str(error)) from None
    return service.sockets.cut(how, code, share)


def _amount(value: Any) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise bad_request(f'balance must be USD, not {value!r}: send {{"balance": 25}}.')
    return amount


def _action(value: Any) -> Action:
    if value not in get_args(Action):
        raise bad_request(f"action must be one of {', '.join(get_args(Action))}, not {value!r}.")
    return cast("Action", value)
