"""The source of classes of typed inputs, from what the catalogue says of their models. Pure.

What comes from the catalogue becomes names, literals and one-line texts of Python, and never code.
"""

from __future__ import annotations

import keyword
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import attrs

from wiro_async._protocol.checks import CHOICES, FILES, NUMBERS, bounds_of, takes_whole_numbers
from wiro_async._protocol.operations import clean_slug
from wiro_async._protocol.records import Model, ModelInput

__all__ = ["class_names", "source_of"]

WIDTH = 110
"""Columns of a line; what is longer is broken as ruff would."""

LONGEST_DEFAULT = 40

LONGEST_NOTE = 200

BY_HAND = {
    "minimax/image-to-video-01-director": "Director",
    "minimax/image-to-video-hailuo-01-subject": "HailuoSubject",
}
"""Models whose classes ``wiro_async`` has itself."""

UNITS = {
    "bpm": "in beats per minute",
    "duration": "in seconds",
    "fps": "in frames per second",
    "height": "in pixels",
    "seconds": "in seconds",
    "width": "in pixels",
}
"""By the last word of a field's name."""

_SEVERAL = frozenset({"multifileinput", "combinefileinput"})

_FILE_URL = re.compile(r"input(?:Image|Video|Audio)\w*Url")
"""Names of texts that are the URLs of files."""

_FIGURE = re.compile(r"(?:scale|shift|strength|steps|frames?(?:num(?:ber)?)?|fps|opacity)$", re.IGNORECASE)
"""Names of texts that are mostly numbers."""

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")

_KIND = re.compile(r"(image|text|video)-to-video-", re.IGNORECASE)

_VERSION = re.compile(r"v?[0-9]+(?:\.[0-9]+)*", re.IGNORECASE)

PARTS = ("Between", "CheckedInputs", "File", "Files", "checked", "option", "sent_as")
"""What ``wiro_async.inputs`` has for the classes."""

_TAKEN = frozenset(
    {*PARTS, *keyword.kwlist, *BY_HAND.values(), "Annotated", "ClassVar", "Literal", "Sequence", "TypeAlias"}
)
"""What a class cannot be called."""


def source_of(models: Iterable[Model]) -> str:
    """Return a module with a class of typed inputs for each model, as ruff would format it.

    Args:
        models: The models, with their inputs as ``client.get_model(slug)`` brings them.
    """
    named = class_names(models)
    by_hand = [name for name, model in named if clean_slug(model.slug) in BY_HAND]
    classes = [_Class.of(name, model) for name, model in named if name not in by_hand]
    taken = {name for name, _ in named}
    body = [line for each in classes for line in ("", "", *each.lines(taken))]
    return "\n".join([*_head(by_hand, [name for name, _ in named], "\n".join(body)), *body, ""])


def _head(by_hand: Sequence[str], names: Sequence[str], body: str) -> Iterator[str]:
    """Yield what stands before the classes; only what these use is imported."""
    yield '"""Typed inputs, a class for each model, as ``wiro types`` writes them from the catalogue."""'
    yield ""
    yield "from __future__ import annotations"
    yield ""
    groups = (
        (("collections.abc", ("Sequence",)), ("typing", ("Annotated", "ClassVar", "Literal", "TypeAlias"))),
        (("wiro_async", by_hand), ("wiro_async.inputs", PARTS)),
    )
    for group in groups:
        lines = []
        for module, parts in group:
            used = [part for part in parts if part in by_hand or re.search(rf"\b{part}\b", body)]
            lines += [f"from {module} import {', '.join(used)}"] if used else []
        yield from lines
        if lines:
            yield ""
    yield "__all__ = ["
    yield from (f'    "{name}",' for name in names)
    yield "]"


def class_names(models: Iterable[Model]) -> list[tuple[str, Model]]:
    """Return the name of each model's class with the model, in the order of the names.

    The name is what people call the model; where several have one name, the owner stands before it.
    """
    each = sorted({model.slug: model for model in models}.values(), key=lambda model: model.slug)
    shared = Counter(_short_name(model.slug) for model in each)
    named: dict[str, Model] = {}
    for model in each:
        name = _short_name(model.slug)
        if shared[name] > 1:
            name = _owner(model.slug) + name
        number = 2
        while name in named:
            name, number = f"{name.removesuffix(f'N{number - 1}')}N{number}", number + 1
        named[name] = model
    return sorted(named.items(), key=lambda item: _natural(item[0]))


