"""Whether a Run's inputs are what the model takes, and which image they name. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from wiro_async.sandbox._body import Fields
from wiro_async.sandbox._catalogue import Input, Model
from wiro_async.sandbox._refusal import Refusal, bad_request

__all__ = ["check_inputs", "image_source"]

_HAILUO_NAMES = ("inputImageFirstUrl", "inputImageUrl", "inputImage")


def check_inputs(model: Model, fields: Fields, *, form_defaults: bool = False) -> None:
    """Refuse inputs that the model cannot take.

    Where the catalogue's word on ``required`` is not reliable, a missing input is let pass: a sandbox that
    refuses what the service takes would teach the wrong thing. Types, options and ranges hold for all models.
    A model of the Hailuo 01 family always needs its image.

    Args:
        model: The model.
        fields: The inputs, by name.
        form_defaults: Whether a required input that is missing is the default of the service's page. The
            official clients fill it in, as if the service refused its absence.

    Raises:
        Refusal: 0, in the service's words.
    """
    for item in model.inputs:
        values = [value for name in names_of(model, item) for value in _values(fields.get(name))]
        if values:
            _check_value(item, values)
        elif _is_needed(model, item, form_defaults):
            raise _missing(item)


def names_of(model: Model, item: Input) -> tuple[str, ...]:
    """All names under which an input may be sent."""
    if model.is_hailuo_01 and item.is_image:
        return _HAILUO_NAMES
    if item.is_image or item.is_file:
        base = item.id.removesuffix("Url")
        return tuple(dict.fromkeys((item.id, base, f"{base}Url")))
    return (item.id,)


def image_source(model: Model, parameters: Mapping[str, Any]) -> str | None:
    """The first image among the inputs: a URL, or what somebody took for one. None if there is none."""
    for item in model.inputs:
        if item.is_image:
            for name in names_of(model, item):
                for value in _values(parameters.get(name)):
                    return str(value)
    return None


def _values(value: Any) -> Iterator[Any]:
    """The values that were really given: forms send the unused one of two names empty."""
    for each in value if isinstance(value, list) else [value]:
        if each is not None and each != "":
            yield each


def _is_needed(model: Model, item: Input, form_defaults: bool) -> bool:
    if model.is_hailuo_01 and item.is_image:
        return True
    has_default = form_defaults and item.default is not None and item.default != ""
    return model.reliable and item.required and not has_default


def _missing(item: Input) -> Refusal:
    kind = "files" if item.is_file else "parameter"
    return bad_request(f"Request {kind} [{item.id}] required")


def _check_value(item: Input, values: list[Any]) -> None:
    if item.type in {"range", "number", "float"}:
        for value in values:
            _check_number(item, value)
    elif item.type in {"select", "selectwithcover"} and item.options:
        for value in values:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if text not in item.options:
                raise bad_request()


def _check_number(item: Input, value: Any) -> None:
    try:
        number = (
            float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        )
    except (ValueError, OverflowError):
        number = None
    if number is None or not math.isfinite(number):
        raise bad_request(f"Request parameter [{item.id}] must be integer or float")
    low = float("-inf") if item.min is None else item.min
    high = float("inf") if item.max is None else item.max
    if not low <= number <= high:
        raise bad_request(f"Request parameter [{item.id}] must be between {low:g} and {high:g}")
