"""The models that can be run, and what a run will cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import NamedTuple

import attrs

from wiro_async._errors import ModelNotFound
from wiro_async._protocol.envelope import given, integer, mapping, money, number, objects, spelled, text
from wiro_async._protocol.operations import split_slug
from wiro_async._protocol.records import Model, parse_model
from wiro_async._types import JSON

__all__ = [
    "Estimate", "detail_payload", "estimate", "list_payload", "listed_price", "read_model", "read_models",
]  # fmt: skip


def list_payload(search: str, category: str | None, start: int, limit: int) -> JSON:
    """Return the payload of Tool/List; numbers travel as strings, as in the official client."""
    payload = {"start": str(start), "limit": str(limit), "search": search, "sort": "id", "order": "DESC"}
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
    models = map(parse_model, objects(answer.get("tool")))
    return [attrs.evolve(model, price=listed_price(model.raw, {})) for model in models]


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


# == prices ==============================================================================================

PIXELS_PER_TIER = 1_048_576
HIGHEST_PRICE = Decimal(1_000_000)
"""A price beyond a million USD a run is garbage."""

SECONDS = ("duration", "durationSeconds", "videoSeconds", "totalVideoSeconds", "seconds", "videoDuration")
"""Inputs that say how long the output becomes."""

COUNTS = ("samples", "numOutputs", "numImages", "numberOfImages")
"""Inputs that say how many outputs there are."""

_EXACT = Context(prec=60, rounding=ROUND_CEILING)


class Estimate(NamedTuple):
    """What a run is expected to cost.

    Attributes:
        amount: USD (None: it cannot be told).
        source: Where that comes from, or why it cannot be told.
    """

    amount: Decimal | None
    source: str


def listed_price(
    listing: Mapping[str, object], inputs: Mapping[str, object], *, seconds: float | None = None
) -> Decimal | None:
    """Return the amount of ``estimate``."""
    return estimate(listing, inputs, seconds=seconds).amount


def estimate(
    listing: Mapping[str, object], inputs: Mapping[str, object], *, seconds: float | None = None
) -> Estimate:
    """Estimate what a run costs by what the catalogue says of its model.

    Args:
        listing: The model's fields that the service sent: ``dynamicprice``, or else ``cps`` (USD for a second
            of processing) and ``approximatelycost`` (USD of an average run).
        inputs: The run's inputs.
        seconds: How long such a run takes, as far as is known.

    Returns:
        Of a price list the highest of the prices that may apply, or of all where none does. It cannot be told
        where there is no price, or one depends on what only the run shows (tokens, audio, what the model
        reports).
    """
    if any(True for _ in objects(listing.get("dynamicprice"))):
        return _from_list(listing["dynamicprice"], inputs, seconds)
    rate = _amount(listing.get("cps"))
    if rate and (processing := _processing(seconds)) is not None:
        return Estimate(
            _times(rate, processing), f"the catalogue's price of a second (cps), for {processing:.0f} s"
        )
    # Nor does an average of 0 say that it is free.
    average = _amount(listing.get("approximatelycost")) or None
    if average is not None:
        return Estimate(average, "the catalogue's average of a run (approximatelycost)")
    if rate:
        return Estimate(None, "the catalogue has a price of a second (cps) only")
    return Estimate(None, "the catalogue has no price for it")


def _from_list(tariff: object, inputs: Mapping[str, object], seconds: float | None) -> Estimate:
    # A price of 0 says that there is none, not that the run is free.
    entries = [entry for entry in objects(tariff) if _amount(entry.get("price"))]
    fitting = [entry for entry in entries if _fits(entry, inputs)] or entries
    if not fitting:
        return Estimate(None, "the catalogue's price list has no price in it")
    prices = [price for entry in fitting if (price := _price(entry, inputs, seconds)) is not None]
    methods = ", ".join(dict.fromkeys(text(entry.get("priceMethod"))[:40] for entry in fitting))
    if len(prices) < len(fitting):
        return Estimate(None, f"the catalogue's price list ({methods}) counts what the inputs do not tell")
    return Estimate(max(prices), f"the catalogue's price list ({methods})")


# -- which prices apply ----------------------------------------------------------------------------------


def _fits(entry: Mapping[str, object], inputs: Mapping[str, object]) -> bool:
    return all(_meets(inputs, name, wanted) for name, wanted in mapping(entry.get("inputs")).items())


def _meets(inputs: Mapping[str, object], name: str, wanted: object) -> bool:
    """Whether a condition is met; "QUANTITY:3" asks for three files, everything else for the very value."""
    asked = spelled(wanted)
    if asked.startswith("quantity:"):
        return _files(inputs, name) == integer(asked.removeprefix("quantity:"))
    said = spelled(inputs.get(name))
    return "" in (asked, said) or asked == said


def _files(inputs: Mapping[str, object], name: str) -> int:
    """Count the files that were given under either form of a name."""
    base = name.removesuffix("Url")
    return sum(1 for key in (base, f"{base}Url") for _ in given(inputs.get(key)))


# -- what they come to -----------------------------------------------------------------------------------


def _price(
    entry: Mapping[str, object], inputs: Mapping[str, object], seconds: float | None
) -> Decimal | None:
    price, method = _amount(entry.get("price")), text(entry.get("priceMethod")).strip().lower()
    units = _units(method, inputs, seconds)
    if price is None or units is None:
        return None
    result = _times(price, units)
    if method == "cp-pixel":
        extra, image = _amount(entry.get("priceExtra")), _amount(entry.get("priceInput"))
        # Without a price of their own, further tiers cost as much as the first.
        result = result if extra is None else _EXACT.add(price, _times(extra, units - 1))
        names = {name.removesuffix("Url") for name in inputs if name.startswith("inputImage")}
        images = sum(_files(inputs, name) for name in names)
        result = _EXACT.add(result, _times(image or Decimal(0), units * images))
    return result if result <= HIGHEST_PRICE else None


def _amount(value: object) -> Decimal | None:
    amount = money(value)
    return amount if amount is not None and 0 <= amount <= HIGHEST_PRICE else None


def _times(price: Decimal, units: float) -> Decimal:
    return _EXACT.multiply(price, Decimal(str(units)))


def _units(method: str, inputs: Mapping[str, object], seconds: float | None) -> float | None:
    """Return how many times the price is paid.

    What only the run shows cannot be told: tokens, audio, the model's own word.
    """
    match method:
        case "cpr":
            return 1.0
        case "cps":
            return _processing(seconds)
        case "cpo" | "cp-outputpicturecount":
            return _first(inputs, COUNTS) or 1.0
        case "cp-outputvideolength":
            return _first(inputs, SECONDS)
        case "cp-promptlength":
            return float(len(text(inputs.get("prompt"))))
        case "cp-pixel":
            width, height = _first(inputs, ("width",)), _first(inputs, ("height",))
            return float(math.ceil(width * height / PIXELS_PER_TIER)) if width and height else None
        case _:
            return None


def _processing(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 <= seconds < math.inf else None


def _first(inputs: Mapping[str, object], names: tuple[str, ...]) -> float | None:
    """Return the first of these inputs that is a sensible number."""
    values = (number(inputs.get(name)) for name in names)
    return next((value for value in values if value is not None and 0 < value < 1e6), None)
