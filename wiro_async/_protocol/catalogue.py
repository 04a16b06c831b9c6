"""The models that can be run: what they take, and what a run will cost. Pure.

The catalogue is not always right about defaults, and does not list every name that the service takes. What it
does not clearly rule out is let pass: a check that refuses what the service would take is worse than none.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Context, Decimal

import attrs

from wiro_async._errors import ModelNotFound
from wiro_async._protocol.envelope import integer, mapping, money, number, objects, text
from wiro_async._protocol.operations import clean_slug, split_slug
from wiro_async._protocol.records import Model, ModelInput, parse_model
from wiro_async._types import JSON

__all__ = [
    "check_inputs", "detail_payload", "list_payload", "listed_price", "names_file", "price_of",
    "read_model", "read_models", "undocumented",
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


# == checks ==============================================================================================

_NUMBERS = frozenset({"range", "number", "float"})
_CHOICES = frozenset({"select", "selectwithcover", "multiselect"})
_FILES = frozenset({"fileinput", "multifileinput", "combinefileinput"})

_ALWAYS = frozenset({"callbackUrl", "projectid"})
"""What every model takes."""

_HAILUO_IMAGES = ("inputImageFirstUrl", "inputImageUrl", "inputImage")
"""The first image of the Hailuo family has had three names; the service takes them all."""

_FILE_NAME = re.compile(
    r"[^\n]+\.(?:jpe?g|png|webp|gif|bmp|heic|mp4|mov|webm|mkv|mp3|wav|m4a|flac|ogg|pdf|docx?|txt)",
    re.IGNORECASE,
)

LONGEST_SHOWN = 60


def check_inputs(model: Model, inputs: Mapping[str, object]) -> list[str]:
    """Say what is wrong with *inputs*.

    Args:
        model: The model, with its inputs as ``client.get_model(slug)`` brings them; without any, nothing is
            wrong.
        inputs: What a Run would send; local files as ``Path``, bytes or open files.

    Returns:
        A sentence for each complaint, which names the value, the rule, and the way out.
    """
    if not model.inputs:
        return []
    # Other names that are not listed may be undocumented ones.
    complaints = [
        f"{name!r} is no input of {model.slug}; did you mean {meant!r}?"
        for name, meant in _strangers(model, inputs)
        if meant is not None
    ]
    for item in model.inputs:
        given = [(name, value) for name in _names(model, item) for value in _values(inputs.get(name))]
        complaints += _wrong(item, given)
        if not given and item.required and not _has_default(item):
            complaints.append(_missing(model, item))
    return complaints


def undocumented(model: Model, inputs: Mapping[str, object]) -> list[str]:
    """Return the names that the catalogue does not list, and that are not nearly those of an input.

    Args:
        model: As for ``check_inputs``; without any inputs, nothing is known.
        inputs: As there.
    """
    return [name for name, meant in _strangers(model, inputs) if meant is None] if model.inputs else []


def names_file(value: object) -> bool:
    """Whether a text looks like the name of a file on the disk."""
    return isinstance(value, str) and "://" not in value and _FILE_NAME.fullmatch(value) is not None


# -- names -----------------------------------------------------------------------------------------------


def _names(model: Model, item: ModelInput) -> tuple[str, ...]:
    """Return every name under which an input may be sent."""
    if item.name in _HAILUO_IMAGES and clean_slug(model.slug).startswith("minimax/"):
        return tuple(dict.fromkeys((item.name, *_HAILUO_IMAGES)))
    if item.type in _FILES or item.name.endswith("Url"):
        base = item.name.removesuffix("Url")
        return tuple(dict.fromkeys((item.name, base, f"{base}Url")))
    return (item.name,)


def _strangers(model: Model, inputs: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
    """Yield each name that is not listed, with the input that it nearly is."""
    known = {name for item in model.inputs for name in _names(model, item)} | _ALWAYS
    free = {
        _squashed(item.name): item.name
        for item in model.inputs
        if not inputs.keys() & set(_names(model, item))
    }
    for name in inputs:
        if name not in known:
            yield name, _meant(_squashed(name), free)


def _meant(name: str, free: Mapping[str, str]) -> str | None:
    """Return the input that a name nearly is; those of files have changed often, so only spelling counts."""
    near = difflib.get_close_matches(name, free, n=1, cutoff=1.0 if name.startswith("input") else 0.8)
    return free[near[0]] if near else None


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# -- values ----------------------------------------------------------------------------------------------


def _values(value: object) -> Iterator[object]:
    """Yield what was really given: forms send the unused one of two names empty."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if item is not None and not (isinstance(item, str) and not item):
            yield item


def _has_default(item: ModelInput) -> bool:
    return any(True for _ in _values(item.default))


def _missing(model: Model, item: ModelInput) -> str:
    kind = "a file" if item.type in _FILES else "a value"
    label = f" ({item.label})" if item.label and item.label != item.name else ""
    choice = f":{_choice(item)}" if _choice(item) else ""
    return f"{item.name!r}{label} is missing; {model.slug} needs {kind} for it{choice}"


