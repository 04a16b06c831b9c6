"""The breaker and the canaries: when a batch stops by itself, and when it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.depth import examples
from wiro_async import InvalidInput, TaskFailed
from wiro_async._batch.stopping import Breaker, Canary, reason_key, reason_of

# -- reasons ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("task 2221 failed after 3.5 s", "Task 997 failed after  12.25 s"),
        ("cannot read https://cdn1.wiro.ai/a/b.png", "cannot read https://example.org/x?y=z"),
        ("no face in '/data/in/7.png'", 'no face in "other.png"'),
        ("no face in /data/in/7.png", "no face in inputs/b.jpeg"),
        ("0f8fad5b-d9cb-469f-a165-70867728950e is gone", "7c9e6679-7425-40de-944b-e07fc1f90ae7 is gone"),
        ("socket eDcCm5yyUfIvMFspTwww49OUfgXkQt", "socket XfAb12yyUfIvMFspTwww49OUfgXkQt"),
        ("at 12:30:01", "at 7:05"),
        ("line\nbreaks\tand  blanks", "line breaks and blanks"),
        ("offset -5", "offset +17"),
    ],
)  # fmt: skip
def test_what_differs_from_job_to_job_is_masked(one: str, other: str) -> None:
    """Numbers, ids, addresses, paths and quoted texts make no other reason."""
    assert reason_key(one) == reason_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no face found", "image too small"),
        ("CUDA out of memory", "CUDA error: device lost"),
        ("the prompt was refused", "the image was refused"),
        ("", "x"),
    ],
)
def test_other_words_are_another_reason(one: str, other: str) -> None:
    """Masking leaves the words."""
    assert reason_key(one) != reason_key(other)


@given(st.text(max_size=3000))
@examples(200)
def test_a_key_is_short_and_stable(reason: str) -> None:
    """Whatever a model prints."""
    key = reason_key(reason)
    assert len(key) <= 200
    assert "\n" not in key
    assert reason_key(reason) == key


@pytest.mark.parametrize("text", ["/" * 10_000, "a.-" * 5_000, "'" * 9_999, "a1" * 5_000, ".a" * 5_000 + "/"])
def test_a_long_reason_is_cut(text: str) -> None:
    """So that no text of a model's takes long."""
    assert len(reason_key(text)) <= 200


def test_the_models_own_words_are_the_reason() -> None:
    """Where there are any; else it is the error's message."""
    assert reason_of(TaskFailed("task 7 failed: no face", reason="no face")) == "no face"
    assert reason_of(TaskFailed("task 7 failed")) == "task 7 failed"
    assert reason_of(InvalidInput("the image is empty")) == "the image is empty"


# -- the breaker -----------------------------------------------------------------------------------------


def test_identical_failures_in_a_row_open_it() -> None:
    """The twentieth does, and it stays open."""
    breaker = Breaker()
    assert [breaker.failed(f"no face in image {number}") for number in range(20)] == [False] * 19 + [True]
    assert (breaker.is_open, breaker.count, breaker.reason) == (True, 20, "no face in image 19")
    breaker.succeeded()
    assert breaker.failed("something else")
    assert (breaker.is_open, breaker.count, breaker.reason) == (True, 20, "no face in image 19")


def test_a_success_closes_the_row() -> None:
    """What fails now and then is not broken."""
    breaker = Breaker(limit=2)
    for _ in range(10):
        assert not breaker.failed("no face")
        breaker.succeeded()
        assert (breaker.count, breaker.reason) == (0, "")


def test_another_failure_begins_another_row() -> None:
    """Only identical ones tell that the next will fail alike."""
    breaker = Breaker(limit=2)
    for number in range(10):
        assert not breaker.failed("abcdefghij"[number])
    assert breaker.failed("j")


def test_it_can_be_switched_off() -> None:
    """Then it only counts."""
    breaker = Breaker(limit=None)
    assert not any(breaker.failed("no face") for _ in range(1000))
    assert breaker.count == 1000


@given(limit=st.integers(1, 5), events=st.lists(st.sampled_from(["a", "b", None]), max_size=60))
@examples(300)
def test_it_opens_exactly_when_so_many_equal_ones_follow_each_other(
    limit: int, events: list[str | None]
) -> None:
    """And at no other time."""
    breaker = Breaker(limit)
    expected = False
    for index, event in enumerate(events):
        breaker.succeeded() if event is None else breaker.failed(event)
        row = events[max(index + 1 - limit, 0) : index + 1]
        expected = expected or (event is not None and row == [event] * limit)
        assert breaker.is_open == expected


