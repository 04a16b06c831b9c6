"""The fold: late, doubled and disordered polls become one list of transitions that only grows."""

from __future__ import annotations

import gc
import itertools
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.depth import examples
from tests.strategies import TIMESTAMPS, sample
from wiro_async import Status, Task, Transition
from wiro_async._protocol.records import parse_task
from wiro_async._tasks.history import History, fold, hear

T0 = 1734513800

NEWER = [
    Status.QUEUE, Status.ACCEPT, Status.PREPROCESS_START, Status.PREPROCESS_END, Status.ASSIGN, Status.START,
    Status.OUTPUT, Status.OUTPUT_FULL, Status.END, Status.POSTPROCESS_START, Status.POSTPROCESS_END,
]  # fmt: skip
OLDER = [
    Status.QUEUE, Status.ACCEPT, Status.ASSIGN, Status.PREPROCESS_START, Status.PREPROCESS_END, Status.START,
    Status.OUTPUT, Status.OUTPUT_FULL, Status.END, Status.POSTPROCESS_START, Status.POSTPROCESS_END,
]  # fmt: skip
RECORDED = {status: key for key, status in TIMESTAMPS.items()}


def at(seconds: float) -> datetime:
    """Return the time of day *seconds* after the beginning."""
    return datetime.fromtimestamp(T0 + seconds, UTC)


def poll(status: str, **times: float) -> Task:
    """Return a snapshot in *status*, with timestamps in seconds after the beginning."""
    return parse_task({"id": "2221", "status": status, **{key: T0 + value for key, value in times.items()}})


def watch(*polls: Task, now: float = 100) -> History:
    """Fold polls that were asked for, and came, one after the other."""
    history = History()
    for asked, task in enumerate(polls):
        history = fold(history, task, asked=asked, now=T0 + now + asked)
    return history


def statuses(history: History) -> list[str]:
    """Return the statuses of a history, in its order."""
    return [transition.status for transition in history.transitions]


# -- one poll --------------------------------------------------------------------------------------------


def test_nothing_is_known_before_the_first_poll() -> None:
    """An empty history has no task, and has not ended."""
    assert History() == History(None, (), float("-inf"))
    assert not History().is_terminal


def test_what_is_kept_of_a_task_is_nothing_to_the_garbage_collector() -> None:
    """With thousands of tasks that wait, it stops the event loop for every object that it must visit."""
    history = watch(poll(Status.START, createtime=0, accepttime=1, starttime=2), poll("task_invented"))
    history = hear(history, Status.OUTPUT, at=9, now=T0)
    gc.collect()
    gc.collect()
    assert [step.status for step in history.transitions] == [
        Status.QUEUE, Status.ACCEPT, Status.START, "task_invented", Status.OUTPUT,
    ]  # fmt: skip
    assert isinstance(history.transitions[0].status, Status)
    assert history.task is not None
    assert not gc.is_tracked(history.steps)
    assert not any(gc.is_tracked(step) for step in history.steps)
    assert not gc.is_tracked(history.task.timestamps)


def test_one_poll_after_the_end_tells_the_whole_story() -> None:
    """The documents' Detail alone gives every status that has a timestamp, in order, at its time."""
    history = watch(parse_task(sample("detail")["tasklist"][0]))
    assert [(step.status, step.at.timestamp() - T0, step.observed) for step in history.transitions] == [
        ("task_queue", 7, False),
        ("task_accept", 7, False),
        ("task_preprocess_start", 7, False),
        ("task_preprocess_end", 7, False),
        ("task_assign", 7, False),
        ("task_start", 9, False),
        ("task_end", 13, False),
        ("task_postprocess_start", 13, False),
        ("task_postprocess_end", 14, True),
    ]
    assert history.is_terminal


@pytest.mark.parametrize("name", ["kill", "cancel"])
def test_a_cancelled_task_ends_in_task_cancel(name: str) -> None:
    """Although the documents' samples have a time for ``task_postprocess_end`` and none for the cancel."""
    history = watch(parse_task(sample(name)["tasklist"][0]), now=100)
    assert statuses(history)[-1] == Status.CANCEL
    assert Status.POSTPROCESS_END not in statuses(history)
    assert history.transitions[-1] == Transition(Status.CANCEL, at(100), observed=True)
    assert not any(step.observed for step in history.transitions[:-1])


