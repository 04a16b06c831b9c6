"""Whether a model takes these inputs, by the catalogue. Pure: a model and inputs in, complaints out.

The catalogue is not always right about defaults, and does not list every name that the service takes. What it
does not clearly rule out is let pass: a check that refuses what the service would take is worse than none.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping

from wiro_async._protocol.records import Model, ModelInput, number, text
from wiro_async._protocol.slugs import clean_slug

__all__ = ["FILE_RULE", "check_inputs", "names_file", "undocumented"]

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

FILE_RULE = "give pathlib.Path(...) for a local file, or a URL"
"""The way out for callers in Python; others have a spelling of their own."""

LONGEST_SHOWN = 60


def check_inputs(model: Model, inputs: Mapping[str, object]) -> list[str]:
    """Say what is wrong with *inputs*.

    Args:
        model: The model, with its inputs as ``client.model(slug)`` brings them; without any, nothing is
            wrong.
        inputs: What a Run would send; local files as ``Path``, bytes or open files.

    Returns:
        A sentence for each complaint, which names the value, the rule, and the way out.
    """
    if not model.inputs:
        return []
    complaints = list(_unknown(model, inputs))
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


def _unknown(model: Model, inputs: Mapping[str, object]) -> Iterator[str]:
    """Complain of names that are nearly those of an input; others may be undocumented ones."""
    for name, meant in _strangers(model, inputs):
        if meant is not None:
            yield f"{name!r} is no input of {model.slug}; did you mean {meant!r}?"


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
        elif item.type in _FILES:
            problem = _file_problem(value)
        else:
            problem = ""
        if problem:
            yield f"{name!r} is {_shown(value)}; {problem}"


def _number_problem(item: ModelInput, value: object) -> str:
    bounds = _bounds(item)
    figure = number(value)
    if figure is None:
        return f"it must be a number{_within(bounds)}"
    if not bounds[0] <= figure <= bounds[1]:
        return f"it must be{_within(bounds).replace(' of', '')}"
    if _is_whole(item) and not figure.is_integer():
        return f"it must be a whole number{_within(bounds)}, such as {math.trunc(figure)}"
    return ""


def _bounds(item: ModelInput) -> tuple[float, float]:
    """Return the bounds; none where they contradict themselves or the catalogue's own default."""
    low = -math.inf if item.min is None else item.min
    high = math.inf if item.max is None else item.max
    default = number(item.default)
    if low >= high or (default is not None and not low <= default <= high):
        return -math.inf, math.inf
    return low, high


def _is_whole(item: ModelInput) -> bool:
    """Whether a slider has whole steps: then a fraction is wrong. The service does not check finer steps."""
    marks = (item.step, item.min, number(item.default) if _has_default(item) else 0.0)
    return item.type == "range" and all(mark is not None and mark.is_integer() for mark in marks)


def _within(bounds: tuple[float, float]) -> str:
    match [math.isfinite(bound) for bound in bounds]:
        case [True, True]:
            return f" between {bounds[0]:g} and {bounds[1]:g}"
        case [True, False]:
            return f" of at least {bounds[0]:g}"
        case [False, True]:
            return f" of at most {bounds[1]:g}"
        case _:
            return ""


def _choice_problem(item: ModelInput, value: object) -> str:
    options = {_plain(option): option for option in item.options if option}
    # One empty option stands for a list that is made at run time, such as the user's own models.
    if not options or _plain(value) in options:
        return ""
    if item.type == "multiselect" and all(_plain(part) in options for part in text(value).split(",")):
        return ""
    near = difflib.get_close_matches(_plain(value), options, n=1)
    hint = f"; did you mean {options[near[0]]!r}?" if near else ""
    return f"it must be{_choice(item)}{hint}"


def _choice(item: ModelInput) -> str:
    options = [option for option in item.options if option] if item.type in _CHOICES else []
    shown = ", ".join(map(repr, options[:12])) + (", …" if len(options) > 12 else "")
    return f" one of {shown}" if shown else ""


def _plain(value: object) -> str:
    """Return an option's one spelling: 6, 6.0 and "6" are the same, and so are "1K" and "1k"."""
    figure = number(value)
    return f"{figure:g}" if figure is not None else text(value).strip().casefold()


def _file_problem(value: object) -> str:
    """Complain of a file's name given as text; other texts may be addresses, or ids of stored files."""
    return f"a text is sent as it is; {FILE_RULE}" if names_file(value) else ""


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} byte(s)>"
    if isinstance(value, str | int | float):
        shown = repr(value)
        return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"
    return f"a {type(value).__name__}"