def _natural(name: str) -> tuple[bool, list[str | int]]:
    """Return what ruff sorts names by: those in capitals first, and numbers by their value."""
    parts = re.split(r"([0-9]+)", name)
    return not name.isupper(), [int(part) if part.isdigit() else part for part in parts]


# == names ===============================================================================================


def _short_name(slug: str) -> str:
    """Return what people call a model: ``klingai/kling-v2.6`` is ``KlingV26``."""
    owner, _, project = slug.partition("/")
    if (by_hand := BY_HAND.get(clean_slug(slug))) is not None:
        return by_hand
    kind = _KIND.match(project)
    words = re.findall(r"[A-Za-z0-9.]+", project[kind.end() :] if kind else project)
    name, in_version = "", False
    for word in words:
        digits = re.sub(r"[^0-9]", "", word)
        if _VERSION.fullmatch(word):
            # "gen-4-5" is version 4.5.
            name += digits if in_version and word[0].isdigit() else f"V{digits}"
        elif word.lower() == owner.strip().lower():
            # "klingai" makes the model "kling".
            name += _capitalized(re.sub(r"(?<=.)ai$", "", word, flags=re.IGNORECASE))
        else:
            name += _capitalized(word)
        in_version = _VERSION.fullmatch(word) is not None
    if kind and kind[1].lower() == "text":
        name += "Text"
    if re.fullmatch(r"(?:V[0-9]+)?(?:Text)?", name) or not name[0].isalpha() or name in _TAKEN:
        name = _owner(slug) + name
    return name


def _owner(slug: str) -> str:
    name = "".join(map(_capitalized, re.findall(r"[A-Za-z0-9]+", slug.partition("/")[0])))
    return name if name[:1].isalpha() else f"Model{name}"


def _capitalized(word: str) -> str:
    word = word.replace(".", "")
    return word[:1].upper() + word[1:]


def _field_name(item: ModelInput, is_file: bool) -> str:
    """Return an input's name in Python: ``inputImageUrl`` is ``image``."""
    name = item.name
    if is_file:
        name = re.sub(r"^input_?(?=[A-Z])", "", name).replace("Url", "")
        name = re.sub(r"^ImageFirst$", "Image", name) or item.name
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not name[:1].isalpha():
        name = f"input_{name}".rstrip("_")
    return f"{name}_" if keyword.iskeyword(name) or name in {"model", "self", "to_inputs"} else name


# == classes =============================================================================================


@attrs.frozen
class _Field:
    """A field of a class, and all inputs of the model that it stands for.

    Attributes:
        name: Its name in Python.
        wire: The input's name on the wire.
        takes: Its annotation.
        options: The literals in it.
        doc: What its documentation says.
        is_required: Whether it must be given.
        is_file: Whether it takes files.
    """

    name: str
    wire: str
    takes: str
    options: tuple[str, ...]
    doc: str
    is_required: bool
    is_file: bool

    @classmethod
    def of(cls, items: Sequence[ModelInput]) -> _Field:
        """Make a field of an input, or of the two that take a file and its URL."""
        first = items[0]
        is_file = any(item.type in FILES for item in items) or _FILE_URL.fullmatch(first.name) is not None
        several = any(item.type in _SEVERAL for item in items)
        # Of two names, a file's URL has its own, but where several files and URLs go under one name.
        combined = (item for item in items if item.type == "combinefileinput")
        wire = next(combined, None) or next((item for item in items if "Url" in item.name), first)
        options = () if is_file else _options(first)
        return cls(
            name=_field_name(first, is_file),
            wire=wire.name,
            takes=("Files" if several else "File") if is_file else _takes(first, options),
            options=options,
            doc=_doc(first, options, is_file=is_file, several=several),
            is_required=any(item.required and item.default in (None, "", []) for item in items),
            is_file=is_file,
        )


