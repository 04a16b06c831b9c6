"""Job files: what a row means, what is wrong with it, and how files are read again and again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.cli_tools import pipe_in
from tests.journals import MODEL, intended
from wiro_async import InvalidInput, InvalidJob, JournalEntry
from wiro_async._journal.steps import Blob, LocalFile
from wiro_async.cli._jobs_file import Columns, Reading, delimiter_of, job_of_json, line_of
from wiro_async.cli._jobs_reader import JobsReader, find_jobs, given_jobs, read_rows

LONGEST = 16 * 1024 * 1024

HERE = Path("/jobs")


@pytest.fixture
def anyio_backend() -> str:
    """The command line runs on asyncio."""
    return "asyncio"


def read(fields: Any, key: str | None = None) -> Any:
    line = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return job_of_json(line, Reading(HERE, key))


def entry_of(**inputs: Any) -> JournalEntry:
    step = intended("7", **inputs)
    return JournalEntry(key="7", inputs=step.inputs, state="failed", attempt=1, fingerprint=step.fingerprint)


# -- JSON Lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": {"prompt": "she walks", "n": 2}, "model": "o/m", "key": "7"},
        {"prompt": "she walks", "n": 2, "model": "o/m", "key": 7},
        {"inputs.prompt": "she walks", "n": 2, "model": "o/m", "key": "7"},
    ],
)
def test_inputs_stand_apart_or_beside_model_and_key(fields: Any) -> None:
    """Both forms mean the same job."""
    job = read(fields)
    assert (job.inputs, job.model, job.key) == ({"prompt": "she walks", "n": 2}, "o/m", "7")


def test_an_input_may_be_called_model() -> None:
    """Three models of the catalogue have such an input; its field says that it is one."""
    job = read({"inputs.model": "v2", "model": "o/m"})
    assert (job.inputs, job.model) == ({"model": "v2"}, "o/m")
    assert read({"inputs": {"model": "v2", "key": "k"}}).inputs == {"model": "v2", "key": "k"}


@pytest.mark.parametrize("fields", [{"id": 7, "prompt": "x"}, {"id": "7", "inputs": {"prompt": "x"}}])
def test_any_field_can_be_the_key(fields: Any) -> None:
    """It is no input then, and every row must have it."""
    job = read(fields, "id")
    assert (job.inputs, job.key) == ({"prompt": "x"}, "7")
    with pytest.raises(InvalidInput, match="no 'id'"):
        read({"prompt": "x"}, "id")
    assert read({"prompt": "x", "key": "k"}).key == "k"
    assert read({"prompt": "x", "key": None, "model": ""}).key is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"prompt": "x"\n', r"^it is not JSON: [^:]* \(character 16\)$"),
        (b'{"prompt": NaN}', "NaN is not a number"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"prompt": "\xff"}', r"not UTF-8 \(byte 12\)"),
        (b"[1]", "it is a list"),
        (b'{"inputs": "x"}', "its inputs are a str"),
        (b'{"inputs": {}, "modle": "o/m"}', "the field 'modle'; beside inputs, there are model and key"),
        (b'{"model": 7}', "its model is a int"),
        (b'{"key": true}', "its key is a bool; it must be a string or a whole number"),
        (b'{"key": [1]}', "its key is a list"),
        (b'{"image": "@"}', "names no file; .* is written @@"),
        (b'{"image": "@a\\u0000"}', "names no file"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "nested deeper"),
    ],
)
def test_a_line_that_is_no_job_says_why(line: bytes, problem: str) -> None:
    """The value, the rule, and the way out."""
    with pytest.raises(InvalidInput, match=problem):
        read(line)


def test_a_file_may_begin_with_a_mark() -> None:
    """Some editors put a byte order mark there."""
    assert read(b'\xef\xbb\xbf{"prompt": "x"}').inputs == {"prompt": "x"}


def test_what_begins_with_an_at_sign_is_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the jobs' folder, at any depth; two of them stand for one."""
    monkeypatch.setenv("HOME", "/home/me")
    job = read({"a": "@x.jpg", "b": ["@/abs/y.jpg", "@@home", 1], "c": {"d": "@~/z.jpg"}})
    assert job.inputs == {
        "a": HERE / "x.jpg",
        "b": [Path("/abs/y.jpg"), "@home", 1],
        "c": {"d": Path("/home/me/z.jpg")},
    }


