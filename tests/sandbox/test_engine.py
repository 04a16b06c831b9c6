"""The engine: tasks' lives and the account that pays for them, on a virtual clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tests.depth import examples
from wiro_async import Status
from wiro_async.sandbox._catalogue import Model
from wiro_async.sandbox._directives import read_directives
from wiro_async.sandbox._engine import Action, Engine, Order, Product, Task
from wiro_async.sandbox._refusal import Refusal
from wiro_async.sandbox._replies import task_json

START = 1_734_513_807.0
MODEL = Model(
    id="598", slug="MiniMax/image-to-video-01-director", title="T", category="image-to-video", inputs=()
)
CLIP = Product("0.mp4", "video/mp4", 202472, "folder/0.mp4")
LIFE = [
    Status.QUEUE,
    Status.ACCEPT,
    Status.PREPROCESS_START,
    Status.PREPROCESS_END,
    Status.ASSIGN,
    Status.START,
    Status.OUTPUT,
    Status.OUTPUT_FULL,
    Status.END,
    Status.POSTPROCESS_START,
    Status.POSTPROCESS_END,
]
SEEDS_LIFE = [*LIFE[:2], Status.ASSIGN, *LIFE[2:4], *LIFE[5:]]


def order(prompt: str = "she walks", **changes: Any) -> Order:
    """A Run whose clip is known from the start."""
    first = Order(
        project_id="699",
        model=MODEL,
        parameters={"prompt": prompt},
        price=Decimal("0.28"),
        directives=read_directives(prompt),
        products=[CLIP],
    )
    return attrs.evolve(first, **changes)


def unprepared(prompt: str = "she walks") -> Order:
    """A Run whose clip has to be made."""
    return order(prompt, products=None)


def statuses(task: Task) -> list[Status]:
    """A task's timeline without repetitions."""
    names = [stage.status for stage in task.stages]
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


def refusal(call: Callable[[], object]) -> Refusal:
    """What a call is refused with."""
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(("setting", "life"), [("docs", LIFE), ("seeds", SEEDS_LIFE)])
def test_a_task_lives_through_all_statuses_in_order(setting: Any, life: list[Status]) -> None:
    """Both documented orders of preprocessing and assignment occur, as the engine was told."""
    task = Engine(order=setting).run(order(), START)
    assert statuses(task) == life
    assert task.status(START) is Status.QUEUE
    assert task.status(task.stages[-1].at) is Status.POSTPROCESS_END


def test_the_nth_task_has_the_same_life_in_every_run() -> None:
    """The seed and the number of the task are all its life depends on."""

    def timeline(seed: int) -> list[object]:
        engine = Engine(seed=seed)
        return [
            (task.token, task.uuid, task.stages) for task in (engine.run(order(), START) for _ in range(3))
        ]

    assert timeline(1) == timeline(1)
    assert timeline(1) != timeline(2)


@given(seed=st.integers(0, 2**32), speed=st.floats(0.1, 1000))
def test_speed_divides_every_duration(seed: int, speed: float) -> None:
    """A faster sandbox has the same life, compressed."""
    normal = Engine(seed=seed).run(order(), 0.0)
    fast = Engine(seed=seed, speed=speed).run(order(), 0.0)
    assert [stage.at * speed for stage in fast.stages] == pytest.approx([stage.at for stage in normal.stages])


def test_durations_follow_the_stated_distributions() -> None:
    """Queueing has the mean, and the run the median, that were asked for."""
    engine = Engine(balance=1e6, queue_mean=6.0)
    tasks = [engine.run(order(), 0.0) for _ in range(2000)]
    queued = sum(task.stages[1].at for task in tasks) / len(tasks)
    runs = sorted(task.stages[-3].at - task.stages[5].at for task in tasks)
    assert tasks[0].stages[-3].status is Status.END
    assert queued == pytest.approx(6.0, rel=0.1)
    assert runs[1000] == pytest.approx(60.0, rel=0.05)