@attrs.frozen
class _Class:
    """A class of typed inputs.

    Attributes:
        name: Its name.
        model: Its model.
        fields: Its fields; the first *positional* may be given by their place.
        positional: How many those are.
    """

    name: str
    model: Model
    fields: tuple[_Field, ...]
    positional: int

    @classmethod
    def of(cls, name: str, model: Model) -> _Class:
        """Make a class of a model."""
        fields = _distinct([_Field.of(items) for items in _joined(model.inputs)])
        before = _first(model, fields)
        rest = [field for field in fields if field not in before]
        return cls(name, model, (*before, *rest), len(before))

    def lines(self, taken: set[str]) -> Iterator[str]:
        """Yield its source, after that of the choices that are too many for a field's line.

        Args:
            taken: The names that the module has; those of the choices are added.
        """
        body: list[str] = []
        for index, field in enumerate(self.fields):
            optional = not field.is_required or any(not each.is_required for each in self._ahead(index))
            takes, made = f"{field.takes}{' | None' if optional else ''}", self._made(index, optional)
            if len(f"    {field.name}: {takes} = {made}") > WIDTH and field.options:
                alias = self.name + "".join(map(_capitalized, field.name.split("_")))
                while alias in taken:
                    alias += "_"
                taken.add(alias)
                yield from _alias(alias, field.options)
                takes = takes.replace(_one_of(field.options), alias)
            body += _assigned(f"    {field.name}: {takes} = ", made)
        yield "@checked"
        yield f"class {self.name}(CheckedInputs):"
        yield from self._documentation()
        yield ""
        yield from _assigned("    model: ClassVar[str] = ", _literal(self.model.slug))
        if body:
            yield ""
            yield from body

    def _ahead(self, index: int) -> tuple[_Field, ...]:
        """The fields by place before another one: Python wants defaults behind a default."""
        return self.fields[:index] if index < self.positional else ()

    def _made(self, index: int, optional: bool) -> str:
        """Return the call that declares a field."""
        field = self.fields[index]
        by_place = index < self.positional
        if optional and not by_place:
            return f"option({_literal(field.wire)})"
        arguments = [_literal(field.wire)]
        arguments += ["default=None"] if optional else []
        arguments += ["kw_only=False"] if by_place else []
        arguments += ["required=True"] if optional and field.is_required else []
        return f"sent_as({', '.join(arguments)})"

    def _documentation(self) -> Iterator[str]:
        title = _clean(self.model.title)
        summary = f'    """Inputs of ``{_clean(self.model.slug)}``{f": {title}" if title else ""}'
        if not self.fields:
            yield _clipped(summary, WIDTH - 4).rstrip(".") + '."""'
            return
        yield _clipped(summary, WIDTH - 1).rstrip(".") + "."
        yield ""
        yield "    Args:"
        for field in self.fields:
            yield from textwrap.wrap(
                f"{field.name}: {field.doc}",
                WIDTH,
                initial_indent=" " * 8,
                subsequent_indent=" " * 12,
                break_on_hyphens=False,
            )
        yield '    """'


def _joined(inputs: Iterable[ModelInput]) -> list[list[ModelInput]]:
    """Put the two inputs of one file together: one takes the file, the other its URL."""
    groups: dict[str, list[ModelInput]] = {}
    for item in inputs:
        if not item.name or any(item.name == other.name for group in groups.values() for other in group):
            continue
        is_file = item.type in FILES or _FILE_URL.fullmatch(item.name)
        base = item.name.replace("Url", "") if is_file else item.name
        groups.setdefault(base, []).append(item)
    return list(groups.values())


def _distinct(fields: list[_Field]) -> list[_Field]:
    """Number those that would have the name of another."""
    taken: set[str] = set()
    found = []
    for field in fields:
        name, number = field.name, 2
        while name in taken:
            name, number = f"{field.name}_{number}", number + 1
        taken.add(name)
        found.append(attrs.evolve(field, name=name))
    return found


def _first(model: Model, fields: Sequence[_Field]) -> list[_Field]:
    """Return what may be given by its place: what the model starts from, then the prompt."""
    kinds = [kind.partition("-to-")[0] for kind in model.categories if "-to-" in kind]
    start = kinds[0] if kinds else "image"
    files = [field for field in fields if field.is_file and field.name.startswith(start)]
    return files[:1] + [field for field in fields if field.name == "prompt"]


# == fields ==============================================================================================


