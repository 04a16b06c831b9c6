"""Where jobs come from: each key once, and what the journal has before what the caller gives."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.journals import MODEL, Database, failed, intended, succeeded
from wiro_async import Director, InvalidInput, Job, JournalFile
from wiro_async._batch.source import JobSource
from wiro_async._jobs.job import JobState
from wiro_async._journal.journal import Journal, NullJournal
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Accepted, Blob, Done, Doubted, Ended, Released, Saved, key_of

KEYS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
"""What a key may consist of."""


async def all_of(source: JobSource) -> list[JobState]:
    """Return everything that a source hands out."""
    found = []
    while (state := await source.next()) is not None:
        found.append(state)
    return found


async def keys_of(jobs: Any, journal: Journal, **options: Any) -> list[str]:
    return [state.key for state in await all_of(JobSource(jobs, journal, model="a/b", **options))]


def jobs(*keys: str) -> list[Job]:
    return [Job(inputs={"prompt": key}, key=key) for key in keys]


async def written(journal: SQLiteJournal) -> None:
    """Give a journal a job in each state; the states name them."""
    for key in ("intended", "running", "ended", "done", "failed", "unknown", "refused", "blob"):
        await journal.record(intended(key, image=b"jpeg") if key == "blob" else intended(key))
    for key in ("running", "ended", "done", "failed"):
        await journal.record(Accepted(key, f"task {key}"))
    await journal.record(succeeded("ended"), succeeded("done"), failed("failed"))
    await journal.record(Done("done"))
    await journal.record(Doubted("unknown", "ReadTimeout"))
    for key in ("refused", "blob"):
        await journal.record(Released(key, "ServiceError", "busy"))


# -- keys that were seen ---------------------------------------------------------------------------------


@given(keys=st.lists(st.text(KEYS, min_size=1, max_size=3), max_size=60))
def test_keys_are_remembered(keys: list[str]) -> None:
    """As by a set, in the order in which they came first."""
    source = JobSource(jobs(*keys), NullJournal(), model="a/b")
    assert [state.key for state in anyio.run(all_of, source)] == list(dict.fromkeys(keys))
    assert source.skipped == len(keys) - len(set(keys))


async def test_marks_are_not_mistaken_across_their_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of one and the begin of the next are no key."""
    firsts = {"a": 0, "b": 8, "c": 4, "d": 4}
    digests = {key: bytes([0, 0, *range(first, first + 8)]) for key, first in firsts.items()}

    class Fixed:
        def __init__(self, key: bytes, digest_size: int) -> None:
            self.digest = lambda: digests[key.decode()]

    monkeypatch.setattr("hashlib.blake2b", Fixed)
    source = JobSource(jobs(*"abcdabcd"), NullJournal(), model="a/b")
    assert [state.key for state in await all_of(source)] == ["a", "b", "c"]
    assert source.skipped == 5


# -- without a journal -----------------------------------------------------------------------------------


async def test_jobs_are_read_one_by_one() -> None:
    """No further than asked."""
    read: list[int] = []

    def rows() -> Iterator[Job]:
        for number in range(10):
            read.append(number)
            yield Job(inputs={"prompt": number})

    source = JobSource(rows(), NullJournal(), model="a/b")
    for number in range(3):
        state = await source.next()
        assert state is not None
        assert (state.key, state.index) == (str(number), number)
    assert read == [0, 1, 2]
    await source.aclose()


async def test_an_async_generator_is_closed() -> None:
    """Nobody else has it to close."""
    closed = []

    async def rows() -> AsyncIterator[Job]:
        try:
            yield Job(inputs={})
            yield Job(inputs={})
        finally:
            closed.append(True)

    source = JobSource(rows(), NullJournal(), model="a/b")
    await source.next()
    await source.aclose()
    assert closed
    await JobSource([], NullJournal()).aclose()


async def test_each_key_once() -> None:
    """Equal jobs without keys are several."""
    source = JobSource([*jobs("a", "b", "a"), Job(inputs={}), Job(inputs={})], NullJournal(), model="a/b")
    assert [state.key for state in await all_of(source)] == ["a", "b", "2", "3"]
    assert source.skipped == 1


async def test_a_key_function() -> None:
    """It comes before the jobs' own keys; None leaves a job without."""
    assert await keys_of(jobs("a", "b"), NullJournal(), key=lambda job: 7 if job.key == "a" else None) == [
        "7",
        "1",
    ]


