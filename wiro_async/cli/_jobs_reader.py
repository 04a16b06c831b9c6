"""Job files on the disk: found and measured once, then read in pieces by a thread, as often as needed."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO, Literal, Self, TypeAlias

import anyio.to_thread
import attrs

from wiro_async import InvalidInput, InvalidJob, Job
from wiro_async.cli._jobs_file import (
    FILE_LIKE,
    Columns,
    Reading,
    delimiter_of,
    job_of_json,
    told_delimiter,
)

__all__ = ["Format", "JobsFile", "JobsReader", "find_jobs", "given_jobs", "read_rows"]

Format: TypeAlias = Literal["jsonl", "csv"]

ROWS_AT_ONCE = 200
"""Rows that the thread reads ahead."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""How a text in UTF-16 begins."""

MOST_INVALID = 1000
"""Rows that cannot be sent are kept up to this number, and counted beyond."""

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of a line of JSON: as many as the service is believed to reply with."""


@attrs.frozen
class JobsFile:
    """A job file, as it was when it was found.

    Attributes:
        path: Its absolute path.
        format: How it is written.
        sha256: The digest of its content.
        mark: What tells whether it was changed since: size and time.
        name: What the user calls it.
        folder: What its files are relative to.
        is_kept: Whether it will be there for the next process.
    """

    path: Path
    format: Format
    sha256: str
    mark: tuple[int, int]
    name: str
    folder: Path
    is_kept: bool = True


@attrs.frozen
class JobRow:
    """A row: a job, or why it is none.

    Attributes:
        line: Where it begins, from 1.
        job: The job.
        problem: The value, the rule, the way out ("" if there is a job).
    """

    line: int
    job: Job | None
    problem: str = ""


# -- finding -------------------------------------------------------------------------------------------------


@contextmanager
def given_jobs(name: str, format: Format | None) -> Iterator[JobsFile]:  # noqa: A002 - the option's name
    """Find a job file; ``-`` is stdin, which is copied first, so that all of it can be checked.

    Raises:
        InvalidInput: It cannot be read.
    """
    if name != "-":
        yield find_jobs(Path(name), format)
        return
    with tempfile.NamedTemporaryFile(prefix="wiro-jobs-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        found = find_jobs(Path(copy.name), format or "jsonl")
        yield attrs.evolve(found, name="-", folder=Path.cwd(), is_kept=False)


def find_jobs(path: Path, format: Format | None) -> JobsFile:  # noqa: A002 - the option's name
    """Find a job file, and measure it.

    Raises:
        InvalidInput: It cannot be read.
    """
    try:
        absolute = path.resolve()
        with absolute.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            mark = _mark(stream)
            stream.seek(0)
            head = stream.read(2)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"the jobs cannot be read from {str(path)[:200]!r}: {getattr(error, 'strerror', error)}"
        ) from None
    # Excel's "Unicode Text" is a table in UTF-16, and called .txt.
    is_table = path.suffix.lower() in (".csv", ".tsv") or (path.suffix.lower() == ".txt" and head in _UTF16)
    kind: Format = format or ("csv" if is_table else "jsonl")
    return JobsFile(absolute, kind, sha256, mark, str(path), absolute.parent)


def _mark(stream: BinaryIO) -> tuple[int, int]:
    told = os.fstat(stream.fileno())
    return told.st_size, told.st_mtime_ns


# -- reading -------------------------------------------------------------------------------------------------


def read_rows(file: JobsFile | None, key: str | None) -> Generator[JobRow, None, None]:
    """Read a job file row by row, blocking.

    Args:
        file: The file (None: there are no jobs).
        key: The field that holds the key; see ``Reading``.

    Raises:
        InvalidInput: It has changed, or has no usable header.
    """
    if file is None:
        return
    reading = Reading(file.folder, key)
    with file.path.open("rb") as stream:
        if _mark(stream) != file.mark:
            raise InvalidInput(f"{file.name} has changed while it was being read; start again")
        try:
            yield from _csv_rows(stream, reading) if file.format == "csv" else _json_rows(stream, reading)
        except UnicodeDecodeError:
            raise InvalidInput(
                f"{file.name} begins as UTF-16 and is not; open it where it was written, and save it as UTF-8"
            ) from None


def _json_rows(stream: BinaryIO, reading: Reading) -> Iterator[JobRow]:
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            yield JobRow(number, None, f"it is longer than {LONGEST_LINE} bytes; upload what is large")
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE)
        elif line.strip():
            yield _row(number, partial(job_of_json, line, reading), reading.folder)


def _csv_rows(stream: BinaryIO, reading: Reading) -> Iterator[JobRow]:
    # What is not UTF-8 is let through here, so that it is told with its line.
    encoding = "utf-16" if stream.read(2) in _UTF16 else "utf-8-sig"
    stream.seek(0)
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    with io.TextIOWrapper(stream, encoding, errors=errors, newline="") as text:
        first = text.readline()
        delimiter, before = told_delimiter(first), 1
        if delimiter is None:
            delimiter, before = delimiter_of(first), 0
            text.seek(0)
        rows = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=True)
        columns: Columns | None = None
        while True:
            number = before + rows.line_num + 1
            try:
                cells = next(rows, None)
            except csv.Error as error:
                yield JobRow(number, None, f"it is not CSV: {error}")
                continue
            if cells is None:
                return
            if not any(cells):
                continue
            if columns is None:
                columns = Columns(cells, reading)
            else:
                yield _row(number, partial(columns.job_of, cells), reading.folder)


def _row(number: int, read: Callable[[], Job], folder: Path) -> JobRow:
    try:
        job = read()
        for name, value in job.inputs.items() if isinstance(job.inputs, Mapping) else ():
            _check_text(name, value, folder)
    except InvalidInput as error:
        return JobRow(number, None, error.message)
    return JobRow(number, Job(job.model, job.inputs, key=job.key, where=f"line {number}"))


def _check_text(name: str, value: object, folder: Path) -> None:
    """Refuse the name of a file that is there, where a file is wanted and the @ is missing."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, str) or not FILE_LIKE.search(name):
            continue
        if item.lstrip().startswith("@") and not item.startswith("@"):
            raise InvalidInput(
                f"its input {name[:60]!r} is the text {item[:60]!r}; remove the space before the @"
            )
        if "://" not in item and PurePath(item).suffix and _is_there(folder / item):
            raise InvalidInput(
                f"its input {name[:60]!r} is the text {item[:200]!r}, and there is such a file; "
                f"did you mean @{item[:200]}?"
            )


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # too long for a name, or of half characters