def test_success_is_billed_once_and_at_the_end() -> None:
    """The balance falls by the price when task_postprocess_end is reached, and not again."""
    engine = Engine(balance=10)
    task = engine.run(order(), START)
    end = task.stages[-1].at
    assert engine.ledger(end - 0.001)["charged"] == "0.000000000000"
    for later in (end, end + 1, end + 1e6):
        ledger = engine.ledger(later)
        assert (ledger["charged"], ledger["balance"], ledger["paid"]) == (
            "0.280000000000",
            "9.720000000000",
            1,
        )


@pytest.mark.parametrize(
    ("balance", "limit"), [(0.5, 1), (9.99, 1), (19.99, 1), (20, 2), (50, 5), (250, 25), (250.01, None)]
)
def test_the_balance_sets_the_concurrency_limit(balance: float, limit: int | None) -> None:
    """A tenth of the balance, at least one, unlimited above $250."""
    assert Engine(balance=balance).limit() == limit


def test_a_task_too_many_is_refused_in_the_services_words() -> None:
    """Code 96 names the balance and the limit; the slot is free again when a task has ended."""
    engine = Engine(balance=50)
    tasks = [engine.run(order("[sandbox:fail]"), START) for _ in range(5)]
    refused = refusal(lambda: engine.run(order(), START))
    assert refused.code == 96
    assert refused.message == (
        "You have reached your concurrent task limit. With your current balance of $50.00, "
        "you can run up to 5 tasks at the same time. Add funds to increase your limit."
    )
    engine.run(order(), min(task.stages[-1].at for task in tasks))


def test_without_funds_nothing_runs_until_funds_are_added() -> None:
    """Below $0.50 a Run is refused with code 97; adding funds helps."""
    engine = Engine(balance=0.49)
    refused = refusal(lambda: engine.run(order(), START))
    assert (refused.code, refused.message) == (97, "Insufficient balance")
    engine.set_balance(0.50, START)
    assert engine.run(order(), START).id == "2221"


def test_a_balance_that_is_set_is_not_charged_for_what_ended_before() -> None:
    """The tasks that have ended by then were paid from the old one, whoever looked last."""
    engine = Engine(balance=30)
    ended, running = engine.run(order(), START), engine.run(order("[sandbox:run=5000]"), START)
    now = ended.stages[-1].at + 1
    assert now < running.stages[-1].at
    engine.set_balance(100, now)
    assert engine.ledger(now)["balance"] == "100.000000000000"
    assert engine.ledger(running.stages[-1].at)["balance"] == "99.720000000000"


def test_a_limit_that_was_asked_for_overrides_the_balance() -> None:
    """``concurrency_limit`` counts, whatever the balance."""
    engine = Engine(balance=1000, concurrency_limit=1)
    engine.run(order(), START)
    assert refusal(lambda: engine.run(order(), START)).code == 96


def test_a_failure_is_free_and_tells_its_reason_last() -> None:
    """``[sandbox:fail ...]`` runs, ends with pexit 1, without outputs and without a charge."""
    engine = Engine()
    task = engine.run(order("[sandbox:fail no face found]"), START)
    end = task.stages[-1].at
    reply = task_json(task, end, cdn_url="http://cdn")
    assert Status.START in statuses(task)
    assert (reply["status"], reply["pexit"], reply["outputs"], reply["totalcost"]) == (
        "task_postprocess_end",
        "1",
        [],
        "0",
    )
    assert reply["debugoutput"].splitlines()[-1] == "no face found"
    assert engine.ledger(end)["paid"] == 0
    assert not {Status.OUTPUT, Status.OUTPUT_FULL} & set(statuses(task)), "there is no output to announce"
    assert statuses(task)[-4:] == [Status.START, Status.END, Status.POSTPROCESS_START, Status.POSTPROCESS_END]


def test_a_run_takes_the_seconds_that_its_prompt_asks_for() -> None:
    """``[sandbox:run=12.5]`` sets the run, which the speed then divides."""
    task = Engine(speed=2).run(order("[sandbox:run=12.5]"), START)
    times = {stage.status: stage.at for stage in task.stages}
    assert times[Status.END] - times[Status.START] == pytest.approx(6.25)


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        ("[sandbox:queue]", "task_queue"),
        ("[sandbox:hang]", "task_start"),
        ("[sandbox:error lost]", "task_error"),
    ],
)
def test_a_held_task_stays_where_it_is_until_it_is_released(prompt: str, status: str) -> None:
    """Held tasks keep their slot for ever, and succeed once they are released."""
    engine = Engine()
    task = engine.run(order(prompt), START)
    assert task.status(START + 1e6) == status
    assert engine.ledger(START + 1e6)["active"] == 1
    engine.steer(task.id, "release", START + 1e6)
    assert engine.ledger(START + 2e6)["paid"] == 1