async def test_what_is_wrong_with_a_job_is_that_jobs_problem() -> None:
    """It has a name to be told by."""

    class Odd:
        model: ClassVar[str] = "a/b"

        def to_inputs(self) -> Mapping[str, object]:
            raise InvalidInput("odd")

    given = [
        Job(inputs={}, key="no model"),
        Job("a/b", {}, key="x" * 600),
        Job(Director("", "waves")),
        Job(Odd(), key="odd"),
        Job("a/b", {}),
    ]
    found = await all_of(JobSource(given, NullJournal()))
    assert [state.key for state in found] == ["no model", "x" * 60, "2", "odd", "4"]
    assert [isinstance(state.problem, InvalidInput) for state in found] == [True] * 4 + [False]
    assert [state.index for state in found] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("a/b", None, "the inputs of a job are a NoneType; give a mapping or typed inputs"),
        ("a/b", "waves", "the inputs of a job are a str"),
        (7, {}, "the model of a job is a int; give its slug"),
        ("", {}, "a job names no model; give Job"),
    ],
)
async def test_a_table_with_a_wrong_cell_does_not_end_the_others(
    model: Any, inputs: Any, message: str
) -> None:
    """Whatever types its columns have: it is one job's problem, and says what to give."""
    found = await all_of(JobSource([Job(model, inputs), *jobs("good")], NullJournal()))
    assert [state.key for state in found] == ["0", "good"]
    assert found[0].problem is not None
    assert message in found[0].problem.message


async def test_inputs_are_copied() -> None:
    """Some generators fill the same dict again and again."""
    row: dict[str, Any] = {}

    def rows() -> Iterator[Job]:
        for number in range(3):
            row["prompt"] = number
            yield Job(inputs=row)

    found = await all_of(JobSource(rows(), NullJournal(), model="a/b"))
    assert [state.inputs for state in found] == [{"prompt": number} for number in range(3)]


async def test_what_is_no_job_is_refused() -> None:
    """The message tells how to make one of it."""
    wrong: Any = [{"prompt": "a"}]
    with pytest.raises(InvalidInput, match="got a dict for a job"):
        await JobSource(wrong, NullJournal()).next()


# -- with a journal --------------------------------------------------------------------------------------


async def test_the_unfinished_come_first(tmp_path: Path, databases: list[Database]) -> None:
    """Then the caller's; what is done is left out, and what was taken up is not counted twice."""
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        await written(journal)
        given = jobs("new", "done", "failed", "running", "refused", "new")
        source = JobSource(given, journal, model="a/b")
        found = await all_of(source)
    names = ["running", "ended", "unknown", "intended", "refused", "new", "blob"]
    assert [state.key for state in found] == names
    assert [state.index for state in found] == list(range(7))
    assert (source.skipped, source.failed_before) == (2, 1)
    assert all(state.job is None and state.model == MODEL for state in found[:5])


async def test_failed_jobs_are_taken_up_if_there_are_tries_left(
    tmp_path: Path, databases: list[Database]
) -> None:
    """One retry for a job that has had one Run; none for one that has had two."""
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        for key, times in (("once", 1), ("twice", 2)):
            for number in range(times):
                await journal.record(intended(key))
                await journal.record(Accepted(key, f"{key} {number}"))
                await journal.record(failed(key))
        assert await keys_of(jobs("once", "twice"), journal, retries=1) == ["once"]
        assert await keys_of(jobs("once", "twice"), journal, retries=2) == ["once", "twice"]
        assert await keys_of(jobs("once", "twice"), journal) == []


async def test_runs_that_were_turned_away_are_no_attempts(tmp_path: Path, databases: list[Database]) -> None:
    """A job that waited long for a slot has its retries left, from the journal and from the caller."""
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        # The caller has the bytes, so that the second time the job is taken from him.
        for kind in ("ConcurrencyLimited", "RateLimited", "ConnectionFailed"):
            await journal.record(intended("k", image=b"jpeg"))
            await journal.record(Released("k", kind, "later"))
        assert [state.attempts for state in await all_of(JobSource([], journal))] == [0]
        await journal.record(intended("k", image=b"jpeg"), Accepted("k", "1"), failed("k"))
        for given, is_given in (([], False), ([Job(inputs={"image": b"jpeg"}, key="k")], True)):
            found = await all_of(JobSource(given, journal, model="a/b", retries=1))
            assert [(state.attempts, state.job is not None) for state in found] == [(1, is_given)]


async def test_bytes_are_had_from_the_caller_if_he_gives_them_again(
    tmp_path: Path, databases: list[Database]
) -> None:
    """No journal keeps them; who does not give them again hears of it at the end."""
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        for key in ("refused", "failed", "given up"):
            await journal.record(intended(key, image=b"jpeg"))
        await journal.record(Released("refused", "ServiceError", "busy"))
        for key in ("failed", "given up"):
            await journal.record(Accepted(key, key))
            await journal.record(failed(key))
        again = [Job(inputs={"image": b"jpeg"}, key=key) for key in ("refused", "failed")]
        found = await all_of(JobSource(again, journal, model="a/b", retries=1))
        assert [(state.key, state.attempts, state.job is not None) for state in found] == [
            ("refused", 1, True), ("failed", 1, True), ("given up", 1, False),
        ]  # fmt: skip
        assert found[0].inputs == {"image": b"jpeg"}
        assert isinstance(found[0].told["image"], Blob)