def _options(item: ModelInput) -> tuple[str, ...]:
    """Return the literals of an input's choices; none, if they are yes and no, or not known."""
    options = list(dict.fromkeys(option for option in item.options if option))
    if item.type not in CHOICES or set(options) == {"true", "false"}:
        return ()
    if all(map(_WHOLE.fullmatch, options)):
        return tuple(sorted(options, key=int))
    return tuple(map(_literal, options))


def _one_of(options: Sequence[str]) -> str:
    return f"Literal[{', '.join(options)}]"


def _takes(item: ModelInput, options: Sequence[str]) -> str:
    """Return the annotation of an input that is no file."""
    is_seed = item.name.lower() == "seed"
    if item.type in NUMBERS:
        base = "int" if is_seed or takes_whole_numbers(item) else "float"
        low, high = bounds_of(item)
        is_free = math.isinf(low) and math.isinf(high)
        return base if is_free else f"Annotated[{base}, Between({_bound(low)}, {_bound(high)})]"
    if item.type == "multiselect":
        return f"Sequence[{_one_of(options) if options else 'str'}]"
    if item.type == "checkbox" or (item.type in CHOICES and set(item.options) == {"true", "false"}):
        return "bool"
    if options:
        return _one_of(options)
    if item.type == "text" and is_seed:
        return "int | str"
    return "float | str" if item.type == "text" and _FIGURE.search(item.name) else "str"


def _bound(number: float) -> str:
    if math.isinf(number):
        return "None"
    return repr(int(number)) if number.is_integer() else repr(number)


def _doc(item: ModelInput, options: Sequence[str], *, is_file: bool, several: bool) -> str:
    """Return what an input is, its unit, and what the service takes in its place."""
    label = re.sub(r"[ _-]+", " ", _clean(item.label or item.name)).strip(" .")
    if is_file:
        label = re.sub(r"(?<=.) url(?=s?$)", "", label, flags=re.IGNORECASE)
    words = [label[:1].upper() + label[1:]]
    unit = UNITS.get(_field_name(item, is_file).rpartition("_")[2], "")
    if unit and unit.split()[-1] not in label.lower():
        words.append(f", {unit}")
    if several:
        words.append(": one file, or several")
    if item.note:
        words.append(f": {_clipped(_clean(item.note), LONGEST_NOTE).rstrip('.')}")
    if item.default not in (None, "", []):
        words.append(f" (the service's default: {_default(item, options)})")
    return "".join([*words, "."])


def _default(item: ModelInput, options: Sequence[str]) -> str:
    """Return a default as it would be written, cut to a sensible length."""
    if not isinstance(item.default, str) or item.default in options:
        return _clipped(_clean(item.default), LONGEST_DEFAULT)
    if item.default in ("true", "false") and not options:
        return item.default.capitalize()
    return repr(_clipped(_clean(item.default), LONGEST_DEFAULT))


# == texts ===============================================================================================


def _literal(text: str) -> str:
    """Return a text as a literal, in the quotes that ruff prefers."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    escaped = "".join(
        f"\\{character}"
        if character in (quote, "\\")
        else character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
    return f"{quote}{escaped}{quote}"


def _clean(text: object) -> str:
    """Return a text on one line that can stand in a docstring: no quotes, no backslashes."""
    shown = "".join(
        character if character.isprintable() else " " if character.isspace() else ""
        for character in str(text)
    )
    return " ".join(shown.replace('"', "'").replace("\\", "/").split())


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _assigned(target: str, value: str) -> list[str]:
    """Return an assignment in a class, on one line or broken as ruff would."""
    call, _, arguments = value.partition("(")
    if len(target + value) <= WIDTH:
        return [target + value]
    if not value.startswith(("'", '"')) and len(f"{target}{call}(") <= WIDTH:
        return [f"{target}{call}(", f"        {arguments.removesuffix(')')}", "    )"]
    if len(value) <= WIDTH - 8:
        return [f"{target}(", f"        {value}", "    )"]
    return [target + value]


def _alias(name: str, options: Sequence[str]) -> Iterator[str]:
    """Yield the choices that are too many for a field's line."""
    short = f"{name}: TypeAlias = {_one_of(options)}"
    if len(short) <= WIDTH:
        yield short
    else:
        yield f"{name}: TypeAlias = Literal["
        yield from (f"    {option}," for option in options)
        yield "]"
    yield ""
    yield ""