def test_a_stored_error_shows_its_text_and_is_requeued() -> None:
    """task_error is not final: debugerror tells why, and a released task queues again."""
    engine = Engine()
    task = engine.run(order("[sandbox:error disk full]"), START)
    assert task_json(task, START + 1e4, cdn_url="")["debugerror"] == "disk full"
    engine.steer(task.id, "release", START + 1e4)
    assert statuses(task)[:4] == [Status.QUEUE, Status.ACCEPT, Status.ERROR, Status.QUEUE]
    assert task_json(task, START + 2e4, cdn_url="")["debugerror"] == ""


@pytest.mark.parametrize(
    ("after", "life", "pexit"),
    [
        ("stay", [Status.QUEUE, Status.ACCEPT, Status.ERROR], ""),
        ("end", [Status.QUEUE, Status.ACCEPT, Status.ERROR, Status.POSTPROCESS_END], "1"),
        ("requeue", [Status.QUEUE, Status.ACCEPT, Status.ERROR, *LIFE], "0"),
    ],
)
def test_what_follows_a_stored_error_can_be_chosen(after: str, life: list[Status], pexit: str) -> None:
    """Nobody outside the service knows; each of the readings takes a while."""
    engine = Engine(error_seconds=600.0)
    task = engine.run(order(f"[sandbox:error disk full][sandbox:after={after}]"), START)
    assert task.status(START + 500) is Status.ERROR
    engine.ledger(START + 1e5)
    assert statuses(task) == life
    shown = task_json(task, START + 1e5, cdn_url="")
    assert shown["pexit"] == pexit
    said = {"stay": "", "end": "disk full", "requeue": "Model is running.\nDone."}
    assert shown["debugoutput"] == said[after]
    assert engine.ledger(START + 1e5)["paid"] == (after == "requeue")


def test_a_charge_can_be_told_late() -> None:
    """The books have it at once; the task shows nothing in one of three forms, by its id."""
    engine = Engine(speed=10.0)
    tasks = [engine.run(order("[sandbox:run=10][sandbox:late=600]"), START) for _ in range(3)]
    never = engine.run(order("[sandbox:run=10][sandbox:late=never]"), START)
    assert engine.ledger(START + 50)["paid"] == 4
    shown = [task_json(task, START + 50, cdn_url="")["totalcost"] for task in tasks]
    assert sorted(shown, key=str) == ["", "0", None]
    assert {task_json(task, START + 150, cdn_url="")["totalcost"] for task in tasks} == {"0.280000000000"}
    assert task_json(never, START + 1e9, cdn_url="")["totalcost"] in ("0", "", None)


@pytest.mark.parametrize(("fate", "pexit"), [("bare", ""), ("nofiles", "0")])
def test_an_end_can_come_in_pieces(fate: str, pexit: str) -> None:
    """The status first; exit code and outputs, or the outputs alone, later."""
    engine = Engine()
    task = engine.run(order(f"[sandbox:run=10][sandbox:{fate}=1000]"), START)
    early = task_json(task, START + 900, cdn_url="")
    assert (early["status"], early["pexit"], early["outputs"], early["size"]) == (
        "task_postprocess_end", pexit, [], "0",
    )  # fmt: skip
    late = task_json(task, START + 1500, cdn_url="")
    assert (late["pexit"], len(late["outputs"])) == ("0", 1)