@pytest.mark.parametrize("order", [NEWER, OLDER])
def test_both_orders_of_the_assignment(order: list[Status]) -> None:
    """The timestamps decide whether the task was assigned before or after the preprocessing."""
    recorded = [status for status in order if status in RECORDED]
    task = poll(order[-1], **{RECORDED[status]: float(place) for place, status in enumerate(recorded)})
    assert statuses(watch(task)) == recorded


def test_an_assignment_within_the_second_is_not_put_off() -> None:
    """A recorded assignment comes before the preprocessing that is seen, even with equal times."""
    history = watch(poll(Status.PREPROCESS_START, createtime=7, assigntime=7, preprocessstarttime=7))
    assert statuses(history) == [Status.QUEUE, Status.ASSIGN, Status.PREPROCESS_START]


@pytest.mark.parametrize(
    ("present", "times", "expected"),
    [
        (Status.QUEUE, {"createtime": 0, "starttime": 5, "endtime": 9}, [Status.QUEUE]),
        (Status.ASSIGN, {"assigntime": 3, "preprocessstarttime": 4}, [Status.ASSIGN]),
        (
            Status.ASSIGN,
            {"assigntime": 3, "preprocessstarttime": 2},
            [Status.PREPROCESS_START, Status.ASSIGN],
        ),
        (Status.PREPROCESS_START, {"assigntime": 3, "preprocessstarttime": 2}, [Status.PREPROCESS_START]),
        (
            Status.PREPROCESS_START,
            {"preprocessstarttime": 2, "preprocessendtime": 2},
            [Status.PREPROCESS_START],
        ),
        (Status.PREPROCESS_START, {"assigntime": 3}, [Status.PREPROCESS_START]),
        (Status.START, {"postprocessendtime": 9, "canceltime": 9}, [Status.START]),
        (
            Status.START,
            {"preprocessstarttime": 5, "preprocessendtime": 4},
            [Status.PREPROCESS_START, Status.PREPROCESS_END, Status.START],
        ),
        (Status.POSTPROCESS_END, {"canceltime": 1}, [Status.POSTPROCESS_END]),
        (
            "task_dreaming",
            {"createtime": 0, "starttime": 5, "canceltime": 9},
            [Status.QUEUE, Status.START, "task_dreaming"],
        ),
    ],
)
def test_timestamps_of_what_has_not_been_reached_are_ignored(
    present: str, times: dict[str, float], expected: list[str]
) -> None:
    """Leftovers of an earlier try, and clocks that disagree, do not put a status before its time."""
    assert statuses(watch(poll(present, **times))) == expected


def test_without_timestamps_the_clock_of_the_watcher_serves() -> None:
    """Cut to whole seconds, as the service's are, and never before the last transition."""
    history = fold(History(), poll(Status.QUEUE), asked=0, now=T0 + 100.9)
    assert history.transitions == (Transition(Status.QUEUE, at(100)),)
    history = fold(history, poll(Status.START, starttime=200), asked=1, now=T0 + 101)
    history = fold(history, poll(Status.OUTPUT), asked=2, now=T0 + 102)
    assert [step.at for step in history.transitions] == [at(100), at(200), at(200)]


@pytest.mark.parametrize("status", ["", None, {}, []])
def test_a_poll_without_a_status_brings_no_transition(status: object) -> None:
    """It is kept as the newest snapshot, and nothing follows from it."""
    task = parse_task({"id": "2221", "status": status})
    history = watch(poll(Status.START), task)
    assert statuses(history) == [Status.START]
    assert history.task == task


# -- several polls ---------------------------------------------------------------------------------------


def test_a_poll_that_brings_nothing_changes_nothing() -> None:
    """The very same poll again gives back the very same object."""
    history = watch(poll(Status.START))
    assert fold(history, poll(Status.START), asked=0, now=T0) is history
    assert fold(history, poll(Status.QUEUE), asked=-1, now=T0) is history


