"""The ``-i`` option: ``name=text``, ``name=@path`` as in curl, ``name:=json`` as in httpie. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from wiro_async import InvalidInput

__all__ = ["parse_values"]

_RULE = "write name=text, name=@path for a local file, or name:=json for a number, a list or a truth value"


def parse_values(assignments: Iterable[str]) -> dict[str, object]:
    """Read the inputs of a run.

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
    if not value.startswith("@"):
        return name, value
    # The shell expands a tilde at the start of a word only. Path.expanduser() raises for unknown users.
    return name, Path(os.path.expanduser(value[1:]))  # noqa: PTH111


def _from_json(name: str, value: str) -> object:
    try:
        parsed: object = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the value of {name}:= is not JSON ({error}); {_RULE}", name=name) from None
    return parsed


def _joined(name: str, first: object, second: object) -> list[object]:
    files = [*first, second] if isinstance(first, list) else [first, second]
    if not all(isinstance(file, Path) for file in files):
        raise InvalidInput(
            f"the input {name!r} is given twice; only files may be, to make a list: "
            f'write {name}:=["a", "b"] for a list of texts',
            name=name,
        )
    return files