async def test_keys_of_jobs_without_one(tmp_path: Path, databases: list[Database]) -> None:
    """Digests: the same for the same list tomorrow, and one for each of equal jobs."""
    given = [Job(inputs=each) for each in ({"n": 1}, {"n": "1.0"}, {"n": 2}, {"image": b"jpeg"}, {"n": 1})]
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        first = await keys_of(given, journal, is_new=True)
        assert first == await keys_of(given, journal)
    assert len(set(first)) == 5
    assert [first[number] for number in (0, 1, 4)] == [key_of("a/b", {"n": 1}, count) for count in range(3)]


async def test_a_new_journal_is_not_asked(tmp_path: Path, databases: list[Database]) -> None:
    """Whatever it has by now is of this run."""
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        source = JobSource(jobs("a", "b"), journal, is_new=True, model="a/b")
        asked = len(databases[0].ran)
        assert len(await all_of(source)) == 2
        assert len(databases[0].ran) == asked


async def test_bytes_are_told_by_their_digests_wherever_they_are(
    tmp_path: Path, databases: list[Database]
) -> None:
    """In mappings and lists, to the depth that inputs may have; deeper is that job's problem."""
    endless: list[Any] = []
    endless += [endless, endless]
    given = [Job(inputs={"a": [1, {"b": (b"jpeg",)}]}), Job(inputs={"a": endless}), *jobs("plain")]
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        nested, deep, plain = await all_of(JobSource(given, journal, model="a/b"))
    assert nested.told == {"a": [1, {"b": [Blob(hashlib.sha256(b"jpeg").hexdigest(), 4)]}]}
    assert nested.inputs == given[0].inputs
    assert deep.problem is not None
    assert "64 levels" in deep.problem.message
    assert plain.told is plain.inputs


# -- files that are not there ----------------------------------------------------------------------------


async def with_files(journal: SQLiteJournal, folder: Path) -> None:
    """Give a journal jobs that are done: their files are there, lost, never fetched, or none at all."""
    there = folder / "x.mp4"
    await anyio.to_thread.run_sync(there.write_bytes, b"clip")
    for key, path in (("there", there), ("lost", folder / "y.mp4"), ("never", None), ("none", None)):
        note = JournalFile(0, "0.mp4", "" if key == "none" else "https://host/0.mp4")
        await journal.record(intended(key))
        await journal.record(Accepted(key, f"task {key}"))
        await journal.record(Ended(key, "succeeded", 1.0, outputs=(note,)))
        if path is not None:
            await journal.record(Saved(key, 0, str(path), 4, "0" * 64))
        await journal.record(Done(key))


async def test_files_that_are_not_there_are_taken_up(
    tmp_path: Path, databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the caller's jobs, or of all of the journal where he gives none; and only where files are wanted."""
    monkeypatch.setattr("wiro_async._batch.source.AT_ONCE", 2)
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        await with_files(journal, tmp_path)
        assert await keys_of([], journal) == await keys_of(jobs("lost"), journal) == []
        assert await keys_of([], journal, fetches=True) == ["lost", "never"]
        source = JobSource(jobs("there", "none", "never"), journal, model="a/b", fetches=True)
        assert [state.key for state in await all_of(source)] == ["never"]
        assert source.skipped == 2


async def test_what_failed_before_is_counted(tmp_path: Path, databases: list[Database]) -> None:
    """Of the caller's jobs, or of all of the journal where he gives none; not if it is made again."""
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        for key, outcome in (("a", "failed"), ("b", "cancelled")):
            await journal.record(intended(key))
            await journal.record(Accepted(key, f"task {key}"))
            await journal.record(Ended(key, outcome, 1.0))  # type: ignore[arg-type]  # both are outcomes
        for given, retries, found, failed in (
            ([], 0, [], 2),
            (jobs("b", "b"), 0, [], 1),
            ([], 1, ["a", "b"], 0),
        ):
            source = JobSource(given, journal, model="a/b", retries=retries)
            assert [state.key for state in await all_of(source)] == found
            assert source.failed_before == failed


async def test_other_inputs_under_a_known_key_are_counted(tmp_path: Path, databases: list[Database]) -> None:
    """They are not run, whether they were changed by mistake or on purpose; numbers as text are no change."""
    known: dict[str, Any] = {"prompt": "waves", "seconds": 6, "image": b"jpeg"}
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        await journal.record(intended("a", **known))
        await journal.record(Accepted("a", "task a"))
        await journal.record(succeeded("a"))
        await journal.record(Done("a"))
        for model, inputs, changed in (
            (MODEL, known, 0),
            (MODEL, {**known, "seconds": "6.0"}, 0),
            (MODEL, {**known, "prompt": "rain"}, 1),
            (MODEL, {**known, "image": b"png"}, 1),
            ("a/b", known, 1),
        ):
            source = JobSource(
                [Job(inputs=inputs, key="a"), Job(inputs=inputs, key="new")], journal, model=model
            )
            assert [state.key for state in await all_of(source)] == ["new"]
            assert (source.skipped, source.changed) == (1, changed)
