"""What classes of typed inputs are made of: a base class, its fields, and the rules that annotations say.

>>> @checked
... class Waves(CheckedInputs):
...     model: ClassVar[str] = "owner/waves"
...
...     image: File = sent_as("inputImageUrl", kw_only=False)
...     duration: Literal[5, 10] | None = option("duration")
...     steps: Annotated[int, Between(1, 50)] | None = option("steps")

The annotations are the rules: they are read when the first object of a class is made, so that a module of a
hundred classes loads fast. Choices and numbers are checked then; files and texts when they are sent, because
one bad row must not end the iterable that a batch reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from wiro_async._errors import InvalidInput
from wiro_async._files.inputs import FileSource, file_or_url

__all__ = ["Between", "CheckedInputs", "File", "Files", "checked", "option", "sent_as"]

LONGEST_SHOWN = 60

LONGEST_INTEGER = 1024
"""Bits of an integer that is shown."""

T = TypeVar("T")


class Between(NamedTuple):
    """The bounds of a number, both included; None is no bound."""

    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return "" if self.high is None else f" of at most {self.high}"
        return f" of at least {self.low}" if self.high is None else f" from {self.low} to {self.high}"


class Upload(NamedTuple):
    """Marks the annotation of a file.

    Attributes:
        many: Whether several may be given; then they travel as a list.
    """

    many: bool


File: TypeAlias = Annotated[FileSource, Upload(many=False)]
"""A URL, a path, bytes or an open binary file; a str is a path unless it begins with http."""

Files: TypeAlias = Annotated[FileSource | Sequence[FileSource], Upload(many=True)]
"""One file or several, each as ``File``."""


# -- making a class --------------------------------------------------------------------------------------


def sent_as(wire: str, *, default: Any = attrs.NOTHING, kw_only: bool = True, required: bool = False) -> Any:
    """Declare a field.

    Args:
        wire: The input's name on the wire.
        default: What the field is when it is not given; None is not sent (default: it must be given).
        kw_only: Whether it is given by name only.
        required: Whether it must be given all the same: one that stands behind an optional one needs a
            default, for Python's sake.
    """
    metadata = {"wire": wire, "required": required or default is attrs.NOTHING}
    return attrs.field(default=default, kw_only=kw_only, metadata=metadata)


def option(wire: str) -> Any:
    """Declare a field that is given by name, and may be left out.

    Args:
        wire: The input's name on the wire.
    """
    return sent_as(wire, default=None)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(sent_as,))
def checked(kind: type[T]) -> type[T]:
    """Make a class of typed inputs out of its fields: frozen, and checked by its annotations."""
    # The base class compares and shows: that is less to generate for each of a hundred classes.
    return attrs.frozen(kind, eq=False, repr=False, slots=False, match_args=False)


class CheckedInputs:
    """Inputs that know their model and its rules. What is not given is not sent.

    Raises:
        InvalidInput: A choice is none of the model's, a number is out of its range, or what the model needs
            is missing.
    """

    model: ClassVar[str]
    """The slug of the model that takes these inputs."""

    __attrs_attrs__: ClassVar[Any]

    def __attrs_post_init__(self) -> None:
        for field in fields_of(type(self)):
            value = getattr(self, field.name)
            if value is not None:
                if problem := _problem(field.rule, value):
                    raise self._refused(field, f"is {_shown(value)}; {problem}")
            elif field.is_required and field.has_default:
                raise self._missing(field)

    def to_inputs(self) -> Mapping[str, object]:
        """Return the inputs by their names on the wire; local files as ``Path``, bytes or open files.

        Raises:
            InvalidInput: A file or a text cannot be sent.
        """
        inputs: dict[str, object] = {}
        for field in fields_of(type(self)):
            value = getattr(self, field.name)
            if value is not None:
                inputs[field.wire] = _sent(field.rule, field.name, value)
            elif field.is_required:
                raise self._missing(field)
        return inputs

    def _missing(self, field: Field) -> InvalidInput:
        return self._refused(field, f"is missing; {self.model} needs it")

    def _refused(self, field: Field, problem: str) -> InvalidInput:
        return InvalidInput(f"{field.name} of {type(self).__name__} {problem}", name=field.name)

    def _given(self) -> dict[str, object]:
        values = ((field.name, getattr(self, field.name)) for field in fields_of(type(self)))
        return {name: value for name, value in values if value is not None}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CheckedInputs) or type(other) is not type(self):
            return NotImplemented
        return self._given() == other._given()

    def __hash__(self) -> int:
        return hash((type(self), *self._given().items()))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={_whole(value)}" for name, value in self._given().items())
        return f"{type(self).__name__}({given})"


# -- the rules of a class --------------------------------------------------------------------------------


class FileRule(NamedTuple):
    """Files: local ones are uploaded later.

    Attributes:
        many: Whether several may be given.
    """

    many: bool


class TextRule(NamedTuple):
    """Texts.

    Attributes:
        kinds: The types that a value may have, numbers among them where a text may be one.
    """

    kinds: tuple[type, ...]


class NumberRule(NamedTuple):
    """Numbers within bounds.

    Attributes:
        whole: Whether fractions are wrong.
        bounds: The bounds.
    """

    whole: bool
    bounds: Between


class ChoiceRule(NamedTuple):
    """Choices, which travel as texts.

    Attributes:
        options: What there is.
        many: Whether several may be given.
    """

    options: tuple[object, ...]
    many: bool = False


Rule: TypeAlias = FileRule | TextRule | NumberRule | ChoiceRule | None
"""What a field takes; None is anything."""


def _problem(rule: Rule, value: object) -> str:
    """Say what is wrong with a value, and the way out ("": nothing, or that is told when it is sent)."""
    match rule:
        case NumberRule(whole, bounds):
            low = -math.inf if bounds.low is None else bounds.low
            high = math.inf if bounds.high is None else bounds.high
            is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            # Compared, not converted: an integer may be too large for a float.
            if is_number and low <= cast(float, value) <= high and abs(cast(float, value)) != math.inf:
                return ""
            return f"it must be a {'whole ' if whole else ''}number{bounds}"
        case ChoiceRule(options, many):
            wrong = [each for each in _each(value, many) if not _offers(options, each)]
            return _choices(options, wrong[0]) if wrong else ""
        case _:
            return ""


def _offers(options: tuple[object, ...], value: object) -> bool:
    # 1 is neither True nor 1.0 here, though Python calls them equal.
    return any(type(value) is type(option) and value == option for option in options)


def _choices(options: tuple[object, ...], value: object) -> str:
    """Say which choices there are, and which was meant."""
    import difflib  # noqa: PLC0415 - only mistakes need it

    texts = {_text(option): option for option in options}
    near = difflib.get_close_matches(str(value)[:LONGEST_SHOWN], texts, n=1)
    hint = f"; did you mean {texts[near[0]]!r}?" if near else ""
    shown = ", ".join(map(repr, options[:12])) + (", …" if len(options) > 12 else "")
    return f"it must be one of {shown}{hint}"


def _sent(rule: Rule, name: str, value: object) -> object:
    """Return a value as it travels.

    Raises:
        InvalidInput: It is no file, or no text.
    """
    match rule:
        case FileRule(many=False):
            return file_or_url(cast(FileSource, value), name)
        case FileRule():
            return [file_or_url(cast(FileSource, each), name) for each in _each(value, many=True)]
        case TextRule(kinds) if not isinstance(value, kinds) or isinstance(value, bool):
            raise InvalidInput(f"the {name} is a {type(value).__name__}; it must be a str", name=name)
        case ChoiceRule(many=True):
            return [_text(each) for each in _each(value, many=True)]
        case ChoiceRule():
            return _text(value)
        case _:
            return value


def _each(value: object, many: bool) -> Sequence[object]:
    """Return the values in what may be one or several."""
    return value if many and isinstance(value, list | tuple) else [value]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Field(NamedTuple):
    """A field of a class: its name here and on the wire, and its rule."""

    name: str
    wire: str
    is_required: bool
    has_default: bool
    rule: Rule


def _read_fields(kind: type[Any]) -> tuple[Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        Field(
            name=field.name,
            wire=field.metadata["wire"],
            is_required=field.metadata["required"],
            has_default=field.default is not attrs.NOTHING,
            rule=_rule(hints[field.name]),
        )
        for field in attrs.fields(kind)
    )


fields_of: Callable[[type[Any]], tuple[Field, ...]] = cast(Any, cache(_read_fields))
"""Returns the fields of a class of typed inputs, in order; its annotations are read once."""


def _rule(hint: Any) -> Rule:
    """Read the rule that an annotation says."""
    match get_origin(hint), get_args(hint):
        case (origin, kinds) if origin in (Union, UnionType):
            known = [kind for kind in kinds if kind is not NoneType]
            if len(known) == 1:
                return _rule(known[0])
            return TextRule((*known, int) if float in known else tuple(known))
        case (_, (_, Upload(many=many))):
            return FileRule(many)
        case (_, (base, Between() as bounds)):
            return NumberRule(base is int, bounds)
        case (origin, options) if origin is Literal:
            # Equal literals are one object, whose order is that of whichever was made first.
            return ChoiceRule(tuple(sorted(options, key=_order)))
        case (origin, (inner,)) if origin is Sequence:
            choice = _rule(inner)
            return ChoiceRule(choice.options, many=True) if isinstance(choice, ChoiceRule) else None
    if hint is bool:
        return ChoiceRule((False, True))
    if hint in (int, float):
        return NumberRule(hint is int, Between(None, None))
    return TextRule((str,)) if hint is str else None


def _order(option: object) -> tuple[int, str]:
    return len(str(option)) if isinstance(option, int) else 0, str(option)


def _shown(value: object) -> str:
    shown = _whole(value)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"


def _whole(value: object) -> str:
    match value:
        case bytes() | bytearray():
            return f"<{len(value)} bytes>"
        case int() if value.bit_length() > LONGEST_INTEGER:
            # Python writes none that is much longer.
            return f"<{value.bit_length()} bits>"
        case _:
            return repr(value)