def test_of_two_equal_snapshots_the_older_is_kept() -> None:
    """A wait is mostly polls that find nothing new: they make nothing that lives longer than they do."""
    history = watch(poll(Status.START))
    later = fold(history, poll(Status.START), asked=5, now=T0)
    assert later.task is history.task
    assert later.steps is history.steps
    assert later.asked == 5


def test_of_two_polls_the_one_asked_for_later_is_the_newer() -> None:
    """Whichever arrives first, and even when the later one said what was known already."""
    first, second, third = poll(Status.START), poll("task_dreaming"), poll(Status.START)
    history = fold(History(), first, asked=1, now=T0)
    history = fold(history, third, asked=3, now=T0)
    history = fold(history, second, asked=2, now=T0)
    assert history.task == third
    assert history.asked == 3
    assert statuses(history) == [Status.START], "what an outdated poll saw has no place in the order"


def test_polls_of_equal_age_all_count() -> None:
    """Only a poll that was asked for before the present one is outdated."""
    history = fold(History(), poll(Status.START), asked=1, now=T0)
    history = fold(history, poll(Status.ASSIGN), asked=1, now=T0)
    assert history.task == poll(Status.ASSIGN)


def test_an_outdated_poll_adds_nothing() -> None:
    """What it saw came before what is known, and the list only grows at its end."""
    known = fold(History(), poll(Status.QUEUE), asked=2, now=T0)
    late = poll(Status.START, createtime=0, assigntime=2, starttime=3)
    assert fold(known, late, asked=1, now=T0) is known


def test_an_outdated_end_is_an_end() -> None:
    """The end is final, however late its poll arrives."""
    history = fold(History(), poll(Status.START), asked=2, now=T0)
    history = fold(history, poll(Status.CANCEL), asked=1, now=T0)
    assert history.is_terminal
    assert history.asked == 2


def test_the_preprocessing_does_not_begin_after_its_end() -> None:
    """A beginning that was missed, and had no place any more, is left out."""
    history = watch(
        poll(Status.PREPROCESS_END),
        poll(Status.START, preprocessstarttime=1, preprocessendtime=2, assigntime=3, starttime=4),
    )
    assert statuses(history) == [Status.PREPROCESS_END, Status.ASSIGN, Status.START]


def test_an_error_waits_to_be_queued_again() -> None:
    """``task_error`` is no end, is listed once, and what begins anew afterwards is not listed twice."""
    history = watch(
        poll(Status.QUEUE), poll(Status.START), poll(Status.ERROR), poll(Status.QUEUE), poll(Status.ERROR),
        poll(Status.START), poll(Status.END), poll(Status.POSTPROCESS_END),
    )  # fmt: skip
    assert statuses(history) == [
        Status.QUEUE, Status.START, Status.ERROR, Status.END, Status.POSTPROCESS_END,
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["task_dreaming", "task_stream_ready", "task_cost", "TASK_CANCEL", "end"])
def test_an_unknown_status_is_a_step_and_no_end(status: str) -> None:
    """Once, where it was seen, and the watch goes on."""
    history = watch(poll(Status.START), poll(status), poll(status), poll(Status.END))
    assert statuses(history) == [Status.START, status, Status.END]
    assert not history.is_terminal


@pytest.mark.parametrize("end", [Status.POSTPROCESS_END, Status.CANCEL])
@pytest.mark.parametrize("later", [*Status, "task_dreaming", ""])
def test_the_end_is_sticky(end: Status, later: str) -> None:
    """Nothing that comes after the end, from whenever it is, adds a transition or another end."""
    history = watch(poll(Status.START, starttime=3), poll(end))
    for asked in (-1, 0, 1, 7):
        after = fold(
            history, poll(later, createtime=1, postprocessendtime=9, canceltime=9), asked=asked, now=T0
        )
        assert after.transitions == history.transitions
        assert after.task is not None
        assert after.task.status == end


