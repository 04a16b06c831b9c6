"""Rows of a job file: from JSON Lines or CSV to jobs, and from a journal's rows back. Pure.

A row of JSON Lines is ``{"inputs": {...}, "model": ..., "key": ...}``, or an object of inputs, among which
``model`` and ``key`` mean the job's own. A CSV file's header names its columns likewise; an empty cell is an
input that is left out. Spaces behind a delimiter do not count; a first line ``sep=;`` names the delimiter,
as in Excel. A text that begins with ``@`` is a local file; ``@@`` stands for one ``@``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import attrs

from wiro_async import InvalidInput, Job, JournalEntry
from wiro_async.cli._text import JSON

__all__ = [
    "FILE_LIKE",
    "Columns",
    "Reading",
    "delimiter_of",
    "job_of_json",
    "line_of",
    "told_delimiter",
]

MAX_DEPTH = 64
"""Levels of an input: as many as the library sends."""

_NOT_UTF8 = 'save it as UTF-8 (Excel: "CSV UTF-8"; if it is in cp1252: iconv -f WINDOWS-1252 -t UTF-8)'
"""What to do about a file in another encoding."""

FILE_LIKE = re.compile("^input|url$|image|video|audio|mask|photo|file", re.IGNORECASE)
"""Names of inputs that take files; the catalogue calls many of them mere texts."""

_AS_INPUT = "inputs."
"""What makes a field an input, whatever its name: three models have an input that is called ``model``."""


@attrs.frozen
class Reading:
    """How rows are to be read.

    Attributes:
        folder: What the paths of local files are relative to.
        key: The field that holds a job's key; it is no input (None: ``key``, where it is there).
    """

    folder: Path
    key: str | None = None


# -- JSON Lines ----------------------------------------------------------------------------------------------


def job_of_json(line: bytes, reading: Reading) -> Job:
    """Return the job of one line.

    Raises:
        InvalidInput: It holds none.
    """
    try:
        fields = json.loads(line.decode().removeprefix("\ufeff"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"it is not UTF-8 (byte {error.start}); {_NOT_UTF8}") from None
    except json.JSONDecodeError as error:
        # Its own words count lines, too, from the beginning of this one.
        raise InvalidInput(f"it is not JSON: {error.msg} (character {error.pos + 1})") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidInput(
            f"it is a {type(fields).__name__}; each line must be an object, such as "
            f'{{"inputs": {{"prompt": "she walks"}}, "key": "7"}}'
        )
    return _job(*(_apart(fields, reading) if "inputs" in fields else _split(fields, reading)), reading)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _apart(fields: JSON, reading: Reading) -> tuple[JSON, object, object]:
    """Return inputs, model and key of a row that has its inputs apart."""
    named = reading.key or "key"
    inputs = fields["inputs"]
    if not isinstance(inputs, dict):
        raise InvalidInput(
            f"its inputs are a {type(inputs).__name__}; they must be an object of names and values"
        )
    for name in fields:
        if name not in ("inputs", "model", named):
            raise InvalidInput(
                f"it has the field {name[:60]!r}; beside inputs, there are model and {named} only"
            )
    return inputs, fields.get("model"), _key(fields, reading)


def _split(fields: JSON, reading: Reading) -> tuple[JSON, object, object]:
    """Return inputs, model and key of a row that has them side by side."""
    apart = ("model", reading.key or "key")
    inputs = {name.removeprefix(_AS_INPUT): value for name, value in fields.items() if name not in apart}
    return inputs, fields.get("model"), _key(fields, reading)


def _key(fields: JSON, reading: Reading) -> object:
    key = fields.get(reading.key or "key")
    if key is None and reading.key is not None:
        raise InvalidInput(f"it has no {reading.key!r}, which is given as its key")
    return key


def _job(inputs: JSON, model: object, key: object, reading: Reading) -> Job:
    if model is not None and not isinstance(model, str):
        raise InvalidInput(f"its model is a {type(model).__name__}; it must be a string, such as owner/model")
    if isinstance(key, bool) or not isinstance(key, str | int | None):
        raise InvalidInput(f"its key is a {type(key).__name__}; it must be a string or a whole number")
    return Job(
        model or None,
        {name: _with_files(name, value, reading.folder, 1) for name, value in inputs.items()},
        key=None if key is None else str(key),
    )


# -- CSV -----------------------------------------------------------------------------------------------------


def delimiter_of(header: str) -> str:
    """Return what separates the columns: a comma, a semicolon or a tab, whichever the header has most of."""
    return max(",;\t", key=header.count)


def told_delimiter(line: str) -> str | None:
    """Return the delimiter that a line ``sep=;`` names, as in Excel (None: it is no such line)."""
    told = re.fullmatch(r'"?sep=([^"\s]|\t)"?[\r\n]*', line, re.IGNORECASE)
    return None if told is None else told[1]


class Columns:
    """The columns of a CSV file.

    Args:
        names: The header.
        reading: How rows are read.

    Raises:
        InvalidInput: A column has no name, or that of another, or the key's is not there.
    """

    def __init__(self, names: Sequence[str], reading: Reading) -> None:
        self._names: list[str] = [name.strip() for name in names]
        self._reading: Reading = reading
        for place, name in enumerate(self._names, 1):
            if not _is_whole(name):
                raise InvalidInput(f"column {place} of the header is not UTF-8; {_NOT_UTF8}")
            if not name:
                raise InvalidInput(f"column {place} of the header has no name; name it, or remove it")
            if name in self._names[: place - 1]:
                raise InvalidInput(f"the header names {name[:60]!r} twice; keep one of them")
        if reading.key is not None and reading.key not in self._names:
            raise InvalidInput(
                f"the header has no {reading.key!r}, which is given as the key; "
                f"it has {', '.join(self._names)[:200]}"
            )

    def job_of(self, cells: Sequence[str]) -> Job:
        """Return the job of one row.

        Raises:
            InvalidInput: It holds none.
        """
        if len(cells) != len(self._names):
            raise InvalidInput(f"it has {len(cells)} cells; the header has {len(self._names)}")
        for name, cell in zip(self._names, cells, strict=True):
            if not _is_whole(cell):
                raise InvalidInput(f"its {name[:60]!r} is not UTF-8; {_NOT_UTF8}")
        fields = {name: cell for name, cell in zip(self._names, cells, strict=True) if cell}
        return _job(*_split(fields, self._reading), self._reading)


def _is_whole(text: str) -> bool:
    """Whether all of it was read: the reader lets other bytes through as halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


