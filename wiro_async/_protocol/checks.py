"""What a model takes, and what is wrong with inputs. Pure.

The catalogue is not always right about defaults, and does not list every name that the service takes. What it
does not clearly rule out is let pass: a check that refuses what the service would take is worse than none.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping

import attrs

from wiro_async._protocol.envelope import given, number, spelled, text
from wiro_async._protocol.operations import clean_slug
from wiro_async._protocol.records import Model, ModelInput

__all__ = [
    "CHOICES", "FILES", "NUMBERS", "Findings", "bounds_of", "check_inputs", "examine", "image_problem",
    "takes_whole_numbers", "undocumented",
]  # fmt: skip

NUMBERS = frozenset({"range", "number", "float"})
CHOICES = frozenset({"select", "selectwithcover", "multiselect"})
FILES = frozenset({"fileinput", "multifileinput", "combinefileinput"})
"""The kinds of inputs, by their types in the catalogue."""

_TEXTS = frozenset({"text", "textarea"})

_ALWAYS = frozenset({"callbackUrl", "projectid"})
"""What every model takes."""

_HAILUO_IMAGES = ("inputImageFirstUrl", "inputImageUrl", "inputImage")
"""The first image of the Hailuo family has had three names; the service takes them all."""

_HAILUO_01 = re.compile(r"minimax/image-to-video-(hailuo-)?01(-[a-z]+)?")
"""The models that take images of a short side above 300 px, and of an aspect from 2:5 to 5:2, as is known."""

SHORTEST_SIDE = 300
NARROWEST = 2 / 5

_FILE_NAME = re.compile(
    r"[^\n]+\.(?:jpe?g|png|webp|gif|bmp|heic|mp4|mov|webm|mkv|mp3|wav|m4a|flac|ogg|pdf|docx?|txt)",
    re.IGNORECASE,
)
_AT_FILE = re.compile(r"@(?!@)\S*\.\w{2,4}")
"""A text that means a file to job files, and to ``wiro run``."""

_FILE_LIKE = re.compile("^input|url$|image|video|audio|mask|photo|file", re.IGNORECASE)
"""Names of inputs that take files although the catalogue calls them texts."""

_TRUTHS = frozenset({"true", "false", "1", "0", "yes", "no", "on", "off"})

LONGEST_SHOWN = 60


@attrs.frozen
class Findings:
    """What was found out about inputs.

    Attributes:
        problems: What is wrong with them: a sentence for each complaint, which names the value, the rule, and
            the way out.
        notes: What may be wrong, and what was filled in, a sentence each.
        defaults: What the catalogue's entry adds to them.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    defaults: Mapping[str, object] = attrs.field(factory=dict)


def examine(model: Model, inputs: Mapping[str, object], *, strict: bool = False) -> Findings:
    """Check inputs, and fill in what the model requires and the catalogue has a reliable default for.

    Args:
        model: The model, with its inputs as ``client.get_model(slug)`` brings them.
        inputs: What a Run would send; local files as ``Path``, bytes or open files.
        strict: Whether names that the catalogue does not list are wrong.
    """
    problems, notes = check_inputs(model, inputs), []
    for name in undocumented(model, inputs):
        unlisted = f"{name[:LONGEST_SHOWN]!r} is not listed among the inputs of {model.slug}"
        if strict:
            problems.append(f"{unlisted}; leave it out, or do without the strict check")
        else:
            notes.append(f"{unlisted}, but is sent anyway")
    defaults: dict[str, object] = {}
    for item in model.inputs:
        if item.required and _has_default(item) and not _is_given(model, item, inputs):
            if _is_reliable(item):
                defaults[item.name] = item.default
                notes.append(f"{item.name!r} is missing; the catalogue's default is sent: {item.default!r}")
            else:
                notes.append(
                    f"{item.name!r} is missing; {model.slug} needs it, and the catalogue's default is no "
                    f"value to rely on: nothing is sent for it"
                )
    return Findings(tuple(problems), tuple(notes), defaults)


def check_inputs(model: Model, inputs: Mapping[str, object]) -> list[str]:
    """Say what is wrong with *inputs*.

    Args:
        model: As for ``examine``; without any inputs, only files that are texts are wrong.
        inputs: As there.

    Returns:
        A sentence for each complaint.
    """
    complaints = [
        f"{name!r} is {_shown(value)}; a text is sent as it is: give pathlib.Path({value[1:]!r}) for a local "
        f"file (only job files and the command line know @)"
        for name, values in inputs.items()
        for value in given(values)
        if isinstance(value, str) and _AT_FILE.fullmatch(value)
    ]
    if not model.inputs:
        return complaints
    # Other names that are not listed may be undocumented ones.
    complaints += [
        f"{name!r} is no input of {model.slug}; did you mean {meant!r}?"
        for name, meant in _strangers(model, inputs)
        if meant is not None
    ]
    listed = {item.name for item in model.inputs}
    for item in model.inputs:
        for name in _names(model, item):
            # Another input of that name has rules of its own.
            if name == item.name or name not in listed:
                complaints += _complaints(model, item, name, inputs.get(name))
        if item.required and not _has_default(item) and not _is_given(model, item, inputs):
            complaints.append(_missing(model, item))
    return complaints