class JobsReader:
    """An async iterator of a file's jobs, read by a thread, in a fixed amount of memory.

    A file is read twice: first to check it, then to make its jobs. The first reading passes over rows that
    hold no job, and remembers them; so does whoever checks the jobs, by ``reject``. The second one leaves
    these rows out, and raises if another holds no job: the file has changed.

    Args:
        file: The file (None: there are no jobs).
        key: The field that holds the key.
        needs_model: Whether every row must name its model.
        bad: What the first reading has found (None: this is the first one).

    Attributes:
        bad: A byte for each row; 1 where it cannot be sent.
        invalid: The first 1 000 rows that cannot be sent, and why.
        invalid_jobs: How many there are in all.
    """

    def __init__(
        self,
        file: JobsFile | None,
        key: str | None,
        *,
        needs_model: bool = False,
        bad: bytearray | None = None,
    ) -> None:
        self.bad: bytearray = bytearray() if bad is None else bad
        self.invalid: list[InvalidJob] = []
        self.invalid_jobs: int = 0
        self._is_first: bool = bad is None
        self._needs_model: bool = needs_model
        self._rows: Generator[JobRow, None, None] = read_rows(file, key)
        self._ahead: deque[JobRow] = deque()
        self._count: int = 0

    def reject(self, invalid: InvalidJob) -> None:
        """Take note that the row that was read last cannot be sent."""
        self.bad[self._count - 1] = 1
        self.invalid_jobs += 1
        if len(self.invalid) < MOST_INVALID:
            self.invalid.append(invalid)

    def close(self) -> None:
        """Close the file, which else stays open until its end is read."""
        self._rows.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        while True:
            if not self._ahead:
                rows = await anyio.to_thread.run_sync(lambda: list(islice(self._rows, ROWS_AT_ONCE)))
                if not rows:
                    raise StopAsyncIteration
                self._ahead.extend(rows)
            row = self._ahead.popleft()
            self._count += 1
            if self._is_first:
                self.bad.append(0)
            elif self.bad[self._count - 1]:
                continue
            problem = row.problem
            if row.job is not None:
                if row.job.model is not None or not self._needs_model:
                    return row.job
                problem = "it names no model; give --model, or a field or column that is called model"
            if not self._is_first:
                raise InvalidInput(f"line {row.line}: {problem}")
            self.reject(InvalidJob(f"line {row.line}", problem))