@pytest.mark.parametrize("fate", ["late", "bare", "nofiles"])
@pytest.mark.parametrize("is_over", [True, False])
def test_what_a_record_holds_back_can_be_told_at_once(fate: str, is_over: bool) -> None:
    """Whether the task has ended already or not."""
    engine = Engine()
    task = engine.run(order(f"[sandbox:run=10][sandbox:{fate}=never]"), START)
    engine.steer(task.id, "tell", START + (900 if is_over else 1))
    assert engine.ledger(START + 900)["paid"] == 1
    shown = task_json(task, START + 900, cdn_url="")
    assert (shown["status"], shown["pexit"]) == ("task_postprocess_end", "0")
    assert (shown["totalcost"], len(shown["outputs"])) == ("0.280000000000", 1)


def test_a_task_that_is_stopped_can_be_charged() -> None:
    """One that runs; one in the queue is not."""
    engine = Engine(charge_stopped=True)
    queued, running = (engine.run(order(prompt), START) for prompt in ("[sandbox:queue]", "[sandbox:hang]"))
    engine.kill(running, START + 1e4)
    engine.cancel(queued, START + 1e4)
    books = engine.ledger(START + 1e4)
    assert (books["paid"], books["charged"]) == (1, "0.280000000000")
    assert task_json(running, START + 1e4, cdn_url="")["totalcost"] == "0.280000000000"


def test_cancel_is_for_queued_tasks_and_kill_for_running_ones() -> None:
    """Each refuses what is the other's, and both refuse what has ended."""
    engine = Engine()
    queued, running = (engine.run(order(prompt), START) for prompt in ("[sandbox:queue]", "[sandbox:hang]"))
    now = START + 1e4
    assert refusal(lambda: engine.kill(queued, now)).message == (
        "Task could not be killed: it is still in the queue"
    )
    assert refusal(lambda: engine.cancel(running, now)).message == "Task is not in a cancellable state."
    assert engine.cancel(queued, now).status(now) is Status.CANCEL
    assert engine.kill(running, now).status(now + 1e6) is Status.CANCEL
    for stop, task in ((engine.cancel, queued), (engine.kill, running), (engine.kill, queued)):
        assert refusal(lambda stop=stop, task=task: stop(task, now)).code == 1  # type: ignore[misc]
    assert engine.ledger(now + 1e6)["active"] == 0


def test_a_killed_task_has_no_outputs_and_costs_nothing() -> None:
    """Nothing of a future that was planned remains after Kill."""
    engine = Engine()
    task = engine.run(order(), START)
    almost = task.stages[-1].at - 0.1
    engine.kill(task, almost)
    reply = task_json(task, almost + 1e6, cdn_url="")
    assert (reply["pexit"], reply["outputs"], reply["totalcost"], reply["size"]) == ("", [], "0", "0")
    assert (reply["canceltime"], reply["postprocessendtime"]) == (str(int(almost)), "0")
    assert engine.ledger(almost + 1e6)["charged"] == "0.000000000000"


def test_work_that_is_late_stretches_the_run() -> None:
    """Until the files exist the task is in task_start; the stages after it keep their distances."""
    engine = Engine()
    task = engine.run(unprepared(), START)
    started = engine.next_start()
    assert started is not None
    assert engine.take_started(started - 0.001) == []
    assert engine.take_started(started) == [task]
    assert engine.take_started(started + 1) == []
    late = started + 1000
    assert task.status(late) is Status.START
    assert engine.prepared(task.id, late, [CLIP])
    assert task.status(late) is Status.OUTPUT
    end = task.stages[-1].at
    assert end > late
    reply = task_json(task, end, cdn_url="http://cdn")
    assert [output["url"] for output in reply["outputs"]] == ["http://cdn/folder/0.mp4"]


def test_work_that_is_early_changes_nothing() -> None:
    """A clip that is ready before it is due waits for its time."""
    lives = []
    for prepared in (order(), unprepared()):
        engine = Engine()
        task = engine.run(prepared, START)
        for each in engine.take_started(START + 20):
            engine.prepared(each.id, START + 20, [CLIP])
        lives.append(task.stages)
    assert lives[0] == lives[1]


def test_an_unusable_input_fails_without_delay() -> None:
    """A rejected task ends a moment after its rejection, not when its run would have ended."""
    engine = Engine()
    task = engine.run(unprepared("[sandbox:run=10000]"), START)
    started = engine.next_start() or 0.0
    engine.take_started(started)
    engine.rejected(task.id, started + 1, "not an image")
    reply = task_json(task, started + 3, cdn_url="")
    assert (reply["status"], reply["pexit"]) == ("task_postprocess_end", "1")
    assert reply["debugoutput"].endswith("not an image")
    assert not {Status.OUTPUT, Status.OUTPUT_FULL} & set(statuses(task))


