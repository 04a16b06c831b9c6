"""What a run will cost by the catalogue. Pure: a model's price list and inputs in, USD out.

The list is ``dynamicprice``: a JSON array, or its text, of ``{"inputs", "price", "priceMethod"}`` and
sometimes ``priceExtra`` and ``priceInput``. The methods are those of the service's pricing page. An
estimate is on the high side: an input that is not given may be any, and of all prices that may apply the
highest counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_CEILING, Context, Decimal

import attrs

from wiro_async._protocol.records import integer, mapping, money, number, records, text

__all__ = ["listed_price", "price_of"]

PIXELS_PER_TIER = 1_048_576
HIGHEST_PRICE = Decimal(1_000_000)
"""A price beyond a million USD a run is garbage."""

SECONDS = ("duration", "durationSeconds", "videoSeconds", "totalVideoSeconds", "seconds", "videoDuration")
"""Inputs that say how long the output becomes."""

COUNTS = ("samples", "numOutputs", "numImages", "numberOfImages")
"""Inputs that say how many outputs there are."""

_EXACT = Context(prec=60, rounding=ROUND_CEILING)


@attrs.frozen
class _Run:
    inputs: Mapping[str, object]
    seconds: float | None


def listed_price(
    listing: Mapping[str, object], inputs: Mapping[str, object], *, seconds: float | None = None
) -> Decimal | None:
    """Estimate what a run costs by what the catalogue says of its model.

    Args:
        listing: The model's fields that the service sent: ``dynamicprice``, or else ``cps`` (USD for a second
            of processing) and ``approximatelycost`` (USD of an average run).
        inputs: The run's inputs.
        seconds: How long such a run takes, as far as is known.

    Returns:
        USD (None: it cannot be told).
    """
    if any(True for _ in records(listing.get("dynamicprice"))):
        return price_of(listing["dynamicprice"], inputs, seconds=seconds)
    rate, run = _amount(listing.get("cps")), _Run(inputs, seconds)
    if rate and (processing := _processing(run)) is not None:
        return _times(rate, processing)
    # Nor does an average of 0 say that it is free.
    return _amount(listing.get("approximatelycost")) or None


def price_of(tariff: object, inputs: Mapping[str, object], *, seconds: float | None = None) -> Decimal | None:
    """Estimate what a run costs.

    Args:
        tariff: The model's ``dynamicprice``, in whatever form it came.
        inputs: The run's inputs.
        seconds: How long such a run takes, for models that are paid by the second of processing.

    Returns:
        USD: the highest of the prices that may apply, or of all where none does. None where that cannot be
        told: there is no list, or a price depends on what only the run shows (tokens, audio, what the model
        reports).
    """
    # A price of 0 says that there is none, not that the run is free.
    entries = [entry for entry in records(tariff) if _amount(entry.get("price"))]
    fitting = [entry for entry in entries if _fits(entry, inputs)] or entries
    run = _Run(inputs, seconds)
    prices = [price for entry in fitting if (price := _price(entry, run)) is not None]
    return max(prices) if prices and len(prices) == len(fitting) else None


# -- which prices apply ----------------------------------------------------------------------------------


def _fits(entry: Mapping[str, object], inputs: Mapping[str, object]) -> bool:
    return all(_meets(inputs, name, wanted) for name, wanted in mapping(entry.get("inputs")).items())


def _meets(inputs: Mapping[str, object], name: str, wanted: object) -> bool:
    """Whether a condition is met; "QUANTITY:3" asks for three files, everything else for the very value."""
    asked = _plain(wanted)
    if asked.startswith("quantity:"):
        return len(list(_files(inputs, name))) == integer(asked.removeprefix("quantity:"))
    given = _plain(inputs.get(name))
    return "" in (asked, given) or asked == given


def _plain(value: object) -> str:
    """Return a value's one spelling: 6, 6.0 and "6" are the same, and so are "1K" and "1k"."""
    figure = number(value)
    return str(figure) if figure is not None else text(value).strip().lower()


def _files(inputs: Mapping[str, object], name: str) -> Iterator[object]:
    base = name.removesuffix("Url")
    for key in (base, f"{base}Url"):
        value = inputs.get(key)
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is not None and not (isinstance(item, str) and not item):
                yield item


# -- what they come to -----------------------------------------------------------------------------------


def _price(entry: Mapping[str, object], run: _Run) -> Decimal | None:
    price = _amount(entry.get("price"))
    method = _METHODS.get(text(entry.get("priceMethod")).strip().lower())
    if price is None or method is None:
        return None
    units = method(run)
    if units is None:
        return None
    result = _times(price, units)
    if method is _tiers:
        extra, image = _amount(entry.get("priceExtra")), _amount(entry.get("priceInput"))
        # Without a price of their own, further tiers cost as much as the first.
        result = result if extra is None else _EXACT.add(price, _times(extra, units - 1))
        result = _EXACT.add(result, _times(image or Decimal(0), units * _images(run)))
    return result if result <= HIGHEST_PRICE else None


def _amount(value: object) -> Decimal | None:
    amount = money(value)
    return amount if amount is not None and 0 <= amount <= HIGHEST_PRICE else None


def _times(price: Decimal, units: float) -> Decimal:
    return _EXACT.multiply(price, Decimal(str(units)))


def _once(_run: _Run) -> float:
    return 1.0


def _processing(run: _Run) -> float | None:
    return run.seconds if run.seconds is not None and 0 <= run.seconds < math.inf else None


def _outputs(run: _Run) -> float:
    return _first(run, COUNTS) or 1.0


def _output_seconds(run: _Run) -> float | None:
    return _first(run, SECONDS)


def _characters(run: _Run) -> float:
    return float(len(text(run.inputs.get("prompt"))))


def _tiers(run: _Run) -> float | None:
    width, height = _first(run, ("width",)), _first(run, ("height",))
    return None if width is None or height is None else float(math.ceil(width * height / PIXELS_PER_TIER))


def _images(run: _Run) -> int:
    names = {name.removesuffix("Url") for name in run.inputs if name.startswith("inputImage")}
    return sum(len(list(_files(run.inputs, name))) for name in names)


def _first(run: _Run, names: tuple[str, ...]) -> float | None:
    """Return the first of these inputs that is a sensible number."""
    values = (number(run.inputs.get(name)) for name in names)
    return next((value for value in values if value is not None and 0 < value < 1e6), None)


_METHODS: dict[str, Callable[[_Run], float | None]] = {
    "cpr": _once,
    "cps": _processing,
    "cpo": _outputs,
    "cp-outputpicturecount": _outputs,
    "cp-outputvideolength": _output_seconds,
    "cp-promptlength": _characters,
    "cp-pixel": _tiers,
}
"""How many times the price is paid. What only the run shows is not here: tokens, audio, the model's own
word."""
