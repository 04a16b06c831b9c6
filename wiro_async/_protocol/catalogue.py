"""The models that can be run, and what they take. Pure: payloads out, records in."""

from __future__ import annotations

from wiro_async._errors import ModelNotFound
from wiro_async._protocol.records import Model, parse_model, records
from wiro_async._protocol.slugs import split_slug
from wiro_async._types import JSON

__all__ = ["detail_payload", "list_payload", "read_model", "read_models"]


def list_payload(search: str, category: str | None, start: int, limit: int) -> JSON:
    """Return the payload of Tool/List; numbers travel as strings, as in the official client."""
    payload: JSON = {
        "start": str(start),
        "limit": str(limit),
        "search": search,
        "sort": "id",
        "order": "DESC",
    }
    return payload if category is None else {**payload, "categories": [category]}


def detail_payload(slug: str) -> JSON:
    """Return the payload of Tool/Detail.

    Raises:
        InvalidInput: The slug is not ``owner/model``.
    """
    owner, project = split_slug(slug)
    return {"slugowner": owner, "slugproject": project}


def read_models(answer: JSON) -> list[Model]:
    """Read every model of a reply."""
    return [parse_model(item) for item in records(answer.get("tool"))]


def read_model(answer: JSON, slug: str) -> Model:
    """Read the one model that was asked for.

    Raises:
        ModelNotFound: The reply holds none.
    """
    models = read_models(answer)
    if not models:
        raise ModelNotFound(
            f"Tool/Detail: there is no model {slug!r}", http_status=200, operation="Tool/Detail"
        )
    return models[0]