def undocumented(model: Model, inputs: Mapping[str, object]) -> list[str]:
    """Return the names that the catalogue does not list, and that are not nearly those of an input.

    Args:
        model: As for ``examine``; without any inputs, nothing is known.
        inputs: As there.
    """
    return [name for name, meant in _strangers(model, inputs) if meant is None] if model.inputs else []


def image_problem(slug: str, name: str, width: int, height: int) -> str:
    """Say what is wrong with the size of a local image ("": nothing, or the model's limits are not known).

    Args:
        slug: The model.
        name: The input that is to take the image.
        width: Its pixels.
        height: Its pixels.
    """
    if name not in _HAILUO_IMAGES or not _HAILUO_01.fullmatch(clean_slug(slug)):
        return ""
    size = f"{name!r} is an image of {width} x {height} pixels"
    short, long = sorted((width, height))
    if short <= SHORTEST_SIDE:
        return f"{size}; {slug} takes images whose short side is above {SHORTEST_SIDE}: send a larger one"
    if short < NARROWEST * long:
        return f"{size}; {slug} takes images of an aspect between 2:5 and 5:2: crop it"
    return ""


# -- names -----------------------------------------------------------------------------------------------


def _names(model: Model, item: ModelInput) -> tuple[str, ...]:
    """Return every name under which an input may be sent."""
    if item.name in _HAILUO_IMAGES and clean_slug(model.slug).startswith("minimax/"):
        return tuple(dict.fromkeys((item.name, *_HAILUO_IMAGES)))
    if item.type in FILES or item.name.endswith("Url"):
        base = item.name.removesuffix("Url")
        return tuple(dict.fromkeys((item.name, base, f"{base}Url")))
    return (item.name,)


def _is_given(model: Model, item: ModelInput, inputs: Mapping[str, object]) -> bool:
    return any(True for name in _names(model, item) for _ in given(inputs.get(name)))