# -- local files ---------------------------------------------------------------------------------------------


def _with_files(name: str, value: object, folder: Path, depth: int) -> object:
    """Put paths in the place of texts that name local files, at any depth."""
    if depth > MAX_DEPTH:
        raise InvalidInput(f"its input {name[:60]!r} is nested deeper than {MAX_DEPTH} levels; flatten it")
    if isinstance(value, Mapping):
        return {part: _with_files(name, item, folder, depth + 1) for part, item in value.items()}
    if isinstance(value, list):
        return [_with_files(name, item, folder, depth + 1) for item in value]
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    if value == "@" or "\0" in value:
        raise InvalidInput(
            f"its input {name[:60]!r} is {value[:60]!r}, which names no file; "
            f"a text that begins with @ is written @@"
        )
    # Path.expanduser() raises for unknown users.
    return folder / os.path.expanduser(value[1:])  # noqa: PTH111


# -- and back ------------------------------------------------------------------------------------------------


def line_of(entry: JournalEntry) -> JSON:
    """Return a journal's job as a line of a job file.

    Raises:
        InvalidInput: It has bytes for an input, of which the journal keeps the digest only.
    """
    inputs = {name: _told(entry.key, value) for name, value in entry.inputs.items()}
    return {"key": entry.key, "model": entry.model, "inputs": inputs}


def _told(key: str, value: object) -> object:
    match value:
        case os.PathLike():
            return f"@{os.fspath(value)}"
        case Mapping():
            return {name: _told(key, item) for name, item in value.items()}
        case list():
            return [_told(key, item) for item in value]
        case str():
            return f"@{value}" if value.startswith("@") else value
        case int() | float() | None:
            return value
        case _:
            raise InvalidInput(
                f"the job {key[:60]!r} has bytes for an input, which no journal keeps; it is left out"
            )
