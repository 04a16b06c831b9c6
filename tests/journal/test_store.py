"""The journal's file: what it records, how it opens, and that no crash loses what was committed."""

from __future__ import annotations

import copy
import os
import pickle
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.depth import examples
from tests.journals import (
    NOW,
    OUTPUT,
    apply,
    cancelled,
    dump,
    error,
    failed,
    intend,
    intended,
    opened,
    quick,
    refused,
    succeeded,
)
from tests.journals import databases_are_closed as databases_are_closed
from wiro_async import JournalError, JournalFailure, JournalFile, Outcome, Secret
from wiro_async._journal import steps
from wiro_async._journal.journal import Conflict
from wiro_async._journal.steps import (
    Accepted,
    Charged,
    Confirmed,
    Done,
    Doubted,
    Ended,
    Late,
    Learned,
    Released,
    Saved,
    Stalled,
    State,
    Step,
    Uploaded,
)
from wiro_async._journal.store import Store, connect

RECENT = 25 * 3600
"""Seconds around a Run in which a look for its lost answer minds tasks that are like it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def conflict(work: Callable[[], object]) -> str:
    """Return what the journal says to a step that cannot be made."""
    with pytest.raises(JournalError) as caught:
        work()
    assert caught.value.reason == "conflict"
    return caught.value.message


def reason_of(path: Path, **options: Any) -> str:
    """Return why a journal cannot be opened; the message must name the file and give advice."""
    with pytest.raises(JournalError) as caught:
        opened(path, **options)
    assert caught.value.path in caught.value.message
    assert ";" in caught.value.message or ":" in caught.value.message
    return caught.value.reason


def at(store: Store, key: str, state: State) -> None:
    """Bring a new job into that state, by the way that a batch would take."""
    intend(store, key)
    if state == "unknown":
        apply(store, Doubted(key, "ReadTimeout"))
    elif state == "refused":
        apply(store, refused(key))
    elif state != "intended":
        apply(store, Accepted(key, f"task-{key}", Secret(f"token-of-{key}")))
        if state == "stalled":
            apply(store, Stalled(key, "worker lost"))
        elif state != "running":
            apply(store, {"failed": failed, "cancelled": cancelled}.get(state, succeeded)(key))
        if state == "done":
            apply(store, Done(key))


# -- a job's way -----------------------------------------------------------------------------------------


def test_a_jobs_whole_life_is_recorded(path: Path) -> None:
    """From the intent to the file on the disk, and it is there when the journal is opened again."""
    store = opened(path)
    with store.transaction():
        intend(store, "k")
        apply(store, Accepted("k", "2221", Secret("canary-token")))
        apply(store, succeeded("k"))
        apply(store, Saved("k", 0, "/clips/0.mp4", 11, "ab" * 32))
        apply(store, Done("k"))
    store.close()
    row = opened(path).find("k")
    assert row is not None
    assert (row.state, row.attempt, row.inputs, row.fingerprint) == (
        "done",
        1,
        {"prompt": "waves"},
        intended("k").fingerprint,
    )
    assert (row.task_id, row.token, row.accepted_at) == ("2221", Secret("canary-token"), NOW)
    assert (row.outcome, row.cost, row.elapsed, row.ended_at) == (
        "succeeded",
        Decimal("0.35"),
        60.5,
        NOW + 60,
    )
    file = JournalFile(0, "0.mp4", OUTPUT.url, "video/mp4", 11, "/clips/0.mp4", "ab" * 32, NOW)
    assert row.files == (file,)
    assert "canary" not in repr(row)


def test_a_second_attempt_begins_anew_and_the_first_is_kept(path: Path) -> None:
    """The row shows the latest Run; the table of runs has both."""
    store = opened(path)
    at(store, "k", "failed")
    intend(store, "k", "mark 2")
    row = store.find("k")
    assert row is not None
    assert (row.state, row.attempt, row.fingerprint.marker) == ("intended", 2, "mark 2")
    assert (row.task_id, row.token, row.outcome, row.reason, row.files) == ("", None, None, "", ())
    assert [run[4] for run in dump(store)[1]] == ["mark", "mark 2"]


STAYS = {state: state for state in ("ended", "done", "failed", "cancelled")}

WAYS: dict[str, tuple[Callable[[str], Step], Mapping[str, str], str]] = {
    # Never while a Run may be paid for.
    "Intended": (
        intended,
        dict.fromkeys(("new", "refused", "failed", "cancelled"), "intended"),
        "new, failed, cancelled, refused",
    ),
    # A task that turns up late is paid for, whatever was thought of it.
    "Accepted": (
        lambda key: Accepted(key, f"9-{key}"),
        dict.fromkeys(("intended", "unknown", "refused"), "running"),
        "intended, unknown, refused",
    ),
    "Released": (
        refused,
        dict.fromkeys(("intended", "unknown", "refused"), "refused"),
        "intended, unknown, refused",
    ),
    "Doubted": (
        lambda key: Doubted(key, "ReadTimeout"),
        dict.fromkeys(("intended", "unknown", "running"), "unknown"),
        "intended, running, unknown",
    ),
    # Of a job that is not in doubt any more, it says nothing.
    "Late": (
        lambda key: Late(key, NOW + 200),
        {state: state for state in get_args(State)},
        "intended, running, ended, done, failed, cancelled, unknown, refused, stalled",
    ),
    # Never by itself a new Run: its task may go on.
    "Stalled": (
        lambda key: Stalled(key, "worker lost"),
        dict.fromkeys(("running", "stalled"), "stalled"),
        "running, stalled",
    ),
    # It may come at any time.
    "Charged": (
        lambda key: Charged(key, f"task-{key}", Decimal("0.31")),
        {state: state for state in get_args(State)},
        "intended, running, ended, done, failed, cancelled, unknown, refused, stalled",
    ),
    # A success stays one, and still has its outputs to be fetched.
    "Ended": (succeeded, dict.fromkeys(("running", "stalled", "ended"), "ended"), "running, ended, stalled"),
    "Ended by failing": (failed, dict.fromkeys(("running", "stalled"), "failed"), "running, ended, stalled"),
    "Ended by a cancel": (
        cancelled,
        dict.fromkeys(("running", "stalled"), "cancelled"),
        "running, ended, stalled",
    ),
    "Ended somehow": (
        lambda key: Ended(key, None),
        dict.fromkeys(("running", "stalled", "ended"), "ended"),
        "running, ended, stalled",
    ),
    # The state is the caller's to change, when everything wanted is there.
    "Saved": (lambda key: Saved(key, 0, "p", 1, "ab"), STAYS, "ended, done, failed, cancelled"),
    "Done": (Done, dict.fromkeys(("ended", "done"), "done"), "ended, done"),
}
"""Each step, where it leads to from which state, and what a refusal says of these."""


@pytest.mark.parametrize("way", WAYS)
def test_where_each_step_leads_from_every_state(path: Path, way: str) -> None:
    """What is not in the table is refused, changes nothing, and the message tells how the job stands."""
    step_of, leads, origins = WAYS[way]
    store = opened(path)
    for state in ("new", *get_args(State)):
        if state != "new":
            at(store, state, state)
        step, before = step_of(state), dump(store)
        if state in leads:
            apply(store, step)
            entry_of(store, state, cast(State, leads[state]))
        else:
            said = conflict(lambda step=step: apply(store, step))  # type: ignore[misc]
            if not (isinstance(step, Accepted) and state in ("running", "stalled", *STAYS)):
                assert said.endswith(f"; {type(step).__name__} is for jobs that are {origins}")
                assert ("knows no job 'new'" if state == "new" else f"as {state!r}") in said
            assert dump(store) == before


def test_every_step_of_a_job_is_tried() -> None:
    """The table has them all."""
    tried = {type(step_of("k")) for step_of, _, _ in WAYS.values()}
    assert tried == set(get_args(Step)) - {Uploaded, Learned, Confirmed}


def test_the_same_task_again_changes_nothing(path: Path) -> None:
    """But a token that was not known is added, and one that was is not lost."""
    store = opened(path)
    at(store, "k", "intended")
    apply(store, Accepted("k", "7"))
    apply(store, Accepted("k", "7", Secret("token")))
    apply(store, Accepted("k", "7"))
    row = store.find("k")
    assert row is not None
    assert (row.state, row.token) == ("running", Secret("token"))
    apply(store, succeeded("k"))
    apply(store, Accepted("k", "7"))
    assert entry_of(store, "k", "ended").task_id == "7"


# -- attempts, and whose task it is ----------------------------------------------------------------------


def test_a_task_is_one_attempts_for_ever(path: Path) -> None:
    """Another job's, or an earlier attempt's of the same job, it is not, even after it has failed."""
    store = opened(path)
    at(store, "a", "failed")
    intend(store, "b")
    with pytest.raises(Conflict, match="attempt 1 of the job 'a'") as caught:
        apply(store, Accepted("b", "task-a", how="inputs"))
    assert caught.value.held_by == ("a", 1)
    assert pickle.loads(pickle.dumps(caught.value)).held_by == ("a", 1)
    intend(store, "a")
    assert "not attempt 2's of the job 'a'" in conflict(lambda: apply(store, Accepted("a", "task-a")))
    assert entry_of(store, "a", "intended").open
    assert dump(store)[2] == [("task-a", 1, 1, "answer", NOW)]


def test_what_an_answer_named_wrongly_is_whose_it_is(path: Path) -> None:
    """Once the first attempt knows that the task was not its own, the other one can have it."""
    store = opened(path)
    at(store, "a", "running")
    apply(store, Doubted("a", "it is another's"))
    at(store, "b", "intended")
    apply(store, Accepted("b", "task-a", how="inputs"))
    assert (entry_of(store, "a", "unknown").open, entry_of(store, "b", "running").open) == (True, False)
    assert dump(store)[2] == [("task-a", 2, 1, "inputs", NOW)]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (Accepted("k", "7", attempt=1), "Accepted names attempt 1, not 2"),
        (Released("k", "RateLimited", attempt=1), "Released names attempt 1, not 2"),
        (Doubted("k", "ReadTimeout", attempt=1), "Doubted names attempt 1, not 2"),
        (Late("k", NOW + 200, attempt=3), "Late names attempt 3, not 2"),
        (attrs.evolve(intended("k"), attempt=2), "Intended names attempt 2, not 3"),
        (attrs.evolve(intended("k"), attempt=4), "Intended names attempt 4, not 3"),
    ],
    ids=repr,
)
def test_a_step_that_names_another_attempt_changes_nothing(path: Path, step: Step, told: str) -> None:
    """Such as the verdict of a search that was about the attempt before."""
    store = opened(path)
    at(store, "k", "refused")
    intend(store, "k")
    before = dump(store)
    assert f"is at attempt 2 of the job 'k'; {told}" in conflict(lambda: apply(store, step))
    assert dump(store) == before


def test_steps_can_name_the_attempt(path: Path) -> None:
    """They are made if it is the latest, or the next one of an intent."""
    store = opened(path)
    for attempt in (1, 2):
        apply(store, attrs.evolve(intended("k"), attempt=attempt), Late("k", NOW, attempt))
        apply(store, Doubted("k", "ReadTimeout", attempt), Released("k", "SubmissionUnknown", "", attempt))
    assert entry_of(store, "k", "refused").attempt == 2


# -- until when a task can appear ------------------------------------------------------------------------


def quiet_at(store: Store) -> float:
    found = store.find("k")
    assert found is not None
    return found.fingerprint.quiet_at


def test_the_quiet_time_is_kept_by_a_clock_that_nobody_sets(path: Path) -> None:
    """Ten seconds later 75 s are left, though the wall clock was set ahead by an hour, or back."""
    store = opened(path, ticks=lambda: 100.0)
    intend(store, "k")
    store.close()
    for now in (NOW + 3610, NOW - 3590):
        store = opened(path, clock=lambda now=now: now, ticks=lambda: 110.0)
        assert quiet_at(store) == now + 75
        store.close()
    # Slewed clocks do not change what is recorded.
    assert quiet_at(opened(path, clock=lambda: NOW + 10.5, ticks=lambda: 110.0)) == NOW + 85


def test_it_counts_anew_when_the_computer_was_started_since(path: Path) -> None:
    """Its clock may have been ahead, or this may be a copy on another one; an hour is believed."""
    store = opened(path, ticks=lambda: 100.0)
    intend(store, "k")
    at(store, "settled", "failed")
    before = dump(store)[1][1]
    store.close()
    store = opened(path, boot="another", clock=lambda: NOW + 200, ticks=lambda: 5.0)
    assert (quiet_at(store), dump(store)[1][1]) == (NOW + 285, before)
    store.close()
    # Once: the second time, the clock of this start tells.
    store = opened(path, boot="another", clock=lambda: NOW + 230, ticks=lambda: 35.0)
    assert quiet_at(store) == NOW + 285
    store.close()
    assert quiet_at(opened(path, boot="a third", clock=lambda: NOW + 4000)) == NOW + 285


def test_without_a_name_of_the_start_the_wall_clock_tells(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /proc is not."""

    def read_text(path: Path, *_: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    store = opened(path)
    intend(store, "k")
    assert dump(store)[1][0][8] == ""
    store.close()
    assert quiet_at(opened(path, clock=lambda: NOW + 20, ticks=lambda: 1.0)) == NOW + 85


def test_a_late_run_is_quiet_later(path: Path) -> None:
    """Never earlier, and only while it is in doubt."""
    store = opened(path, ticks=lambda: 100.0)
    intend(store, "k")
    apply(store, Late("k", NOW + 120), Late("k", NOW + 90))
    assert quiet_at(store) == NOW + 120
    assert quiet_at(opened_again(store, clock=lambda: NOW + 3600, ticks=lambda: 110.0)) == NOW + 3600 + 110


def opened_again(store: Store, **options: Any) -> Store:
    store.close()
    return opened(Path(store.path), **options)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names its start")
def test_on_linux_the_start_has_a_name(path: Path) -> None:
    """And the clock is not the wall clock."""
    store = Store(path, connect=quick()[0])
    intend(store, "k")
    boot, ticks = dump(store)[1][0][8:10]
    assert (len(boot), ticks < time.time() - 1e9) == (36, True)


def entry_of(store: Store, key: str, state: State) -> Any:
    """Return the row after checking its state."""
    row = store.find(key)
    assert row is not None
    assert row.state == state
    return row


def test_another_task_is_refused_unless_the_first_was_doubted(path: Path) -> None:
    """Two tasks of one Run would be two bills; but a Run's answer can have been another's."""
    store = opened(path)
    at(store, "k", "running")
    assert "has the task task-k for the job 'k', not 8" in conflict(lambda: apply(store, Accepted("k", "8")))
    apply(store, Doubted("k", "the answer was another's"))
    row = entry_of(store, "k", "unknown")
    assert (row.task_id, row.token, row.error) == ("", None, "SubmissionUnknown")
    apply(store, Accepted("k", "8"))
    row = entry_of(store, "k", "running")
    assert (row.task_id, row.error, row.reason) == ("8", "", "")


def test_a_later_look_brings_newer_addresses_and_keeps_what_was_saved(path: Path) -> None:
    """Addresses expire; files do not."""
    store = opened(path)
    at(store, "k", "ended")
    apply(store, Saved("k", 0, "/clips/0.mp4", 11, "ab"))
    second = JournalFile(1, "1.mp4", "https://new/1.mp4")
    newer = JournalFile(0, "0.mp4", "https://new/0.mp4", "video/mp4", 99)
    apply(store, Ended("k", "succeeded", NOW, outputs=(newer, second)))
    one, two = entry_of(store, "k", "ended").files
    assert (one.url, one.size, one.path) == ("https://new/0.mp4", 11, "/clips/0.mp4")
    assert (two.n, two.saved_at) == (1, None)
    assert "'ended'" in conflict(lambda: apply(store, failed("k")))


def test_a_file_that_was_not_announced_is_recorded_too(path: Path) -> None:
    """Its path may be bytes that are no text."""
    store = opened(path)
    at(store, "k", "done")
    apply(store, Saved("k", 4, "/clips/\udce9.mp4", 5, "cd"))
    assert entry_of(store, "k", "done").files[-1].path == "/clips/\udce9.mp4"


def test_values_from_the_wire_cannot_harm(path: Path) -> None:
    """Halves of surrogates, sizes beyond 64 bits, costs beyond reason, reasons without end."""
    store = opened(path)
    at(store, "k", "running")
    output = JournalFile(0, "\ud800", "u\ud800", "t\ud800", 10**30)
    apply(
        store,
        Ended("k", "succeeded", float("inf"), Decimal("1e99"), float("nan"), "\ud800" * 9999, (output,)),
    )
    row = entry_of(store, "k", "ended")
    assert (row.elapsed, row.ended_at) == (None, None)
    assert row.reason == "?" * 2000
    assert (row.files[0].name, row.files[0].size) == ("?", None)
    assert row.cost == Decimal(2**63 - 1).scaleb(-12)


# -- reading ---------------------------------------------------------------------------------------------


def test_pages_come_in_order_of_arrival_by_state(path: Path) -> None:
    """Each no longer than a page, and the whole of them complete."""
    store = opened(path)
    with store.transaction():
        for number in range(250):
            at(store, f"{number * 7919 % 1000:03d}", "running" if number % 50 else "done")
    every = store.page(None, 0)
    assert len(every) == 200
    every += store.page(None, every[-1][0])
    assert [row.key for _, row in every] == [f"{number * 7919 % 1000:03d}" for number in range(250)]
    assert [job for job, _ in store.page("done", 0)] == [1, 51, 101, 151, 201]
    assert store.page("done", 201) == []


def test_reading_a_state_uses_its_index(path: Path) -> None:
    """Resuming must not read a million finished jobs to find three that are not."""
    connecting, databases = quick()
    store = Store(path, connect=connecting)
    store.page("running", 5)
    plan = (
        databases[0]
        .execute(f"EXPLAIN QUERY PLAN {databases[0].ran[-1]}", {"state": "x", "last": 5})
        .fetchall()
    )
    assert "jobs_state (state=? AND" in plan[0][3]


def test_everything_is_counted(path: Path) -> None:
    """Jobs by state, what all attempts cost, and how they failed."""
    store = opened(path)
    for number, state in enumerate(steps.STATES):
        at(store, f"a{number}", state)
    at(store, "b", "failed")
    intend(store, "b")
    apply(store, Accepted("b", "1"))
    apply(store, failed("b"))
    counts = store.counts()
    assert counts.jobs == {**dict.fromkeys(steps.STATES, 1), "failed": 2}
    assert counts.total == 10
    assert counts.uncharged == 0
    assert counts.cost == Decimal("0.70")
    assert counts.failures[0] == JournalFailure("failed", "", "no face found", 2)
    assert {failure.state for failure in counts.failures} == {
        "failed", "cancelled", "stalled", "unknown", "refused",
    }  # fmt: skip


# -- charges that come late, and ends that come in pieces ---------------------------------------------------


def test_a_late_charge_replaces_the_estimate_once(path: Path) -> None:
    """Of whichever attempt; whatever is told later changes nothing."""
    store = opened(path)
    at(store, "k", "running")
    apply(store, Charged("k", "task-k", Decimal(9)))
    assert entry_of(store, "k", "running").cost is None, "it has not ended"
    apply(store, Ended("k", "failed", NOW, Decimal("0.28"), cost_final=False))
    intend(store, "k")
    apply(store, Accepted("k", "second"), Ended("k", "succeeded", NOW + 1, None, cost_final=False))
    assert store.counts().cost == Decimal("0.28")
    assert store.counts().uncharged == 2
    assert [(run.key, run.task_id, run.counted) for run in store.uncharged()] == [
        ("k", "second", None), ("k", "task-k", Decimal("0.28")),
    ]  # fmt: skip
    run = store.uncharged()[1]
    assert (run.model, run.inputs, run.ended_at) == (
        "MiniMax/image-to-video-01-director",
        {"prompt": "waves"},
        NOW,
    )
    apply(store, Charged("k", "task-k", Decimal("0.35")), Charged("k", "task-k", Decimal(5)))
    assert store.counts().cost == Decimal("0.35")
    apply(store, Charged("k", "second", Decimal("0.1")))
    # The same end again: what the service has said stays.
    apply(store, Ended("k", "succeeded", NOW + 1, Decimal(7), cost_final=False))
    entry = entry_of(store, "k", "ended")
    assert (entry.cost, entry.cost_final) == (Decimal("0.1"), True)
    assert (store.counts().cost, store.counts().uncharged, store.uncharged()) == (Decimal("0.45"), 0, [])


@pytest.mark.parametrize(("outcome", "state"), [("succeeded", "ended"), ("failed", "failed")])
def test_an_unclear_end_becomes_a_clear_one(path: Path, outcome: Outcome, state: State) -> None:
    """It is kept as ended, with the error; then it is what the service says at last, and stays that."""
    store = opened(path)
    at(store, "k", "running")
    apply(store, Ended("k", None, NOW, Decimal("0.28"), cost_final=False))
    entry = entry_of(store, "k", "ended")
    assert (entry.outcome, entry.error, entry.cost_final) == (None, "TaskUnclear", False)
    apply(store, Ended("k", outcome, NOW, Decimal("0.35")))
    entry = entry_of(store, "k", state)
    assert (entry.outcome, entry.error, entry.cost, entry.cost_final) == (outcome, "", Decimal("0.35"), True)
    if outcome == "succeeded":
        conflict(lambda: apply(store, failed("k")))
        apply(store, Ended("k", None, NOW))
        assert entry_of(store, "k", "ended").outcome == "succeeded"


def test_a_stalled_job_keeps_its_reason_until_its_end(path: Path) -> None:
    """Its task is known, and no other Run is made for it."""
    store = opened(path)
    at(store, "k", "stalled")
    entry = entry_of(store, "k", "stalled")
    assert (entry.error, entry.reason, entry.task_id) == ("TaskStalled", "worker lost", "task-k")
    assert store.task_ids() == ["task-k"]
    apply(store, succeeded("k"))
    assert entry_of(store, "k", "ended").reason == ""


def test_an_empty_journal_has_counts_too(path: Path) -> None:
    """Of nothing."""
    counts = opened(path).counts()
    assert (counts.total, counts.cost, counts.failures) == (0, Decimal(0), ())


def test_costs_add_up_beyond_64_bits(path: Path) -> None:
    """In parts, because SQLite cannot."""
    store = opened(path)
    costs = [Decimal(9_000_000), Decimal(9_000_000), Decimal("0.000000000001"), Decimal("0.5")]
    for number, cost in enumerate(costs):
        at(store, f"{number}", "running")
        apply(store, Ended(f"{number}", "failed", NOW, cost))
    assert store.counts().cost == sum(costs)


def test_uploads_and_lessons_are_kept_by_name(path: Path) -> None:
    """The latest wins."""
    store = opened(path)
    apply(store, Uploaded("ab", "https://old", 1))
    apply(store, Uploaded("ab", "https://new", 1))
    apply(store, Learned("durations", {"a": 1}), Learned("durations", {"a": 2}))
    assert store.url_of("ab") == "https://new"
    assert store.url_of("cd") is None
    assert (store.load_stats("durations"), store.load_stats("prices")) == ({"a": 2}, {})


def test_an_upload_is_trusted_for_a_day(path: Path) -> None:
    """The service documents no term."""
    now = NOW
    store = Store(path, connect=quick()[0], clock=lambda: now)
    apply(store, Uploaded("ab", "https://x", 1))
    now = NOW + 86400
    assert store.url_of("ab") == "https://x"
    now += 1
    assert store.url_of("ab") is None


def test_an_end_whose_time_nobody_told_is_now(path: Path) -> None:
    """A cancelled task may have none."""
    store = opened(path)
    at(store, "k", "running")
    apply(store, Ended("k", "cancelled"))
    assert entry_of(store, "k", "cancelled").ended_at == NOW


def sent(store: Store, key: str, state: State, ago: float) -> None:
    """Bring a new job into that state, by a Run that was sent so many seconds ago."""
    at(store, key, state)
    store._db.execute(
        "UPDATE runs SET sent_at = ? WHERE job = (SELECT job FROM jobs WHERE key = ?)", (NOW - ago, key)
    )


def test_the_tasks_are_told_that_a_lost_answer_could_be_taken_for(path: Path) -> None:
    """All attempts' of the last day, doubts or none, for the next doubt may come; and what still runs."""
    store = opened(path)
    sent(store, "recent", "done", RECENT - 1)
    sent(store, "old", "done", RECENT + 1)
    sent(store, "old and running", "running", 2 * RECENT)
    at(store, "again", "failed")
    intend(store, "again")
    apply(store, Accepted("again", "task-again-2"))
    told = ["task-old and running", "task-recent", "task-again", "task-again-2"]
    assert sorted(store.task_ids()) == sorted(told)
    assert store.task_ids()[:2] == told[:2]


@pytest.mark.parametrize("state", ["unknown", "intended"])
def test_an_old_doubt_needs_the_tasks_since_then(path: Path, state: State) -> None:
    """Its own task is none of those that came after it, or shortly before."""
    store = opened(path)
    sent(store, "first", "done", 3 * RECENT + 1)
    sent(store, "before", "done", 3 * RECENT - 1)
    sent(store, "doubt", state, 2 * RECENT)
    sent(store, "after", "failed", 1.5 * RECENT)
    assert store.task_ids() == ["task-before", "task-after"]


def test_of_too_many_tasks_the_newest_are_told(path: Path) -> None:
    """A hundred thousand: as many as a client remembers."""
    store = opened(path)
    for number, key in enumerate("abc"):
        sent(store, key, "done", 30 - number)
    store._db.execute(
        "WITH RECURSIVE n(n) AS (SELECT 4 UNION ALL SELECT n + 1 FROM n LIMIT 99999) "
        "INSERT INTO runs (job, attempt, names, digest, marker, sent_at, not_after, quiet_at, open, task_id) "
        "SELECT n, 1, '[]', '', '', ?, ?, ?, 0, n FROM n",
        (NOW, NOW, NOW),
    )
    told = store.task_ids()
    assert (len(told), told[0]) == (100_000, "task-c")


@pytest.mark.parametrize("kind", ["ConcurrencyLimited", "RateLimited", "ConnectionFailed"])
def test_runs_that_were_turned_away_are_no_runs(path: Path, kind: str) -> None:
    """They are recorded and not counted, as the page's question about repeated jobs does not count them."""
    store = opened(path)
    for _ in range(3):
        intend(store, "k")
        apply(store, Released("k", kind, "later"))
    assert [(row.attempt, row.runs) for _, row in store.page(None, 0)] == [(3, 0)]
    at(store, "k", "failed")
    assert [(row.attempt, row.runs) for _, row in store.page(None, 0)] == [(4, 1)]
    page = PAGE_ABOUT_IT.read_text("utf-8")
    question = next(sql for sql in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "HAVING" in sql)
    assert store._db.execute(question).fetchall() == []
    intend(store, "k")
    assert store._db.execute(question).fetchall() == [("k", 2, "failed")]
    apply(store, refused("k"))
    assert [(row.attempt, row.runs) for _, row in store.page(None, 0)] == [(5, 2)]


def test_costs_below_nothing_are_not_summed(path: Path) -> None:
    """Neither what the service tells, nor what an earlier version kept."""
    store = opened(path)
    for key, cost in (("a", Decimal("0.35")), ("b", Decimal(-5)), ("c", None)):
        intend(store, key)
        apply(store, Accepted(key, key))
        apply(store, Ended(key, "succeeded", NOW, cost))
    assert store.counts().cost == Decimal("0.35")
    row = store.find("b")
    assert row is not None
    assert row.cost == 0
    store._db.execute("UPDATE runs SET cost = -5000000000000 WHERE task_id = 'b'")
    assert store.counts().cost == Decimal("0.35")


def test_a_token_that_cannot_be_kept_is_left_out(path: Path) -> None:
    """Half a surrogate pair is no text; the task is watched without it."""
    store = opened(path)
    intend(store, "k")
    apply(store, Accepted("k", "7", Secret("canary\ud800")))
    row = store.find("k")
    assert row is not None
    assert (row.task_id, row.token) == ("7", None)
    intend(store, "other")
    for task_id in ("7\ud800", ""):
        assert "as a task id" in conflict(lambda task_id=task_id: apply(store, Accepted("other", task_id)))  # type: ignore[misc]


def test_a_token_is_in_no_frame_when_the_disk_fails(path: Path) -> None:
    """Some tracebacks show locals."""
    store = opened(path, "PRAGMA cache_spill = OFF")
    intend(store, "k")
    cast(Any, store._db).fail = lambda sql: (
        error(sqlite3.OperationalError, 13, "full") if sql.startswith("UPDATE runs") else None
    )
    with pytest.raises(sqlite3.OperationalError) as caught:
        apply(store, Accepted("k", "7", Secret("canary-token")))
    shown = [repr(entry.frame.f_locals) for entry in caught.traceback if "wiro_async" in str(entry.path)]
    assert len(shown) == 3
    assert not [each for each in shown if "canary" in each]


# -- the documented schema -------------------------------------------------------------------------------

PAGE_ABOUT_IT = Path(__file__).parents[2] / "docs" / "journal.md"


def test_every_column_is_documented(path: Path) -> None:
    """And every state."""
    text = PAGE_ABOUT_IT.read_text("utf-8")
    store = opened(path)
    for table in ("meta", "jobs", "runs", "tasks", "files", "uploads", "learned"):
        assert f"**{table}**" in text
        for column in store._db.execute(f"PRAGMA table_info({table})"):
            assert f"`{column[1]}`" in text, f"{table}.{column[1]}"
    for state in steps.STATES:
        assert f"| `{state}` |" in text


def test_the_documented_questions_can_be_asked(path: Path) -> None:
    """Each is run on a journal that has jobs in every state, and has an answer."""
    filled(path)
    store = opened(path)
    intend(store, "key-4" * 8)
    apply(store, Saved("key-3" * 8, 0, "/clips/0.mp4", 1, "ab"))
    store.close()
    removal, *questions = re.findall(r"```sql\n(.*?)```", PAGE_ABOUT_IT.read_text("utf-8"), re.DOTALL)
    with sqlite3.connect(path, isolation_level=None) as db:
        for question in questions:
            assert db.execute(question).fetchall(), question
        db.executescript(removal)
    db.close()
    assert b"token-of" not in path.read_bytes()
    opened(path).close()


# -- opening ---------------------------------------------------------------------------------------------


def test_the_files_are_the_owners_only_and_few(path: Path) -> None:
    """The journal, its -wal file while it is open, and no shared memory."""
    before = os.umask(0)
    try:
        store = opened(path)
        intend(store, "k")
    finally:
        os.umask(before)
    assert {file.name for file in path.parent.iterdir()} == {"a.db", "a.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["a.db"]


@pytest.mark.skipif(os.name == "nt", reason="rights are another matter there")
def test_a_file_that_was_there_becomes_its_owners_only(path: Path) -> None:
    """And its -wal file: it may have been copied, touched, or restored."""
    path.touch()
    path.chmod(0o644)
    store = opened(path)
    intend(store, "k")
    files = [path, Path(f"{path}-wal")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


@pytest.mark.parametrize("wal", [True, False])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_run_is_not_intended_in_a_file_that_is_gone(path: Path, how: str, wal: bool) -> None:
    """No later process would find it. What has happened can still be written, wherever the file is now."""
    store = opened(path)
    intend(store, "k")
    file = Path(f"{path}-wal") if wal else path
    kept = file.rename(path.with_name("moved"))
    if how == "replaced":
        shutil.copy(kept, file)
    with pytest.raises(JournalError, match="deleted, moved or replaced") as caught:
        intend(store, "other")
    assert caught.value.reason == "missing"
    apply(store, Accepted("k", "7"))
    file.unlink(missing_ok=True)
    kept.rename(file)
    intend(store, "other")
    store.close()
    assert [row.task_id for _, row in opened(path).page(None, 0)] == ["7", ""]


def test_each_transaction_looks_for_its_file_once(path: Path) -> None:
    """A thousand Runs that are intended together need no thousand looks; the next transaction looks again."""
    store = opened(path)
    with store.transaction():
        intend(store, "first")
        moved = path.rename(path.with_name("moved"))
        intend(store, "second")
    with pytest.raises(JournalError, match="deleted, moved or replaced"), store.transaction():
        intend(store, "third")
    moved.rename(path)
    with store.transaction():
        intend(store, "fourth")
    store.close()
    assert [row.key for _, row in opened(path).page(None, 0)] == ["first", "second", "fourth"]


def test_a_reopened_journal_is_watched_too(path: Path) -> None:
    """Nothing is written before the first Run, so its -wal file is empty."""
    opened(path).close()
    store = opened(path)
    Path(f"{path}-wal").unlink()
    with pytest.raises(JournalError, match="-wal"):
        intend(store, "k")


def test_what_is_promised_is_set(path: Path) -> None:
    """The promise of durability is these three settings."""
    store = Store(path)
    settings = {name: store._value(f"PRAGMA {name}") for name in ("synchronous", "trusted_schema")}
    assert settings == {"synchronous": 2, "trusted_schema": 0}
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA locking_mode").fetchone() == ("exclusive",)
    names = {name for (name,) in store._db.execute("SELECT name FROM meta")}
    assert names == {"created_by", "created_at", "opened_at", "tag", "wal"}
    store.close()


def test_a_second_journal_is_refused_at_once(path: Path) -> None:
    """In this process, and in another; and the first one goes on."""
    store = opened(path)
    assert reason_of(path) == "locked"
    other = subprocess.run(
        [sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert other.stdout.split() == ["locked", "OperationalError"]
    with store.transaction():
        intend(store, "k")
    store.close()
    opened(path).close()


OTHER = """
import sqlite3, sys
from wiro_async._journal.store import Store
from wiro_async import _errors
try:
    Store(sys.argv[1])
except _errors.JournalError as error:
    print(error.reason)
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("SELECT * FROM jobs")
except sqlite3.OperationalError as error:
    print(type(error).__name__)
"""


def test_an_empty_file_becomes_a_journal_only_on_demand(path: Path) -> None:
    """That is what a crash in the very beginning leaves."""
    path.touch()
    assert reason_of(path, create=False) == "missing"
    opened(path).close()
    opened(path, create=False).close()


def test_a_later_version_is_refused(path: Path) -> None:
    """With the way out."""
    alter(path, "PRAGMA user_version = 3")
    assert reason_of(path) == "newer"


def alter(path: Path, *statements: str) -> None:
    """Change a journal as another program would."""
    opened(path).close()
    with sqlite3.connect(path, isolation_level=None) as db:
        for sql in statements:
            db.execute(sql)
    db.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("PRAGMA application_id = 7", "foreign"),
        ("PRAGMA application_id = 0", "foreign"),
        ("PRAGMA user_version = 0", "corrupt"),
        ("DROP TABLE runs", "corrupt"),
        ("DROP TABLE meta", "corrupt"),
        ("DROP INDEX jobs_state", "corrupt"),
        ("ALTER TABLE jobs ADD COLUMN more TEXT", "corrupt"),
        ("ALTER TABLE files RENAME TO other", "corrupt"),
    ],
)
def test_what_others_have_changed_is_refused(path: Path, statement: str, reason: str) -> None:
    """A journal that lacks something could forget what is paid for."""
    alter(path, statement)
    assert reason_of(path) == reason


def test_what_others_have_added_is_left_alone(path: Path) -> None:
    """Views and indexes for one's own queries do no harm."""
    alter(path, "CREATE VIEW mine AS SELECT key FROM jobs", "CREATE INDEX runs_task ON runs (task_id)")
    opened(path).close()


def test_another_programs_database_is_not_touched(path: Path) -> None:
    """Not a byte of it."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text)")
    db.close()
    before = path.read_bytes()
    assert reason_of(path) == "foreign"
    assert path.read_bytes() == before


def filled(path: Path, jobs: int = 60) -> None:
    """Make a journal of several pages a table."""
    store = opened(path)
    with store.transaction():
        for number in range(jobs):
            at(store, f"key-{number}" * 8, steps.STATES[number % len(steps.STATES)])
    store.close()


def patched(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:offset] + data + content[offset + len(data) :]


CORRUPTIONS: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda _: b"key,model\n" * 500,
    "zeros": lambda content: bytes(len(content)),
    "a gzip": lambda content: b"\x1f\x8b" + content[2:],
    "magic off by one": patched(0, b"SQLite format 4\0"),
    "five bytes": lambda _: b"hello",
    "half the header": lambda content: content[:50],
    "half a page": lambda content: content[:2048],
    "first page only": lambda content: content[:4096],
    "cut in a page": lambda content: content[:-1000],
    "a page less": lambda content: content[:-4096],
    "half the pages": lambda content: content[: len(content) // 8192 * 4096],
    "page size 0": patched(16, b"\0\0"),
    "page size odd": patched(16, b"\x10\x01"),
    "format of the future": patched(18, b"\x09\x09"),
    "schema format 99": patched(44, b"\0\0\0\x63"),
    "free list astray": patched(32, b"\0\0\xff\xff\0\0\0\x09"),
    "schema page zeroed": patched(100, bytes(3900)),
    "second page zeroed": patched(4096, bytes(4096)),
    "third page garbage": patched(8192, bytes(range(256)) * 16),
    "a page twice": lambda content: content[:8192] + content[4096:8192] + content[12288:],
    "pages swapped": lambda content: (
        content[:8192] + content[12288:16384] + content[8192:12288] + content[16384:]
    ),
    "every page's type wrong": lambda content: content.replace(b"\x0d\0\0", b"\x09\0\0"),
    "tail garbage": lambda content: content[:-4096] + b"\xa5" * 4096,
}


@pytest.mark.parametrize("shape", CORRUPTIONS)
def test_a_damaged_file_is_refused_and_never_begun_anew(path: Path, shape: str) -> None:
    """Whatever has become of it: what it holds may be all that is known of what was paid."""
    filled(path)
    damaged = bytes(CORRUPTIONS[shape](path.read_bytes()))
    path.write_bytes(damaged)
    # SQLite has no code of its own for a format of the future.
    assert reason_of(path) in ("corrupt", "foreign", "failed")
    assert len(path.read_bytes()) == len(damaged)


def test_an_index_that_contradicts_its_table_is_found(path: Path) -> None:
    """A key that its index has lost would be paid for again; only the deep check sees it."""
    filled(path)
    content = path.read_bytes()
    before, after = b"key-7" * 8, b"key-x" * 8
    # The second time the key occurs is in the other of index and table.
    place = content.index(before, content.index(before) + 1)
    path.write_bytes(patched(place, after)(content))
    assert reason_of(path) == "corrupt"


@pytest.mark.parametrize(("pages", "check"), [(2**17, "integrity_check"), (2**17 + 1, "quick_check")])
def test_a_large_journal_gets_the_quick_check(path: Path, pages: int, check: str) -> None:
    """Beyond half a gigabyte, so that a million jobs are opened in bearable time."""
    opened(path).close()
    connecting, databases = quick()

    def large(file: str) -> sqlite3.Connection:
        db = connecting(file)
        databases[0].instead = {"PRAGMA page_count": f"SELECT {pages}"}
        return db

    Store(path, connect=large).close()
    assert [sql for sql in databases[0].ran if "_check(" in sql] == [f"PRAGMA {check}(3)"]


def test_where_there_is_no_wal_there_is_no_journal(path: Path) -> None:
    """Durability was promised with it."""
    with pytest.raises(JournalError, match="WAL mode") as caught:
        Store(path, connect=lambda _: sqlite3.connect(":memory:", isolation_level=None))
    assert caught.value.reason == "failed"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_place_is_refused(path: Path) -> None:
    """The file, or its folder."""
    opened(path).close()
    path.chmod(0o400)
    assert reason_of(path) == "readonly"
    path.chmod(0o600)
    path.parent.chmod(0o500)
    assert reason_of(path) == "readonly"
    path.parent.chmod(0o700)


# -- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (error(sqlite3.OperationalError, 5 | 1 << 8, "busy"), "locked"),
        (error(sqlite3.OperationalError, 6, "locked"), "locked"),
        (error(sqlite3.OperationalError, 8, "readonly"), "readonly"),
        (error(sqlite3.OperationalError, 3, "perm"), "readonly"),
        (error(sqlite3.OperationalError, 14, "unable to open"), "readonly"),
        (error(sqlite3.OperationalError, 13, "full"), "full"),
        (error(sqlite3.OperationalError, 10 | 4 << 8, "disk I/O error"), "io"),
        (error(sqlite3.DatabaseError, 11, "malformed"), "corrupt"),
        (error(sqlite3.DatabaseError, 26, "not a database"), "foreign"),
        (error(sqlite3.DatabaseError, 1, "something"), "failed"),
        (sqlite3.ProgrammingError("closed"), "failed"),
        (PermissionError(13, "no"), "readonly"),
        (OSError(30, "read-only file system"), "readonly"),
        (OSError(28, "no space"), "full"),
        (OSError(122, "quota"), "full"),
        (OSError(5, "i/o"), "io"),
        (OSError("no number"), "failed"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "corrupt"),
        (MemoryError(), "failed"),
    ],
)
def test_every_error_gets_a_reason_and_an_advice(path: Path, problem: Exception, reason: str) -> None:
    """By SQLite's code or the system's number."""
    told = opened(path).explained(problem)
    assert told.reason == reason
    assert "; " in told.message
    assert type(problem).__name__ in told.message


def test_an_error_of_ours_is_told_as_it_is(path: Path) -> None:
    """It says everything already."""
    ours = JournalError("m", path="p", reason="conflict")
    assert opened(path).explained(ours) is ours


def test_a_damaged_token_is_not_shown(path: Path) -> None:
    """SQLite quotes a text that is no UTF-8."""
    store = opened(path)
    at(store, "k", "running")
    store._db.execute("UPDATE runs SET token = CAST(x'63616e617279ff' AS TEXT)")
    with pytest.raises(sqlite3.OperationalError, match="canary") as caught:
        store.find("k")
    told = store.explained(caught.value)
    assert (told.reason, "canary" in told.message) == ("corrupt", False)


def test_a_damage_that_sqlite_cannot_put_into_words_is_one(path: Path) -> None:
    """A damaged schema is quoted in its message, which then is no UTF-8."""
    connecting, databases = quick()

    def failing(file: str) -> sqlite3.Connection:
        db = connecting(file)
        databases[0].fail = lambda _: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return db

    with pytest.raises(JournalError) as caught:
        Store(path, connect=failing)
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize(
    "statement", ["PRAGMA locking_mode", "PRAGMA journal_mode", "CREATE TABLE jobs", "COMMIT"]
)
def test_an_error_on_opening_leaves_nothing_open(path: Path, statement: str) -> None:
    """The next attempt finds the file free."""
    connecting, databases = quick()

    def failing(file: str) -> sqlite3.Connection:
        db = connecting(file)
        full = error(sqlite3.OperationalError, 13, "full")
        databases[0].fail = lambda sql: full if sql.startswith(statement) else None
        return db

    with pytest.raises(JournalError) as caught:
        Store(path, connect=failing)
    assert caught.value.reason == "full"
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        databases[0].execute("SELECT 1")
    opened(path).close()


def test_a_file_that_vanishes_is_not_made_anew(path: Path) -> None:
    """SQLite must not create what was there a moment ago."""
    opened(path).close()

    def vanishing(file: str) -> sqlite3.Connection:
        Path(file).unlink()
        return connect(file)

    with pytest.raises(JournalError) as caught:
        Store(path, connect=vanishing)
    assert caught.value.reason == "readonly"
    assert not path.exists()


def test_what_fails_is_rolled_back_whole(path: Path) -> None:
    """Also when the rollback itself fails, because SQLite has done it already."""
    connecting, databases = quick()
    store = Store(path, connect=connecting)
    for rollback in (None, error(sqlite3.OperationalError, 1, "no transaction is active")):
        databases[0].fail = lambda sql, rollback=rollback: rollback if sql == "ROLLBACK" else None  # type: ignore[misc]
        with suppress(KeyError), store.transaction():
            intend(store, "k")
            raise KeyError
        databases[0].fail = lambda _: None
        assert databases[0].in_transaction is (rollback is not None)
    databases[0].execute("ROLLBACK")
    assert store.find("k") is None


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """What does not fit is refused as a whole; what was committed is there, now and on the next opening."""
    store = opened(path, "PRAGMA max_page_count = 40")
    kept, reason = 0, ""
    while not reason:
        try:
            with store.transaction():
                at(store, f"key-{kept}", "ended")
            kept += 1
        except sqlite3.OperationalError as problem:
            reason = store.explained(problem).reason
    assert reason == "full"
    assert kept > 10
    assert store.counts().jobs["ended"] == kept
    store.close()
    assert opened(path).counts().total == kept


def test_a_close_that_fails_loses_nothing(path: Path) -> None:
    """The -wal file has what could not be moved."""
    connecting, databases = quick()
    store = Store(path, connect=connecting)
    with store.transaction():
        intend(store, "k")
    databases[0].fail = lambda sql: (
        error(sqlite3.OperationalError, 10, "i/o") if "checkpoint" in sql else None
    )
    store.close()
    found = opened(path).find("k")
    assert found is not None


def test_a_file_size_limit_loses_nothing(path: Path) -> None:
    """A real failure of the system's write: everything that was committed before it is there."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    number, reason, total = run.stdout.split()
    assert reason in ("io", "full")
    assert int(number) == int(total) == opened(path).counts().total > 0


LIMITED = """
import resource, sys
from tests.journals import intend
from wiro_async._journal.store import Store
store = Store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
for number in range(1000):
    try:
        with store.transaction():
            intend(store, str(number))
    except Exception as error:
        print(number, store.explained(error).reason, store.counts().total)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.close()
"""


# -- kill -9 ---------------------------------------------------------------------------------------------

KILLED = """
import sys
from tests.journals import intend
from wiro_async._journal.store import Store
store = Store(sys.argv[1])
for number in range(100_000):
    with store.transaction():
        intend(store, str(number))
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
def test_kill_9_loses_nothing_that_was_acknowledged(path: Path, acknowledged: int) -> None:
    """And at most one row is there that nobody was told of."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(acknowledged):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    told = acknowledged + rest.count("\n")
    assert told <= opened(path).counts().total <= told + 1


# -- loss of power ---------------------------------------------------------------------------------------


KEYS = ("one", "two", "three")


class Service:
    """What is outside of the journal: the tasks that were paid for, by their markers."""

    def __init__(self) -> None:
        self.tasks: dict[str, str] = {}

    def run(self, marker: str) -> str:
        return self.tasks.setdefault(marker, f"task of {marker}")


def all_steps(store: Store, service: Service) -> Iterator[Callable[[], object]]:
    """Bring every job to its end, as a batch does that begins or resumes; each step is a transaction."""
    for key in KEYS:
        while (row := store.find(key)) is None or row.state != "done":
            if row is None or row.state == "refused":
                marker = f"{key} {row.attempt if row else 0}"
                yield partial(intend, store, key, marker)
                yield partial(apply, store, Accepted(key, service.run(marker), Secret("token")))
            elif row.state == "intended" and row.fingerprint.marker in service.tasks:
                yield partial(apply, store, Accepted(key, service.tasks[row.fingerprint.marker]))
            elif row.state == "intended":
                yield partial(apply, store, Released(key, "SubmissionUnknown", "absent"))
            elif row.state == "running":
                yield partial(apply, store, succeeded(key))
            else:
                yield partial(apply, store, Saved(key, 0, key, 10, "ab"))
                yield partial(apply, store, Done(key))


@attrs.frozen
class Cut:
    """A moment around a commit: what the files were before and after it, and what they mean."""

    old: dict[str, bytes]
    new: dict[str, bytes]
    before: list[Any]
    after: list[Any]
    service: Service


def history(folder: Path) -> list[Cut]:
    """Run a batch, and keep what the disk had around each of its commits."""
    path, service, cuts = folder / "a.db", Service(), []

    def files() -> dict[str, bytes]:
        return {end: Path(f"{path}{end}").read_bytes() for end in ("", "-wal")}

    # So small that the batch sees several checkpoints.
    store = opened(path, "PRAGMA wal_autocheckpoint = 20")
    for work in all_steps(store, service):
        old, before = files(), dump(store)
        with store.transaction():
            work()
        cuts.append(Cut(old, files(), before, dump(store), copy.deepcopy(service)))
    store.close()
    return cuts


WAL_HEADER = 32
"""Bytes that SQLite flushes before the frames that follow: else an old frame could pass for a new one."""


def torn(old: bytes, new: bytes, chance: random.Random, first: int = 0) -> Iterator[bytes]:
    """Yield what a disk may hold of a write that was cut off: a part, sectors in any order, a damaged end.

    The *first* bytes are flushed before the others are written.
    """
    changed = [
        place for place in range(0, len(new), 512) if old[place : place + 512] != new[place : place + 512]
    ]
    frames = range(32, len(new) + 1, 24 + 4096)
    for cut in {changed[0], changed[-1], *chance.sample(changed, 1), *chance.sample(frames, 1)}:
        for place in (cut, cut + chance.randrange(1, 512)):
            yield new[:place] + old[place:]
    for share in (0.3, 0.9):
        mixed = bytearray(new[:first] + old[first:].ljust(len(new) - first, b"\0"))
        for place in changed:
            if chance.random() < share:
                mixed[place : place + 512] = new[place : place + 512]
        yield bytes(mixed)
    damaged = bytearray(new)
    damaged[min(changed[-1] + chance.randrange(512), len(new) - 1)] ^= 1 << chance.randrange(8)
    yield bytes(damaged)


def after_power_loss(path: Path, files: dict[str, bytes], service: Service) -> tuple[list[Any], Service]:
    """Return what a journal says that is opened on these files; then resume, to the one right end."""
    for end, content in files.items():
        Path(f"{path}{end}").write_bytes(content)
    store, service = opened(path), copy.deepcopy(service)
    found = dump(store)
    for work in all_steps(store, service):
        with store.transaction():
            work()
    # One paid task for each job, all saved, all done.
    assert len(service.tasks) == len(KEYS)
    assert sorted(service.tasks.values()) == sorted(row.task_id for _, row in store.page("done", 0))
    assert {row.files[0].path for _, row in store.page("done", 0)} == set(KEYS)
    store.close()
    return found, service


@pytest.mark.parametrize("seed", range(3))
def test_no_loss_of_power_loses_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """From whatever the disk may hold, the journal opens with every commit that was told, and resumes.

    Cut off within the writes of a commit, it has all commits before that, and that one whole or not at all;
    cut off within a checkpoint, it has all. From each of these states the batch comes to the same end.
    """
    chance = random.Random(seed)
    checkpoints = 0
    for cut in history(tmp_path):
        path = Path(tempfile.mkdtemp(dir=tmp_path)) / "a.db"
        assert after_power_loss(path, cut.new, cut.service)[0] == cut.after
        for wal in torn(cut.old["-wal"], cut.new["-wal"], chance, WAL_HEADER):
            found, _ = after_power_loss(path, {"": cut.old[""], "-wal": wal}, cut.service)
            assert found in (cut.before, cut.after)
        if cut.old[""] != cut.new[""]:
            checkpoints += 1
            for db in torn(cut.old[""], cut.new[""], chance):
                found, _ = after_power_loss(path, {"": db, "-wal": cut.new["-wal"]}, cut.service)
                assert found == cut.after
    assert checkpoints >= 2


@pytest.mark.parametrize("seed", range(3))
def test_no_loss_of_power_on_opening_harms(tmp_path: Path, seed: int) -> None:
    """A journal that was being made opens as a new one, or as the empty one that it was to become."""
    chance = random.Random(seed)
    path = tmp_path / "a.db"
    connecting, databases = quick()
    kept: list[tuple[bytes, bytes]] = []

    def keep(sql: str) -> None:
        if "wal_checkpoint(FULL)" in sql:
            kept.append((path.read_bytes(), Path(f"{path}-wal").read_bytes()))

    def watched(file: str) -> sqlite3.Connection:
        db = connecting(file)
        databases[0].fail = keep
        return db

    Store(path, connect=watched).close()
    empty, new = kept[0]
    for number, wal in enumerate(torn(b"", new, chance, WAL_HEADER)):
        after_power_loss(tmp_path / f"{number}.db", {"": empty, "-wal": wal}, Service())


# -- any order of things ---------------------------------------------------------------------------------

STEPS: dict[str, Callable[[str, int], Step]] = {
    "intended": lambda key, n: intended(key, f"{n}"),
    "accepted": lambda key, n: Accepted(key, f"task {n}"),
    "released": lambda key, n: Released(key, "E", f"{n}"),
    "doubted": lambda key, n: Doubted(key, f"{n}"),
    "succeeded": lambda key, n: succeeded(key),
    "failed": lambda key, n: failed(key),
    "cancelled": lambda key, n: cancelled(key),
    "saved": lambda key, n: Saved(key, n, f"{n}", n, "ab"),
    "done": lambda key, n: Done(key),
}

ORDER = st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from("abc"), st.integers(0, 3))


class Crashes(RuleBasedStateMachine):
    """A journal, and a plain dictionary of what was committed, under crashes at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.number = 0
        self.committed: list[Any] = []

    @initialize()
    def begin(self) -> None:
        self.store = opened(self.path)
        self.committed = dump(self.store)

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number}.db"

    @rule(orders=st.lists(ORDER, max_size=6))
    def commit(self, orders: list[tuple[str, str, int]]) -> None:
        """Do several things in one transaction; what is refused changes nothing."""
        with self.store.transaction():
            for name, key, n in orders:
                self.attempt(name, key, n)
        self.committed = dump(self.store)

    def attempt(self, name: str, key: str, n: int) -> None:
        before, paid = dump(self.store), self.store.find(key)
        reason = ""
        try:
            apply(self.store, STEPS[name](key, n))
        except JournalError as refusal:
            reason = refusal.reason
        if reason:
            assert (reason, dump(self.store)) == ("conflict", before)
        elif name == "intended":
            # Never a new Run while the last one may be paid for.
            assert paid is None or paid.state in ("refused", "failed", "cancelled")

    @rule(orders=st.lists(ORDER, max_size=4))
    def fail(self, orders: list[tuple[str, str, int]]) -> None:
        """A transaction that does not come to its commit leaves nothing behind."""
        with suppress(KeyError), self.store.transaction():
            for name, key, n in orders:
                self.attempt(name, key, n)
            raise KeyError

    @rule()
    def reopen(self) -> None:
        """Close properly."""
        self.store.close()
        self.store = opened(self.path)

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files as they are at this moment."""
        before = self.path
        self.number += 1
        for end in ("", "-wal"):
            shutil.copyfile(f"{before}{end}", f"{self.path}{end}")
        self.store.close()
        self.store = opened(self.path)

    @invariant()
    def nothing_is_lost(self) -> None:
        """All that was committed is there, and nothing else."""
        assert dump(self.store) == self.committed
        assert self.store.counts().total == len(self.committed[0])

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


TestCrashes = Crashes.TestCase
TestCrashes.settings = examples(25, stateful_step_count=20)
