"""The ``-i`` option: ``name=text``; ``@path`` and ``<path`` as in curl, ``name:=json`` as in httpie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from wiro_async import InvalidInput

__all__ = ["parse_values"]

_RULE = (
    "write name=text, name=@path for a local file, name=<path for the text in one, or name:=json for a "
    "number, a list or a truth value"
)


def parse_values(assignments: Iterable[str]) -> dict[str, object]:
    """Read the inputs of a run. Blocks, where a text is read from a file.

    A name may be given several times for files only: they become a list.

    Raises:
        InvalidInput: One of them cannot be read; the message names it.
    """
    values: dict[str, object] = {}
    for assignment in assignments:
        name, value = _parse(assignment)
        values[name] = _joined(name, values[name], value) if name in values else value
    return values


def _parse(assignment: str) -> tuple[str, object]:
    name, equals, value = assignment.partition("=")
    typed = name.endswith(":")
    name = name.removesuffix(":")
    if not equals or not name:
        raise InvalidInput(f"the input {assignment[:60]!r} is not an assignment; {_RULE}")
    if typed:
        return name, _from_json(name, value)
    if value == "@":
        raise InvalidInput(f"the input {name}=@ names no file; {_RULE}", name=name)
    if not value.startswith(("@", "<")):
        return name, value
    # The shell expands a tilde at the start of a word only. Path.expanduser() raises for unknown users.
    path = Path(os.path.expanduser(value[1:]))  # noqa: PTH111
    return name, path if value.startswith("@") else _text_in(name, path)


def _text_in(name: str, path: Path) -> str:
    try:
        return path.read_text("utf-8-sig").removesuffix("\n")
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", error)
        raise InvalidInput(
            f"the text of {name}=<{path} cannot be read: {reason}; a text that itself begins with < is "
            f"written {name}:='\"<...\"'",
            name=name,
        ) from None


def _from_json(name: str, value: str) -> object:
    try:
        parsed: object = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the value of {name}:= is not JSON ({error}); {_RULE}", name=name) from None
    return parsed if isinstance(parsed, str) else _without_files(name, parsed)


def _without_files(name: str, value: object) -> object:
    """Refuse what looks like a local file within JSON, where it would be sent as a text."""
    if isinstance(value, list):
        return [_without_files(name, item) for item in value]
    if isinstance(value, dict):
        return {part: _without_files(name, item) for part, item in value.items()}
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    raise InvalidInput(
        f"the value of {name}:= has {value[:60]!r} in it, and JSON has no files: for a list of local files, "
        f"repeat {name}=@path; a text that begins with @ is written @@",
        name=name,
    )


def _joined(name: str, first: object, second: object) -> list[object]:
    files = [*first, second] if isinstance(first, list) else [first, second]
    if not all(isinstance(file, Path) for file in files):
        raise InvalidInput(
            f"the input {name!r} is given twice; only files may be, to make a list: "
            f'write {name}:=["a", "b"] for a list of texts',
            name=name,
        )
    return files
