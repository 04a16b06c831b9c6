"""The service's refusals: from its codes and words to the right error. Pure.

Code 0 stands for bad input and for the service's own faults alike, so it tells nothing by itself. A refusal
of a Run is believed only in words that are known to be one: a fault may be told after the task was made.
"""

from __future__ import annotations

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from wiro_async._errors import (
    APIError,
    AuthenticationError,
    ConcurrencyLimited,
    InsufficientBalance,
    InvalidInput,
    InvalidTaskState,
    ModelNotFound,
    RateLimited,
    ServiceError,
    TaskNotFound,
    TermsNotAccepted,
    WiroError,
)
from wiro_async._types import JSON

__all__ = [
    "EXCERPT", "UNCERTAIN", "first_error", "is_known_refusal", "one_line", "read_retry_after", "redacted",
    "refusal", "was_believed_too_soon",
]  # fmt: skip

EXCERPT = 500
"""Characters of the service's own words that errors quote."""

MAX_RETRY_AFTER = 120.0
"""Seconds of a Retry-After that are honoured."""

UNCERTAIN = frozenset({408, 409, 425, 499})
"""The HTTP statuses of a request that timed out, met another one, or was given up: it may have been taken."""

_CREDENTIAL = re.compile(
    r"(socketaccesstoken|tasktoken|accesskey|x-api-key|x-signature)(\W{0,4}[:=]\W{0,4})[\w+/=.-]+",
    re.IGNORECASE,
)
"""A credential beside its name: in JSON, in JSON within JSON, in a query, or in headers echoed by a proxy."""


def redacted(said: str) -> str:
    return _CREDENTIAL.sub(r"\1\2**********", said)


_CODES: dict[int, type[APIError]] = {
    96: ConcurrencyLimited,
    97: InsufficientBalance,
    98: TermsNotAccepted,
    99: AuthenticationError,
}


# The same code stands for several refusals, so the words decide first; they are matched in lower case.
_WORDS: tuple[tuple[str, type[APIError]], ...] = (
    ("project authorization", AuthenticationError),
    ("project requires signature", AuthenticationError),
    ("requested ip", AuthenticationError),
    ("concurrent task limit", ConcurrencyLimited),
    ("insufficient balance", InsufficientBalance),
    ("sign in to run", TermsNotAccepted),
    ("tool-not-accessible", ModelNotFound),
    ("slug-owner-project-not-exist", ModelNotFound),
    ("there is no task yet", TaskNotFound),
    ("task-not-exist", TaskNotFound),
    ("not in a cancellable state", InvalidTaskState),
    ("could not be killed", InvalidTaskState),
)


# Known refusals that have no class of their own: those of the documentation's error reference.
_OTHER_REFUSALS = (
    "error parsing url", "have any permission for this action", "your account has been suspended",
    "this model is not allowed in your team", "your model name should be contain", "this name is not allowed",
    "this model name is already in use",
)  # fmt: skip

_REFUSED_INPUT = re.compile(
    r"Request (?:parameters?|files?)(?: \[([^\]]*)\])? (?:required|must be|are invalid|is invalid)"
)


_CODE_1: dict[str, type[APIError]] = {
    "Run": ModelNotFound,
    "Tool/Detail": ModelNotFound,
    "Task/Detail": TaskNotFound,
    "Task/Cancel": InvalidTaskState,
    "Task/Kill": InvalidTaskState,
}


_HINTS: dict[type[APIError], str] = {
    AuthenticationError: "check the key and secret, and whether the project is signed or key-only",
    ModelNotFound: "list the models with client.list_models('word') or `wiro models WORD`",
    TaskNotFound: "check the id, and that it was made by a project of the same account",
    InvalidTaskState: "cancel() is for queued tasks, kill() for running ones; stop() picks by itself",
    ConcurrencyLimited: "wait for one of your tasks to end, or add funds",
    InsufficientBalance: "add funds; nothing was charged",
    TermsNotAccepted: "sign in on the service's site and accept the model's terms",
    RateLimited: "slow down",
}