def _wrong(item: ModelInput, given: list[tuple[str, object]]) -> Iterator[str]:
    for name, value in given:
        if item.type in _NUMBERS:
            problem = _number_problem(item, value)
        elif item.type in _CHOICES:
            problem = _choice_problem(item, value)
        elif item.type in _FILES and names_file(value):
            # Other texts may be addresses, or ids of stored files.
            problem = (
                "a text is sent as it is; give a URL, or pathlib.Path(...) for a local file (in a job file: "
                "@ before its path)"
            )
        else:
            problem = ""
        if problem:
            yield f"{name!r} is {_shown(value)}; {problem}"


def _number_problem(item: ModelInput, value: object) -> str:
    low = -math.inf if item.min is None else item.min
    high = math.inf if item.max is None else item.max
    figure, default = number(value), number(item.default)
    # Bounds that contradict themselves, or the catalogue's own default, do not count.
    if low >= high or (default is not None and not low <= default <= high):
        low, high = -math.inf, math.inf
    if figure is None:
        return f"it must be a number{_within(low, high)}"
    if not low <= figure <= high:
        return f"it must be{_within(low, high).replace(' of', '')}"
    # Where a slider has whole steps, a fraction is wrong. The service does not check finer steps.
    marks = (item.step, item.min, default if _has_default(item) else 0.0)
    whole = item.type == "range" and all(mark is not None and mark.is_integer() for mark in marks)
    if whole and not figure.is_integer():
        return f"it must be a whole number{_within(low, high)}, such as {math.trunc(figure)}"
    return ""


def _within(low: float, high: float) -> str:
    if math.isinf(low):
        return "" if math.isinf(high) else f" of at most {high:g}"
    return f" of at least {low:g}" if math.isinf(high) else f" between {low:g} and {high:g}"


def _choice_problem(item: ModelInput, value: object) -> str:
    options = {_spelled(option): option for option in item.options if option}
    # One empty option stands for a list that is made at run time, such as the user's own models.
    if not options or _spelled(value) in options:
        return ""
    if item.type == "multiselect" and all(_spelled(part) in options for part in text(value).split(",")):
        return ""
    near = difflib.get_close_matches(_spelled(value), options, n=1)
    hint = f"; did you mean {options[near[0]]!r}?" if near else ""
    return f"it must be{_choice(item)}{hint}"


def _choice(item: ModelInput) -> str:
    options = [option for option in item.options if option] if item.type in _CHOICES else []
    shown = ", ".join(map(repr, options[:12])) + (", …" if len(options) > 12 else "")
    return f" one of {shown}" if shown else ""


def _spelled(value: object) -> str:
    """Return a value's one spelling: 6, 6.0 and "6" are the same, and so are "1K" and "1k"."""
    figure = number(value)
    return text(figure) if figure is not None else text(value).strip().casefold()


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} byte(s)>"
    if isinstance(value, str | int | float):
        shown = repr(value)
        return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"
    return f"a {type(value).__name__}"


# == prices ==============================================================================================

PIXELS_PER_TIER = 1_048_576
HIGHEST_PRICE = Decimal(1_000_000)
"""A price beyond a million USD a run is garbage."""

SECONDS = ("duration", "durationSeconds", "videoSeconds", "totalVideoSeconds", "seconds", "videoDuration")
"""Inputs that say how long the output becomes."""

COUNTS = ("samples", "numOutputs", "numImages", "numberOfImages")
"""Inputs that say how many outputs there are."""

_EXACT = Context(prec=60, rounding=ROUND_CEILING)


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
    if any(True for _ in objects(listing.get("dynamicprice"))):
        return price_of(listing["dynamicprice"], inputs, seconds=seconds)
    rate = _amount(listing.get("cps"))
    if rate and (processing := _processing(seconds)) is not None:
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
    entries = [entry for entry in objects(tariff) if _amount(entry.get("price"))]
    fitting = [entry for entry in entries if _fits(entry, inputs)] or entries
    prices = [price for entry in fitting if (price := _price(entry, inputs, seconds)) is not None]
    return max(prices) if prices and len(prices) == len(fitting) else None


# -- which prices apply ----------------------------------------------------------------------------------


def _fits(entry: Mapping[str, object], inputs: Mapping[str, object]) -> bool:
    return all(_meets(inputs, name, wanted) for name, wanted in mapping(entry.get("inputs")).items())


def _meets(inputs: Mapping[str, object], name: str, wanted: object) -> bool:
    """Whether a condition is met; "QUANTITY:3" asks for three files, everything else for the very value."""
    asked = _spelled(wanted)
    if asked.startswith("quantity:"):
        return _files(inputs, name) == integer(asked.removeprefix("quantity:"))
    given = _spelled(inputs.get(name))
    return "" in (asked, given) or asked == given


def _files(inputs: Mapping[str, object], name: str) -> int:
    """Count the files that were given under either form of a name."""
    base = name.removesuffix("Url")
    return sum(1 for key in (base, f"{base}Url") for _ in _values(inputs.get(key)))


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