def test_work_for_a_task_that_was_stopped_is_not_wanted() -> None:
    """Files that come after a Kill are not taken, and a stopped task is never handed out."""
    engine = Engine()
    first, second = engine.run(unprepared(), START), engine.run(unprepared(), START)
    engine.cancel(second, START)
    now = START + 1000
    assert engine.take_started(now) == [first]
    engine.kill(first, now)
    assert not engine.prepared(first.id, now, [CLIP])
    assert engine.next_start() is None
    assert first.status(now + 1e6) is Status.CANCEL


def test_steering_reaches_every_fate() -> None:
    """fail, finish, cancel, hang and error do at once what they say."""
    engine = Engine(balance=1000)
    now = START + 0.001
    wanted: dict[Action, str] = {
        "fail": "task_postprocess_end",
        "finish": "task_postprocess_end",
        "cancel": "task_cancel",
        "hang": "task_start",
        "error": "task_error",
    }
    for action, status in wanted.items():
        task = engine.run(order("[sandbox:queue]"), START)
        engine.steer(task.id, action, now, "because")
        assert task.status(now) == status
    ledger = engine.ledger(now)
    assert [entry["pexit"] for entry in ledger["tasks"]] == ["1", "0", "", "", ""]
    assert (ledger["paid"], ledger["active"]) == (1, 2)


def test_finish_waits_for_files_that_must_be_made() -> None:
    """A task that is told to finish ends when its files exist, not before."""
    engine = Engine()
    task = engine.run(unprepared("[sandbox:fail never mind]"), START)
    engine.steer(task.id, "finish", START + 1)
    assert engine.take_started(START + 1) == [task]
    engine.steer(task.id, "finish", START + 2)
    assert engine.take_started(START + 2) == []
    assert task.status(START + 9) is Status.START
    engine.prepared(task.id, START + 9, [CLIP])
    assert (task.status(START + 9), task.pexit) == (Status.POSTPROCESS_END, "0")


def test_files_made_during_a_hang_or_an_error_are_used_after_it() -> None:
    """Work is not lost when its task is held meanwhile."""
    for action in ("hang", "error"):
        engine = Engine()
        task = engine.run(unprepared(), START)
        engine.take_started(START + 1000)
        engine.steer(task.id, action, START + 1001)
        assert engine.prepared(task.id, START + 1002, [CLIP])
        assert task.status(START + 1e5) in {Status.START, Status.ERROR}
        engine.steer(task.id, "release", START + 1e5)
        assert engine.ledger(START + 2e5)["paid"] == 1


def test_a_task_released_from_an_error_during_its_work_waits_for_that_work() -> None:
    """The work is handed out once, although its task starts twice."""
    engine = Engine()
    task = engine.run(unprepared(), START)
    engine.take_started(START + 1000)
    engine.steer(task.id, "error", START + 1001)
    engine.steer(task.id, "release", START + 1002)
    assert engine.take_started(START + 2000) == []
    engine.prepared(task.id, START + 2000, [CLIP])
    assert engine.ledger(START + 3000)["paid"] == 1


def test_a_start_that_was_moved_is_handed_out_at_its_new_time() -> None:
    """Releasing a queued task makes its old start void."""
    engine = Engine(queue_mean=1000)
    task = engine.run(unprepared(), START)
    old = engine.next_start() or 0.0
    engine.steer(task.id, "release", START)
    new = engine.next_start() or 0.0
    assert new < old
    engine.steer(task.id, "hang", new)
    assert engine.take_started(old) == []


def test_release_does_nothing_to_a_task_that_runs() -> None:
    """Nothing holds it, so nothing changes."""
    engine = Engine()
    task = engine.run(order(), START)
    before = list(task.stages)
    engine.steer(task.id, "release", task.stages[6].at)
    assert task.stages == before