def _strangers(model: Model, inputs: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
    """Yield each name that is not listed, with the input that it nearly is."""
    known = {name for item in model.inputs for name in _names(model, item)} | _ALWAYS
    strange = [name for name in inputs if name not in known]
    if not strange:
        return
    free = {
        _squashed(item.name): item.name
        for item in model.inputs
        if not inputs.keys() & set(_names(model, item))
    }
    for name in strange:
        yield name, _meant(_squashed(name), free)


def _meant(name: str, free: Mapping[str, str]) -> str | None:
    """Return the input that a name nearly is; those of files have changed often, so only spelling counts."""
    near = difflib.get_close_matches(name, free, n=1, cutoff=1.0 if name.startswith("input") else 0.8)
    return free[near[0]] if near else None


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# -- values ----------------------------------------------------------------------------------------------


def _has_default(item: ModelInput) -> bool:
    return any(True for _ in given(item.default))


def _is_reliable(item: ModelInput) -> bool:
    """Whether a default is one that the service itself would take, and not an example or a gap.

    The page of a model starts with a prompt about somebody else's picture, and some lists say 0 for numbers
    of which they know nothing.
    """
    if item.type in CHOICES:
        return spelled(item.default) in {spelled(option) for option in item.options if option}
    if item.type in NUMBERS:
        figure = number(item.default)
        is_bounded = item.min is not None or item.max is not None
        return figure is not None and _is_within(item, figure) and (is_bounded or figure != 0)
    return item.type == "checkbox" and spelled(item.default) in _TRUTHS


def _missing(model: Model, item: ModelInput) -> str:
    kind = "a file" if item.type in FILES else "a value"
    label = f" ({item.label})" if item.label and item.label != item.name else ""
    choice = f":{_choice(item)}" if _choice(item) else ""
    return f"{item.name!r}{label} is missing; {model.slug} needs {kind} for it{choice}"


def _complaints(model: Model, item: ModelInput, name: str, said: object) -> Iterator[str]:
    """Yield what is wrong with what was given for an input under one of its names."""
    values = list(given(said))
    found = 0
    for value in values:
        if isinstance(value, str) and _AT_FILE.fullmatch(value):
            continue  # It is complained of already.
        if problem := _problem(item, value):
            found += 1
            yield f"{name!r} is {_shown(value)}; {problem}"
    if len(values) > 1 and not found and item.type in NUMBERS | {"checkbox"}:
        yield f"{name!r} is a list of {len(values)}; it takes one value"
    if item.name == "prompt" and isinstance(said, str) and not said.strip() and _needs_words(model, said):
        yield f"{name!r} is empty; say what is to be made"


def _needs_words(model: Model, prompt: str) -> bool:
    """Whether an empty prompt is a mistake. Beside a file, forms may send one that is not meant."""
    item = next(item for item in model.inputs if item.name == "prompt")
    if item.required:
        return bool(prompt) or _has_default(item)  # else it is missing
    return bool(prompt) or not any(other.type in FILES or _takes_files(other) for other in model.inputs)


def _problem(item: ModelInput, value: object) -> str:
    if item.type in NUMBERS:
        return _number_problem(item, value)
    if item.type in CHOICES:
        return _choice_problem(item, value)
    if item.type in FILES:
        return _file_problem(value)
    if item.type == "checkbox":
        return _truth_problem(item, value)
    return _text_problem(item, value) if item.type in _TEXTS else ""


def _number_problem(item: ModelInput, value: object) -> str:
    low, high = bounds_of(item)
    figure = number(value)
    if figure is None:
        return f"it must be a number{_within(low, high)}"
    if not low <= figure <= high:
        return f"it must be{_within(low, high).replace(' of', '')}"
    if takes_whole_numbers(item) and not figure.is_integer():
        return f"it must be a whole number{_within(low, high)}, such as {math.trunc(figure)}"
    return ""


def takes_whole_numbers(item: ModelInput) -> bool:
    """Whether a fraction is wrong: on a slider with whole steps. The service does not check finer steps."""
    marks = (item.step, item.min, number(item.default) if _has_default(item) else 0.0)
    return item.type == "range" and all(mark is not None and mark.is_integer() for mark in marks)


def bounds_of(item: ModelInput) -> tuple[float, float]:
    """Return the lowest and the highest number that an input takes; an infinite one is no bound."""
    low = -math.inf if item.min is None else item.min
    high = math.inf if item.max is None else item.max
    default = number(item.default)
    # Bounds that contradict themselves, or the catalogue's own default, do not count.
    if low >= high or (default is not None and not low <= default <= high):
        return -math.inf, math.inf
    return low, high


def _is_within(item: ModelInput, figure: float) -> bool:
    low = -math.inf if item.min is None else item.min
    return low <= figure <= (math.inf if item.max is None else item.max)


def _within(low: float, high: float) -> str:
    if math.isinf(low):
        return "" if math.isinf(high) else f" of at most {high:g}"
    return f" of at least {low:g}" if math.isinf(high) else f" between {low:g} and {high:g}"


def _choice_problem(item: ModelInput, value: object) -> str:
    options = {spelled(option): option for option in item.options if option}
    # One empty option stands for a list that is made at run time, such as the user's own models.
    if not options or spelled(value) in options:
        return ""
    if item.type == "multiselect" and all(spelled(part) in options for part in text(value).split(",")):
        return ""
    near = difflib.get_close_matches(spelled(value), options, n=1)
    hint = f"; did you mean {options[near[0]]!r}?" if near else ""
    return f"it must be{_choice(item)}{hint}"


def _choice(item: ModelInput) -> str:
    options = [option for option in item.options if option] if item.type in CHOICES else []
    shown = ", ".join(map(repr, options[:12])) + (", …" if len(options) > 12 else "")
    return f" one of {shown}" if shown else ""


def _file_problem(value: object) -> str:
    # Other texts, and whole numbers, may be addresses, or ids of stored files.
    if isinstance(value, str):
        if "://" not in value and _FILE_NAME.fullmatch(value):
            return (
                "a text is sent as it is; give a URL, or pathlib.Path(...) for a local file (in a job file: "
                "@ before its path)"
            )
        is_address = "://" in value or value.startswith("data:") or not re.search(r"\s", value.strip())
        return "" if is_address else "it takes a file: give a URL, or pathlib.Path(...) for a local file"
    if isinstance(value, bool | float | Mapping):
        return "it takes a file: give a URL, or pathlib.Path(...) for a local file"
    return ""


def _truth_problem(item: ModelInput, value: object) -> str:
    return "" if spelled(value) in _TRUTHS.union(map(spelled, item.options)) else "it must be true or false"


def _text_problem(item: ModelInput, value: object) -> str:
    if _is_file(value) and not _takes_files(item):
        return (
            "it takes a text, and would get the address of an upload: give the text itself (on the command "
            f"line, {item.name}=<FILE reads it; in a job file, @@ stands for one @)"
        )
    return "it takes a text" if isinstance(value, Mapping) else ""


def _takes_files(item: ModelInput) -> bool:
    return item.type in _TEXTS and _FILE_LIKE.search(item.name) is not None


def _is_file(value: object) -> bool:
    """Whether a value is a local file: its content, its path, or an open one, as frameworks give it, too."""
    kinds = ("__fspath__", "read", "file", "wrapped")
    return isinstance(value, bytes | bytearray) or any(hasattr(value, kind) for kind in kinds)


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} byte(s)>"
    if isinstance(value, str | int | float):
        shown = repr(value)
        return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"
    if _is_file(value):
        return "a local file"
    return f"a {type(value).__name__}"
