"""From a model's slug to the path of its Run. Pure.

Real slugs hold capitals, dots and spaces (``wiro/Product Photoshoot``, ``lightricks/ ltx-2.3``), so they are
encoded, not restricted; only what would change the path's meaning is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

from wiro_async._errors import InvalidInput

__all__ = ["clean_slug", "model_path", "split_slug"]

MAX_SLUG = 200


def model_path(slug: str) -> str:
    """Return ``owner/model``, percent-encoded segment by segment.

    Raises:
        InvalidInput: The slug is not ``owner/model``, or holds what no slug can hold.
    """
    return "/".join(_encoded(segment) for segment in split_slug(slug))


@lru_cache(maxsize=256)
def _encoded(segment: str) -> str:
    return quote(segment, safe="")


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
