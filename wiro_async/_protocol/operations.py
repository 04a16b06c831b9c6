"""The service's calls, and the slugs of models in their paths. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from wiro_async._errors import InvalidInput
from wiro_async._types import Priority

__all__ = ["Operation", "clean_slug", "list_payload", "model_path", "run", "split_slug"]


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


def list_payload(model: str | None, start: int, limit: int) -> dict[str, Any]:
    """Return the payload of Task/List; numbers travel as strings, as in the official client."""
    payload = {"type": "model", "sort": "id", "order": "DESC", "start": str(start), "limit": str(limit)}
    return payload if model is None else {**payload, "modelName": model}


# -- slugs -----------------------------------------------------------------------------------------------

# Real slugs hold capitals, dots and spaces (``wiro/Product Photoshoot``, ``lightricks/ ltx-2.3``), so they
# are encoded, not restricted; only what would change the path's meaning is refused.

MAX_SLUG = 200
"""Characters of a slug at most."""


def model_path(slug: str) -> str:
    """Return ``owner/model``, percent-encoded segment by segment.

    Raises:
        InvalidInput: The slug is not ``owner/model``, or holds what no slug can hold.
    """
    return quote("/".join(split_slug(slug)), safe="/")


def split_slug(slug: str) -> tuple[str, str]:
    """Return owner and model.

    Raises:
        InvalidInput: As for ``model_path``.
    """
    if not isinstance(slug, str):
        raise InvalidInput(
            f"the model is a {type(slug).__name__}; it must be a str like owner/model", name="model"
        )
    if len(slug) > MAX_SLUG:
        raise _refusal(f"{slug[:60]!r}… has {len(slug)} characters; the limit is {MAX_SLUG}")
    return _split(slug)


@lru_cache(maxsize=256)
def _split(slug: str) -> tuple[str, str]:
    shown = repr(slug[:60])
    segments = slug.split("/")
    if len(segments) != 2 or any(segment.strip() in ("", ".", "..") for segment in segments):
        raise _refusal(f"{shown} is not owner/model: two names and one slash, as `wiro models` lists them")
    if "?" in slug or "#" in slug or "\\" in slug:
        raise _refusal(f"{shown} holds '?', '#' or a backslash, which end or change a path")
    if not all(
        character == " " or (character.isprintable() and not character.isspace()) for character in slug
    ):
        raise _refusal(f"{shown} holds a control character or half a surrogate pair")
    return segments[0], segments[1]


def _refusal(message: str) -> InvalidInput:
    return InvalidInput(f"the model {message}", name="model")


def clean_slug(slug: str) -> str:
    """Return the service's other spelling of a slug: lower case, dashes for all but letters and digits."""
    return _clean_short(slug) if len(slug) <= MAX_SLUG else _clean(slug)


def _clean(slug: str) -> str:
    return "/".join(re.sub(r"[^a-z0-9]+", "-", segment.lower()).strip("-") for segment in slug.split("/"))


_clean_short = lru_cache(maxsize=256)(_clean)
"""A few models have all the runs."""