def test_details_of_the_same_end_still_count() -> None:
    """The final cost may come after the end; of two such polls the later is kept."""
    history = watch(poll(Status.POSTPROCESS_END))
    assert history.task is not None
    priced = attrs.evolve(history.task, pexit="0")
    later = fold(history, priced, asked=5, now=T0)
    assert later.task == priced
    assert later.asked == 5
    assert fold(later, history.task, asked=4, now=T0) is later
    assert fold(later, history.task, asked=5, now=T0).task == history.task, "of two of equal age the latter"
    assert fold(later, priced, asked=5, now=T0) is later
    again = fold(later, attrs.evolve(priced), asked=6, now=T0)
    assert again.task is priced
    assert again.asked == 6


# -- any life, any delivery ------------------------------------------------------------------------------

STAGE = {
    Status.QUEUE: 0, Status.ACCEPT: 1, Status.PREPROCESS_START: 2, Status.PREPROCESS_END: 2, Status.ASSIGN: 2,
    Status.START: 3, Status.OUTPUT: 4, Status.OUTPUT_FULL: 5, Status.END: 6, Status.POSTPROCESS_START: 7,
    Status.POSTPROCESS_END: 8, Status.CANCEL: 8,
}  # fmt: skip
ENDS = {Status.POSTPROCESS_END, Status.CANCEL}


# -- announcements ---------------------------------------------------------------------------------------


def test_an_announcement_is_a_transition_of_our_own_clock() -> None:
    """A socket tells a status and no time, so it gets ours, in whole seconds."""
    history = fold(History(), poll(Status.QUEUE, createtime=0), asked=0, now=T0)
    history = hear(history, Status.ACCEPT, at=1, now=T0 + 5.7)
    assert history.transitions[-1] == Transition(Status.ACCEPT, at(5), observed=True)
    assert history.status == Status.ACCEPT


@pytest.mark.parametrize("step", [-3600.0, -5.0, 3600.0])
def test_transitions_are_in_order_of_time_whatever_the_clock_does(step: float) -> None:
    """Our own is set back or forth between two steps; the service's may be behind it from the beginning."""
    history = fold(History(), poll(Status.QUEUE, createtime=0), asked=0, now=T0)
    history = hear(history, Status.ACCEPT, at=1, now=T0 + 5)
    history = hear(history, Status.PREPROCESS_START, at=2, now=T0 + 6 + step)
    history = fold(history, poll(Status.START, createtime=0, accepttime=1, starttime=8), asked=3, now=T0)
    history = fold(history, poll(Status.CANCEL, createtime=0, starttime=8, canceltime=7), asked=4, now=T0)
    times = [transition.at for transition in history.transitions]
    assert times == sorted(times)
    assert statuses(history)[-1] == Status.CANCEL


def test_an_announcement_does_not_end_the_list() -> None:
    """How a task ended is in its snapshot, which is read for that."""
    history = fold(History(), poll(Status.START, createtime=0), asked=0, now=T0)
    for status in (Status.POSTPROCESS_END, Status.CANCEL):
        assert hear(history, status, at=1, now=T0) is history


@pytest.mark.parametrize(("earlier", "later"), list(itertools.pairwise((*NEWER[:2], *NEWER[4:10]))))
def test_an_earlier_stage_that_is_announced_late_is_left_out(earlier: Status, later: Status) -> None:
    """The list only grows at its end; what follows in time is taken."""
    history = hear(History(), later, at=1, now=T0)
    assert hear(history, earlier, at=2, now=T0 + 1) is history
    history = hear(hear(History(), earlier, at=1, now=T0), later, at=2, now=T0 + 1)
    assert statuses(history) == [earlier, later]


@pytest.mark.parametrize("later", [Status.POSTPROCESS_END, Status.CANCEL])
def test_a_postprocessing_that_is_announced_after_the_end_is_left_out(later: Status) -> None:
    """Of both ends."""
    history = fold(History(), poll(later), asked=0, now=T0)
    assert hear(history, Status.POSTPROCESS_START, at=1, now=T0 + 1) is history