def refusal(operation: str, status: int, payload: JSON, retry_after: float | None = None) -> WiroError:
    """Return the error for a reply that means no.

    Args:
        operation: The call, such as ``Task/Detail``.
        status: The reply's HTTP status.
        payload: The reply's JSON object (empty: it had none).
        retry_after: Seconds that the service asked us to wait (None: it did not).
    """
    code, detail = first_error(payload.get("errors"))
    if not payload and status >= 400:
        detail = f"HTTP {status}, no JSON object in the body"
    facts: dict[str, Any] = {"code": code, "http_status": status, "operation": operation, "detail": detail}
    kind = _kind(operation, status, code, detail)
    if issubclass(kind, InvalidInput):
        refused = _REFUSED_INPUT.match(detail)
        assert refused is not None
        return InvalidInput(f"{operation}: the service refused an input: {detail}", name=refused[1] or None)
    if kind is ConcurrencyLimited:
        limit = re.search(r"up to (\d{1,9}) task", detail)
        facts["limit"] = int(limit[1]) if limit else None
    if kind in (RateLimited, ServiceError):
        facts["retry_after"] = retry_after
    hint = _HINTS.get(kind, "")
    message = f"{operation}: {detail or 'refused without a reason'}"
    return kind(f"{message} ({hint})" if hint else message, **facts)


def _kind(operation: str, status: int, code: int | None, detail: str) -> type[APIError] | type[InvalidInput]:
    if status == 429:
        return RateLimited
    if status >= 500 or (operation == "Run" and status in UNCERTAIN):
        return ServiceError
    if status in (401, 403):
        return AuthenticationError
    if _REFUSED_INPUT.match(detail):
        return InvalidInput
    said = detail.lower()
    by_words = next((kind for words, kind in _WORDS if words in said), None)
    if by_words is not None:
        return by_words
    if code == 1:
        return _CODE_1.get(operation, ServiceError)
    return _CODES.get(code, ServiceError) if code is not None else ServiceError


def is_known_refusal(status: int | None, detail: str) -> bool:
    """Tell whether a ``ServiceError`` of a Run says in known words that there is no task.

    Args:
        status: The reply's HTTP status (None: unknown).
        detail: The service's words.
    """
    if status is None or status >= 500 or status in UNCERTAIN:
        return False
    return any(words in detail.lower() for words in _OTHER_REFUSALS)


def was_believed_too_soon(error: str, message: str) -> bool:
    """Tell whether a Run that is on record as refused may have been accepted all the same.

    Earlier versions took a web page with a 4xx, and code 0 with any words, for a refusal.

    Args:
        error: The name of the class of the error on record.
        message: Its message.
    """
    if error == "InvalidInput":
        said = message.partition("the service refused an input: ")[2]
        return said != "" and _REFUSED_INPUT.match(said) is None
    if error == "ServiceError":
        return not any(words in message.lower() for words in _OTHER_REFUSALS)
    return error == "AuthenticationError" and "no JSON object in the body" in message


def first_error(errors: object) -> tuple[int | None, str]:
    """Read the first error: objects, plain strings, null and nothing at all have been seen."""
    item = errors
    while isinstance(item, list):
        item = item[0] if item else None
    if isinstance(item, dict):
        return _code(item.get("code")), one_line(item.get("message"))
    return None, one_line(item)


def one_line(message: object) -> str:
    """Read the service's own words as one line that is safe to log and to print on a terminal."""
    if not isinstance(message, str):
        return ""
    line = "".join(character if character.isprintable() else " " for character in message[: 2 * EXCERPT])
    return redacted(" ".join(line.split()))[:EXCERPT]


def _code(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,6}\s*", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_retry_after(header: str, now: float) -> float | None:
    """Read a Retry-After header: seconds or a date; between 0 and 120 s, whatever it says.

    Args:
        header: The header's value ("" for none).
        now: The time of day, in unix seconds.
    """
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
            # Two of HTTP's three date formats may come without a zone; all are in GMT (RFC 9110, 5.6.7).
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if not math.isnan(seconds) else None