def test_failing_a_task_late_does_not_repeat_its_stages() -> None:
    """A task that is steered while it delivers goes on from there."""
    engine = Engine()
    task = engine.run(order(), START)
    now = task.stages[-1].at - 0.1
    assert task.status(now) is Status.POSTPROCESS_START
    engine.steer(task.id, "fail", now)
    assert statuses(task) == LIFE
    assert engine.ledger(now)["paid"] == 0


@pytest.mark.parametrize("task_id", ["1", "2221"])
def test_only_a_living_task_can_be_steered(task_id: str) -> None:
    """Unknown tasks and those that have ended are refused with code 1."""
    engine = Engine()
    engine.run(order(), START)
    refused = refusal(lambda: engine.steer(task_id, "fail", START + 1e6))
    assert (refused.code, refused.message) == (1, "task-not-exist")


def test_tasks_are_found_by_their_project_only() -> None:
    """By id or by token; a task of another project does not exist."""
    engine = Engine()
    task = engine.run(order(), START)
    other = engine.run(order(project_id="700"), START)
    assert engine.find(START, task_id=task.id, project_id="699") is task
    assert engine.find(START, token=task.token, project_id="699") is task
    assert engine.find(START, task_id=task.id, project_id="700") is None
    assert engine.find(START, token="nobody's", project_id="699") is None
    assert engine.find(START, project_id="699") is None
    assert engine.tasks(START, project_id="700") == [other]


def test_the_list_is_newest_first() -> None:
    """As the service shows it."""
    engine = Engine()
    ids = [engine.run(order(), START).id for _ in range(3)]
    assert [task.id for task in engine.tasks(START, project_id="699")] == ids[::-1]


def test_outputs_can_be_deleted_after_the_end_and_twice() -> None:
    """Deleting is refused while the task lives, and idempotent afterwards."""
    engine = Engine()
    task = engine.run(order(), START)
    assert refusal(lambda: engine.forget_outputs(task, START)).message == (
        "Task must be completed or cancelled before deleting files"
    )
    end = task.stages[-1].at
    assert [output.name for output in engine.forget_outputs(task, end)] == ["0.mp4"]
    assert engine.forget_outputs(task, end) == ()
    assert task_json(task, end, cdn_url="")["outputs"] == []


def test_events_are_told_once_and_in_order() -> None:
    """The cursor goes on where it was, also when the future has been changed in between."""
    engine = Engine()
    heard: list[str] = []
    engine.listeners.append(heard.append)
    task = engine.run(order(), START)
    stages, cursor, upcoming = engine.events(task.token, 0, START)
    assert [stage.status for stage in stages] == [Status.QUEUE]
    assert upcoming == task.stages[1].at
    engine.steer(task.id, "cancel", upcoming)
    assert set(heard) == {task.id}
    stages, cursor, upcoming = engine.events(task.token, cursor, upcoming)
    assert [stage.status for stage in stages] == [Status.ACCEPT, Status.CANCEL]
    assert engine.events(task.token, cursor, START + 1e6) == ([], cursor, None)
    assert refusal(lambda: engine.events("nobody's", 0, START)).code == 1


def test_the_ledger_counts_requests_refusals_and_leaks() -> None:
    """What the HTTP side reports is added up."""
    engine = Engine()
    engine.count("Run")
    engine.count("cdn", leaked=True)
    engine.count("cdn")
    engine.refuse(96)
    ledger = engine.ledger(START)
    assert ledger["requests"] == {"Run": 1, "cdn": 2}
    assert (ledger["credentials_leaked"], ledger["refused"]) == (1, {"96": 1})


def test_secrets_stay_out_of_the_repr() -> None:
    """A task's token is a credential: repr does not show it."""
    task = Engine().run(order(), START)
    assert task.token not in repr(task)
    assert all(output.accesskey not in repr(task) + repr(output) for output in task.outputs)