def test_an_announcement_twice_is_one() -> None:
    """Sockets that were opened again may tell a thing twice."""
    history = hear(History(), Status.START, at=1, now=T0)
    assert hear(history, Status.START, at=2, now=T0 + 1) is history
    assert hear(history, Status.ACCEPT, at=3, now=T0 + 1) is history, "an earlier stage comes too late"


def test_an_older_poll_does_not_take_an_announcement_back() -> None:
    """Polls and announcements come by different ways; the newer one tells the status."""
    history = fold(History(), poll(Status.QUEUE, createtime=0), asked=0, now=T0)
    history = hear(history, Status.START, at=2, now=T0 + 2)
    older = fold(history, poll(Status.ACCEPT, createtime=0, accepttime=1), asked=1, now=T0 + 2)
    assert older.status == Status.START
    again = fold(older, poll(Status.QUEUE, createtime=0), asked=3, now=T0 + 3)
    assert again.status == Status.QUEUE, "the service has put it back"


class Watching(RuleBasedStateMachine):
    """A task that lives as tasks do, and polls of it that arrive late, twice and out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.story: list[tuple[str, int]] = []
        self.times: dict[str, int] = {}
        self.undisturbed = True
        self.overheard = False
        self.polls: list[tuple[int, Task, int]] = []
        self.delivered: list[tuple[int, Task]] = []
        self.history = History()

    @initialize(order=st.sampled_from([NEWER, OLDER]), stamped=st.booleans(), unlucky=st.booleans())
    def be_born(self, order: list[Status], stamped: bool, unlucky: bool) -> None:
        self.order = order
        self.stamped = stamped
        self.unlucky = unlucky
        self.place = 0
        self._enter(Status.QUEUE)

    def _enter(self, status: str) -> None:
        self.status = status
        self.story.append((status, self.clock))
        if status in RECORDED:
            self.times[status] = self.clock

    def _living(self) -> bool:
        return self.status not in ENDS

    @rule(seconds=st.integers(0, 3), steps=st.integers(1, 4), polls=st.booleans())
    @precondition(_living)
    def advance(self, seconds: int, steps: int, polls: bool) -> None:
        for _ in range(steps):
            if self._living():
                self.clock += seconds
                self.place += 1
                self._enter(self.order[self.place])
                if polls:
                    self.poll()

    @rule(status=st.sampled_from(["task_dreaming", Status.STREAM_READY, Status.COST]), polls=st.booleans())
    @precondition(_living)
    def do_something_unknown(self, status: str, polls: bool) -> None:
        if status not in dict(self.story):
            self.clock += 1
            self._enter(status)
            if polls:
                self.poll()

    @rule(forget=st.booleans())
    @precondition(lambda self: self.unlucky and self._living())
    def fail_and_queue_again(self, forget: bool) -> None:
        self.undisturbed = False
        self.place = 0
        self._enter(Status.ERROR)
        self.poll()
        if forget:
            self.times.clear()
        self._enter(Status.QUEUE)

    @rule(recorded=st.booleans())
    @precondition(lambda self: self.unlucky and self._living())
    def be_cancelled(self, recorded: bool) -> None:
        self._enter(Status.CANCEL)
        if not recorded:
            del self.times[Status.CANCEL]

    @rule(status=st.sampled_from([*NEWER, Status.CANCEL, Status.ERROR, "task_dreaming", ""]))
    @precondition(lambda self: self.unlucky and not self._living())
    def be_contradicted(self, status: str) -> None:
        self.undisturbed = False
        self.status = status
        self.poll()
        self.status = self.story[-1][0]

    @rule()
    def poll(self) -> None:
        times = {RECORDED[status]: T0 + clock for status, clock in self.times.items()} if self.stamped else {}
        task = parse_task({"id": "2221", "status": self.status, "elapsedseconds": self.clock, **times})
        self.polls.append((len(self.polls), task, len(self.story)))

    @rule()
    @precondition(lambda self: self.polls)
    def deliver_the_newest(self) -> None:
        self._deliver(*self.polls[-1])

    @rule(back=st.integers(1, 6))
    @precondition(lambda self: self.polls)
    def deliver_an_older_one(self, back: int) -> None:
        self._deliver(*self.polls[max(len(self.polls) - 1 - back, 0)])

    @rule()
    def announce(self) -> None:
        self._announce(self.story[-1][0])

    @rule(back=st.integers(1, 6))
    def announce_too_late(self, back: int) -> None:
        self._announce(self.story[max(len(self.story) - 1 - back, 0)][0])

    @rule(status=st.sampled_from(["task_dreaming", Status.ERROR, Status.COST, "connected", ""]))
    def announce_nonsense(self, status: str) -> None:
        before = self.history
        self._announce(status)
        assert self.history is before

    def _announce(self, status: str) -> None:
        before = self.history
        self.history = after = hear(before, status, at=len(self.polls), now=T0 + self.clock)
        self.overheard = True
        assert after.transitions[: len(before.transitions)] == before.transitions, "only grows at its end"
        assert after.task is before.task
        for step in after.transitions[len(before.transitions) :]:
            assert step == Transition(status, step.at, observed=True)
        if status in ENDS or before.is_terminal:
            assert after is before, "only a poll ends the list"

    def _deliver(self, asked: int, task: Task, told: int) -> None:
        before = self.history
        self.history = after = fold(before, task, asked=asked, now=T0 + self.clock)
        self.delivered.append((asked, task))
        assert after.transitions[: len(before.transitions)] == before.transitions, "only grows at its end"
        if before.is_terminal:
            assert after.transitions == before.transitions, "sticky"
        latest = before.transitions[-1].at if before.transitions else None
        for step in after.transitions[len(before.transitions) :]:
            assert step.observed == (step.status == task.status)
            assert step.observed or step.status in task.timestamps
            began = task.time_of(step.status) or step.at
            assert step.at == (began if latest is None else max(began, latest)), "in order of time"
            latest = step.at
        # What was announced stands, and what came before it cannot be put before it any more.
        complete = self.undisturbed and not self.overheard
        if complete and self.stamped and not before.is_terminal and asked >= before.asked:
            seen = set(statuses(after))
            assert {status for status, _ in self.story[:told] if status in task.timestamps} <= seen, (
                "complete"
            )

    @invariant()
    def every_status_stands_once(self) -> None:
        assert len(set(statuses(self.history))) == len(self.history.transitions)

    @invariant()
    def the_order_is_possible(self) -> None:
        found = statuses(self.history)
        stages = [STAGE[Status(status)] for status in found if status in STAGE]
        assert stages == sorted(stages)
        if {Status.PREPROCESS_START, Status.PREPROCESS_END} <= set(found):
            assert found.index(Status.PREPROCESS_START) < found.index(Status.PREPROCESS_END)

    @invariant()
    def the_order_is_the_true_one(self) -> None:
        # Within one second only the service knows the order; and a second try has an order of its own.
        # Announcements leave the assignment where it was heard.
        if self.undisturbed and not self.overheard:
            when = dict(self.story)
            true = [when[step.status] for step in self.history.transitions]
            assert true == sorted(true)

    @invariant()
    def there_is_one_end_and_it_is_last(self) -> None:
        found = statuses(self.history)
        ends = [task.status for _, task in self.delivered if task.status in ENDS]
        assert self.history.is_terminal == bool(ends)
        assert [status for status in found if status in ENDS] == ends[:1], "the first one counts"
        if ends:
            assert found[-1] in ENDS
            assert self.history.task is not None
            assert self.history.task.status == found[-1]

    @invariant()
    def the_status_is_one_that_was_told(self) -> None:
        status = self.history.status
        assert status is None or status in dict(self.story) or self.unlucky
        if self.history.is_terminal:
            assert self.history.task is not None
            assert status == self.history.task.status

    @invariant()
    def the_snapshot_is_the_newest(self) -> None:
        if self.delivered:
            ends = [(asked, task) for asked, task in self.delivered if task.status in ENDS]
            same = [(asked, task) for asked, task in ends if task.status == ends[0][1].status]
            newest = max(same or self.delivered, key=lambda poll: poll[0])
            assert self.history.task == newest[1]


TestWatching = Watching.TestCase
TestWatching.settings = examples(200, stateful_step_count=40)