class Guarding(RuleBasedStateMachine):
    """A breaker, against a list of all that happened."""

    @initialize(limit=st.none() | st.integers(1, 4))
    def begin(self, limit: int | None) -> None:
        """Set it up."""
        self.breaker = Breaker(limit)
        self.row: list[str] = []
        self.opened = False

    @rule(reason=st.sampled_from(["no face", "too dark"]), number=st.integers(0, 99))
    def fail(self, reason: str, number: int) -> None:
        """Let a job fail."""
        if not self.opened:
            self.row = [*self.row, reason] if self.row[-1:] == [reason] else [reason]
            self.opened = self.breaker.limit is not None and len(self.row) >= self.breaker.limit
        assert self.breaker.failed(f"{reason} in image {number}") == self.opened

    @rule()
    def succeed(self) -> None:
        """Let a job succeed."""
        self.row = self.row if self.opened else []
        self.breaker.succeeded()

    @invariant()
    def it_knows_the_row(self) -> None:
        """Its length, its reason, and whether it was long enough."""
        assert (self.breaker.count, self.breaker.is_open) == (len(self.row), self.opened)
        assert self.breaker.reason.startswith(self.row[-1] if self.row else "")
        assert bool(self.breaker.reason) == bool(self.row)


TestGuarding = Guarding.TestCase
TestGuarding.settings = examples(50, stateful_step_count=30)

# -- the canaries ----------------------------------------------------------------------------------------


def test_the_first_jobs_go_alone() -> None:
    """The next ones wait until all of these have succeeded."""
    canary = Canary(2)
    for _ in range(2):
        assert canary.may_start()
        canary.started()
    assert not canary.may_start()
    canary.succeeded()
    assert not canary.may_start()
    canary.succeeded()
    assert canary.state == "passed"
    assert canary.may_start()


def test_a_failure_among_them_ends_the_batch() -> None:
    """Its reason is kept; nothing starts any more, whatever the others do."""
    canary = Canary(2)
    canary.started()
    canary.started()
    canary.failed("no face")
    canary.failed("too late")
    canary.succeeded()
    canary.succeeded()
    assert (canary.state, canary.reason) == ("failed", "no face")
    assert not canary.may_start()


def test_a_failure_after_the_trial_is_none_of_theirs() -> None:
    """That is the breaker's."""
    canary = Canary(1)
    canary.started()
    canary.succeeded()
    canary.started()
    canary.failed("no face")
    assert (canary.state, canary.reason) == ("passed", "")


def test_without_canaries_all_may_start() -> None:
    """The trial is passed from the beginning."""
    assert Canary(0).may_start()


def test_a_job_without_an_ending_is_replaced() -> None:
    """Another one goes in its place."""
    canary = Canary(1)
    canary.started()
    canary.withdrawn()
    canary.withdrawn()
    assert canary.may_start()
    canary.started()
    assert not canary.may_start()


class Trying(RuleBasedStateMachine):
    """Canaries, and jobs that end as they like."""

    @initialize(size=st.integers(0, 4))
    def begin(self, size: int) -> None:
        """Set them up."""
        self.canary = Canary(size)
        self.running = self.successes = 0
        self.failed = False

    @rule()
    def start(self) -> None:
        """Start a job where that is allowed."""
        if self.canary.may_start():
            self.canary.started()
            self.running += 1

    @precondition(lambda self: self.running)
    @rule(ending=st.sampled_from(["succeeded", "failed", "withdrawn"]))
    def end(self, ending: str) -> None:
        """End one."""
        self.running -= 1
        if ending == "succeeded":
            self.successes += 1
            self.canary.succeeded()
        elif ending == "failed":
            self.failed = self.failed or self.successes < self.canary.size
            self.canary.failed("no face")
        else:
            self.canary.withdrawn()

    @invariant()
    def no_more_run_than_the_trial_allows(self) -> None:
        """Before it is passed; after a failure nothing starts; and somebody always can, or is running."""
        passed = not self.failed and self.successes >= self.canary.size
        assert self.canary.state == ("failed" if self.failed else "passed" if passed else "trying")
        if not passed and not self.failed:
            assert self.running + self.successes <= self.canary.size
            assert self.running or self.canary.may_start()
        assert not (self.failed and self.canary.may_start())


TestTrying = Trying.TestCase
TestTrying.settings = examples(50, stateful_step_count=30)