# -- CSV -----------------------------------------------------------------------------------------------------


def test_columns_are_inputs() -> None:
    """But for model and key; an empty cell is left out."""
    columns = Columns(["key", " prompt ", "image", "model"], Reading(HERE))
    job = columns.job_of(["7", "she, walks", "@x.jpg", ""])
    assert (job.key, job.inputs, job.model) == (
        "7",
        {"prompt": "she, walks", "image": HERE / "x.jpg"},
        None,
    )


@pytest.mark.parametrize(
    ("names", "key", "problem"),
    [
        (["a", ""], None, "column 2 of the header has no name"),
        (["a", "b", "a"], None, "names 'a' twice"),
        (["a", "b"], "id", "no 'id', which is given as the key; it has a, b"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(names: list[str], key: str | None, problem: str) -> None:
    """There is no row that could be read then."""
    with pytest.raises(InvalidInput, match=problem):
        Columns(names, Reading(HERE, key))


def test_a_row_has_a_cell_for_each_column() -> None:
    """One too few is a row that was cut, or a comma without quotes."""
    columns = Columns(["a", "b"], Reading(HERE))
    with pytest.raises(InvalidInput, match="3 cells; the header has 2"):
        columns.job_of(["1", "2", "3"])
    with pytest.raises(InvalidInput, match="'b' is not UTF-8"):
        columns.job_of(["1", "\udcff"])


@pytest.mark.parametrize(("header", "found"), [("a,b", ","), ("a;b;c,d", ";"), ("a\tb", "\t"), ("a", ",")])
def test_the_delimiter_is_seen_in_the_header(header: str, found: str) -> None:
    """Spreadsheets write semicolons in half of Europe."""
    assert delimiter_of(header) == found


# -- and back ------------------------------------------------------------------------------------------------


def test_a_journals_job_is_a_line_again() -> None:
    """It reads as the same job."""
    line = line_of(entry_of(a=LocalFile("/p/x.jpg"), b=["@home", 1], c={"d": "@@"}))
    assert line == {
        "key": "7",
        "model": MODEL,
        "inputs": {"a": "@/p/x.jpg", "b": ["@@home", 1], "c": {"d": "@@@"}},
    }
    job = read(line)
    assert job.inputs == {"a": Path("/p/x.jpg"), "b": ["@home", 1], "c": {"d": "@@"}}
    assert (job.key, job.model) == ("7", MODEL)


def test_bytes_cannot_be_a_line() -> None:
    """The journal has their digest only."""
    with pytest.raises(InvalidInput, match="'7' has bytes"):
        line_of(entry_of(a=Blob("00", 1)))


# -- files ---------------------------------------------------------------------------------------------------


def jobs_file(folder: Path, text: str | bytes, name: str = "jobs.jsonl") -> Any:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return find_jobs(path, None)


def rows(file: Any, key: str | None = None) -> list[tuple[int, Any]]:
    return [(row.line, row.job.inputs if row.job else row.problem) for row in read_rows(file, key)]


def test_every_line_has_its_number(tmp_path: Path) -> None:
    """Blank lines count, and are no jobs; one that is too long is skipped to its end."""
    file = jobs_file(tmp_path, '{"a": 1}\n\n[]\n{"a": "' + "x" * 2 * LONGEST + '"}\n{"a": 2}')
    numbers, told = zip(*rows(file), strict=True)
    assert numbers == (1, 3, 4, 5)
    assert (told[0], told[3]) == ({"a": 1}, {"a": 2})
    assert "it is a list" in told[1]
    assert f"longer than {LONGEST} bytes" in told[2]


def test_a_long_last_line_ends_with_the_file(tmp_path: Path) -> None:
    """There is no line break to look for."""
    assert len(rows(jobs_file(tmp_path, "x" * 2 * LONGEST))) == 1


def test_a_table_is_read_with_its_line_numbers(tmp_path: Path) -> None:
    """A cell may hold line breaks; a row that is broken does not take the others with it."""
    text = 'key;prompt\n1;"two\nlines"\n\n2;"a"b\n3;x\n4;x;y\n5;\udcff\n'.encode("utf-8", "surrogateescape")
    told = rows(jobs_file(tmp_path, text, "jobs.csv"))
    assert told[0] == (2, {"prompt": "two\nlines"})
    assert told[1][0] == 5
    assert "it is not CSV" in told[1][1]
    assert told[2] == (6, {"prompt": "x"})
    assert told[3] == (7, "it has 3 cells; the header has 2")
    assert "not UTF-8" in told[4][1]


TABLE = 'key, image, prompt\na, @x.jpg, "hello, you"\nb, @x.jpg, " kept "\n'


@pytest.mark.parametrize(
    ("name", "text", "before"),
    [
        ("jobs.csv", TABLE.encode(), 0),
        ("jobs.csv", TABLE.encode("utf-8-sig"), 0),
        ("jobs.csv", b"sep=;\r\n" + TABLE.replace(", ", "; ").replace("hello; ", "hello, ").encode(), 1),
        ("jobs.csv", b'\xef\xbb\xbf"SEP=|"\n' + TABLE.replace(", ", "|").replace("o|y", "o, y").encode(), 1),
        ("jobs.csv", b"sep=\t\n" + TABLE.replace(", ", "\t").replace("o\ty", "o, y").encode(), 1),
        ("jobs.txt", TABLE.replace(", ", "\t").replace("o\ty", "o, y").encode("utf-16"), 0),
        ("jobs.csv", b"\xfe\xff" + TABLE.replace(", ", "\t").replace("o\ty", "o, y").encode("utf-16-be"), 0),
    ],
)
def test_tables_as_people_make_them(tmp_path: Path, name: str, text: bytes, before: int) -> None:
    """With spaces behind the commas, a mark, a first line for Excel, or as Excel's "Unicode Text"."""
    (tmp_path / "x.jpg").write_bytes(b"x")
    assert rows(jobs_file(tmp_path, text, name)) == [
        (before + 2, {"image": tmp_path / "x.jpg", "prompt": "hello, you"}),
        (before + 3, {"image": tmp_path / "x.jpg", "prompt": " kept "}),
    ]


def test_another_encoding_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """In a cell, in the header, or in UTF-16 that is cut."""
    ((line, told),) = rows(jobs_file(tmp_path, "prompt\nCafé\n".encode("cp1252"), "jobs.csv"))
    assert (line, told.startswith("its 'prompt' is not UTF-8; save it as UTF-8 (Excel: ")) == (2, True)
    assert "iconv -f WINDOWS-1252 -t UTF-8" in told
    with pytest.raises(InvalidInput, match="column 2 of the header is not UTF-8; save it as UTF-8"):
        rows(jobs_file(tmp_path, "prompt,größe\nx,1\n".encode("cp1252"), "jobs.csv"))
    with pytest.raises(InvalidInput, match="begins as UTF-16 and is not"):
        rows(jobs_file(tmp_path, TABLE.encode("utf-16")[:-1], "jobs.csv"))


def test_a_space_before_the_at_sign_is_refused(tmp_path: Path) -> None:
    """Where a file is wanted: it would be sent as a text, and paid for."""
    ((_, told),) = rows(jobs_file(tmp_path, '{"image": " @x.jpg"}'))
    assert told == "its input 'image' is the text ' @x.jpg'; remove the space before the @"
    ((_, told),) = rows(jobs_file(tmp_path, '{"prompt": " @home"}'))
    assert told == {"prompt": " @home"}


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.jsonl"])
def test_an_empty_file_has_no_jobs(tmp_path: Path, name: str) -> None:
    """Neither is it an error."""
    assert rows(jobs_file(tmp_path, "", name)) == []


def test_a_local_file_that_is_there_is_fine(tmp_path: Path) -> None:
    """It is a path then."""
    (tmp_path / "x.jpg").write_bytes(b"x")
    ((_, told),) = rows(jobs_file(tmp_path, '{"image": "@x.jpg"}'))
    assert told == {"image": tmp_path / "x.jpg"}


def test_the_name_tells_the_format_unless_one_is_said(tmp_path: Path) -> None:
    """Anything but .csv and .tsv, and Excel's .txt, is JSON Lines."""
    names = {"a.csv": "csv", "b.TSV": "csv", "c.jsonl": "jsonl", "d": "jsonl"}
    assert {name: jobs_file(tmp_path, "x", name).format for name in names} == names
    assert find_jobs(tmp_path / "d", "csv").format == "csv"
    assert jobs_file(tmp_path, "a\n".encode("utf-16"), "e.txt").format == "csv"
    assert jobs_file(tmp_path, "{}", "f.txt").format == "jsonl"


@pytest.mark.parametrize("name", ["none.jsonl", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """With the reason."""
    with pytest.raises(InvalidInput, match="the jobs cannot be read from"):
        find_jobs(tmp_path / name, None)


def test_a_file_that_changes_is_not_read_on(tmp_path: Path) -> None:
    """What was checked must be what is paid for."""
    file = jobs_file(tmp_path, '{"a": 1}')
    os.utime(file.path, (1, 1))
    with pytest.raises(InvalidInput, match="has changed while it was being read"):
        rows(file)


def test_stdin_is_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that it can be read twice; its files are relative to where the command runs."""
    pipe_in(monkeypatch, '{"a": 1}\n')
    monkeypatch.chdir(tmp_path)
    with given_jobs("-", None) as file:
        assert rows(file) == rows(file) == [(1, {"a": 1})]
        assert (file.name, file.is_kept, file.format) == ("-", False, "jsonl")
        assert file.folder == tmp_path
    assert not file.path.exists()
    (tmp_path / "jobs.csv").write_text("a\n1\n")
    with given_jobs("jobs.csv", None) as file:
        assert (file.is_kept, file.format, file.path) == (True, "csv", tmp_path / "jobs.csv")


# -- the reader ----------------------------------------------------------------------------------------------


async def test_bad_rows_are_told_once_and_then_left_out(tmp_path: Path) -> None:
    """The first reading finds them, its user may add others, and the second one has the rest.

    They are all counted, and a thousand of them are kept.
    """
    text = '{"a": 1}\n[]\n' + '{"a": 2}\n' * 1001
    file = await anyio.to_thread.run_sync(jobs_file, tmp_path, text)
    first, places = JobsReader(file, None), []
    async for job in first:
        places.append(job.where)
        if job.inputs != {"a": 1}:
            first.reject(InvalidJob(job.where, "no"))
    assert places == ["line 1", *(f"line {number}" for number in range(3, 1004))]
    assert [invalid.where for invalid in first.invalid] == [f"line {number}" for number in range(2, 1002)]
    assert first.invalid_jobs == 1002
    assert first.bad == bytearray([0, *[1] * 1002])
    assert [job.inputs async for job in JobsReader(file, None, bad=first.bad)] == [{"a": 1}]


async def test_a_row_that_turned_bad_is_an_error(tmp_path: Path) -> None:
    """Such as one whose text has become the name of a file between the two readings."""
    (tmp_path / "x.jpg").touch()
    file = await anyio.to_thread.run_sync(jobs_file, tmp_path, '{"image": "x.jpg"}')
    with pytest.raises(InvalidInput, match="line 1: its input 'image' is the text"):
        await anext(JobsReader(file, None, bad=bytearray(1)))


async def test_a_row_must_name_its_model_where_nobody_else_does(tmp_path: Path) -> None:
    """The way out is the command line's own."""
    file = await anyio.to_thread.run_sync(jobs_file, tmp_path, '{"a": 1, "model": "o/m"}\n{"a": 2}\n')
    reader = JobsReader(file, None, needs_model=True)
    assert [job.model async for job in reader] == ["o/m"]
    (invalid,) = reader.invalid
    assert invalid.where == "line 2"
    assert invalid.reason.startswith("it names no model; give --model, or a field or column")


@pytest.mark.parametrize(
    ("name", "value", "is_refused"),
    [
        ("inputImageFirstUrl", "img/photo.jpg", True),
        ("maskImage", ["img/photo.jpg"], True),
        ("inputImageFirstUrl", "img/other.jpg", False),
        ("inputImageFirstUrl", "https://example.org/img/photo.jpg", False),
        ("inputImageFirstUrl", f"{'x' * 5000}.jpg", False),
        ("inputImageFirstUrl", "\0.jpg", False),
        ("inputImageFirstUrl", "img", False),
        ("inputImageFirstUrl", 7, False),
        ("prompt", "img/photo.jpg", False),
    ],
)
def test_a_file_without_its_sign_is_asked_about(
    tmp_path: Path, name: str, value: object, is_refused: bool
) -> None:
    """Only where such a file is there, and a file is wanted: it would be sent as a text, and paid for."""
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "photo.jpg").write_bytes(b"x")
    (row,) = read_rows(jobs_file(tmp_path, json.dumps({name: value})), None)
    assert row.problem.endswith("did you mean @img/photo.jpg?") == is_refused
    assert (row.job is None) == is_refused