def test_the_engine_may_be_used_from_several_threads() -> None:
    """Runs from many threads at once get different ids, and none is lost."""
    engine = Engine(balance=1e6)
    threads = [
        threading.Thread(target=lambda: [engine.run(order(), START) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({entry["id"] for entry in engine.ledger(START)["tasks"]}) == 200


def test_statuses_before_the_start_of_time_are_the_first() -> None:
    """A clock that is behind shows the task in the queue."""
    assert Engine().run(order(), START).status(START - 10) is Status.QUEUE


class Life(RuleBasedStateMachine):
    """Any sequence of requests, interventions and waiting keeps the books and the clocks right."""

    tasks = Bundle("tasks")
    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(balance=30, seed=7, queue_mean=3.0)
        self.now = START
        self.seen: dict[str, list[Status]] = {}

    @rule(
        target=tasks,
        prompt=st.sampled_from(
            ["", "[sandbox:fail x]", "[sandbox:queue]", "[sandbox:hang]", "[sandbox:error]"]
        ),
        ready=st.booleans(),
    )
    def submit(self, prompt: str, ready: bool) -> Task | None:
        alive = self.engine.ledger(self.now)["active"]
        limit = self.engine.limit()
        assert limit is not None
        if alive >= limit or self.engine.balance < Decimal("0.5"):
            assert refusal(lambda: self.engine.run(order(), self.now)).code in {96, 97}
            return None
        task = self.engine.run(order(prompt) if ready else unprepared(prompt), self.now)
        self.seen[task.id] = [Status.QUEUE]
        return task

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.5, 5.0, 60.0, 300.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=taken)
    def take(self) -> list[Task]:
        return self.engine.take_started(self.now)

    @rule(batch=consumes(taken), good=st.booleans())
    def deliver(self, batch: list[Task], good: bool) -> None:
        for task in batch:
            wanted = (
                self.engine.prepared(task.id, self.now, [CLIP])
                if good
                else self.engine.rejected(task.id, self.now, "bad")
            )
            assert wanted == task.open

    @rule(task=tasks, action=st.sampled_from(["cancel", "kill"]))
    def stop(self, task: Task | None, action: str) -> None:
        if task is None:
            return
        before = task.status(self.now)
        try:
            getattr(self.engine, action)(task, self.now)
        except Refusal:
            assert task.status(self.now) == before
        else:
            assert task.status(self.now) is Status.CANCEL

    @rule(task=tasks, action=st.sampled_from(get_args(Action)))
    def steer(self, task: Task | None, action: Action) -> None:
        if task is not None:
            self.engine.ledger(self.now)
            if task.open or action == "tell":
                self.engine.steer(task.id, action, self.now)
            else:
                assert refusal(lambda: self.engine.steer(task.id, action, self.now)).code == 1

    @invariant()
    def money_is_conserved(self) -> None:
        ledger = self.engine.ledger(self.now)
        assert Decimal(ledger["balance"]) + Decimal(ledger["charged"]) == 30
        succeeded = [entry for entry in ledger["tasks"] if entry["pexit"] == "0"]
        assert len(succeeded) == ledger["paid"]
        assert Decimal(ledger["charged"]) == sum(
            (Decimal(each["totalcost"]) for each in succeeded), Decimal(0)
        )

    @invariant()
    def open_means_not_terminal(self) -> None:
        ledger = self.engine.ledger(self.now)
        ended = {"task_postprocess_end", "task_cancel"}
        assert ledger["active"] == sum(entry["status"] not in ended for entry in ledger["tasks"])

    @invariant()
    def statuses_never_go_back(self) -> None:
        for task in self.engine.tasks(self.now, project_id="699"):
            seen = self.seen[task.id]
            status = task.status(self.now)
            if seen[-1] in {Status.POSTPROCESS_END, Status.CANCEL}:
                assert status is seen[-1]
            elif status not in {Status.ERROR, Status.CANCEL} and seen[-1] is not Status.ERROR:
                assert Status.ERROR in {stage.status for stage in task.stages} or LIFE.index(
                    status
                ) >= LIFE.index(seen[-1])
            seen.append(status)

    @invariant()
    def timelines_are_in_order(self) -> None:
        for task in self.engine.tasks(self.now, project_id="699"):
            times = [stage.at for stage in task.stages]
            assert times == sorted(times)
            reply = task_json(task, self.now, cdn_url="")
            assert all(int(value) <= self.now for name, value in reply.items() if name.endswith("time"))


TestLife = Life.TestCase
TestLife.settings = examples(60, stateful_step_count=40)
