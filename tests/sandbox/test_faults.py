"""Fault plans: who suffers what, and what of it can be replayed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from wiro_async.sandbox import faults
from wiro_async.sandbox.faults import (
    OPERATIONS,
    STANDARD_FAULTS,
    Blackhole,
    CutSocket,
    Drip,
    Duplicate,
    Fault,
    FaultPlan,
    Foreign,
    ForgedCallback,
    Garbage,
    HalfClose,
    Html,
    Injection,
    LateCallback,
    Latency,
    ListLag,
    LostCallback,
    NoTask,
    Refused,
    RepeatedCallback,
    Request,
    Reset,
    RotateKey,
    Status,
    WrongLength,
)


def request(operation: str, number: int = 1, body: bytes = b"") -> Request:
    """A request as the proxy would make it out."""
    return Request(
        operation=operation, number=number, method="POST", path=f"/v1/{operation}", headers={}, body=body
    )


def arrive(plan: FaultPlan, operation: str, body: bytes = b"") -> Fault | None:
    """Let a request come."""
    return plan.choose(request(operation, plan.number(operation), body))


# -- scripts ---------------------------------------------------------------------------------------


def test_a_plan_without_rules_does_nothing() -> None:
    """And says how many requests it has seen."""
    plan = FaultPlan()
    assert arrive(plan, "Run") is None
    assert arrive(plan, "Run") is None
    assert plan.seen == {"Run": 2}
    assert plan.injected == ()


def test_a_script_is_for_the_next_request_of_its_operation() -> None:
    """Once, unless told otherwise, and no other operation."""
    plan = FaultPlan()
    plan.script("Run", Reset())
    assert [arrive(plan, name) for name in ("Task/Detail", "Run", "Run")] == [None, Reset(), None]


def test_scripts_skip_count_and_queue_up() -> None:
    """The first script that has something left decides."""
    plan = FaultPlan()
    plan.script("Task/List", Status(503), times=2, skip=1)
    plan.script("Task/List", Html(), times=None)
    expected = [Html(), Status(503), Status(503), Html(), Html()]
    assert [arrive(plan, "Task/List") for _ in expected] == expected


def test_a_function_picks_requests_by_what_is_in_them() -> None:
    """It sees the body, and may look at the plan."""
    plan = FaultPlan()
    plan.script(lambda each: b"2221" in each.body and not plan.injected, Duplicate())
    assert arrive(plan, "Task/Detail", b'{"taskid":"2222"}') is None
    assert arrive(plan, "Task/Detail", b'{"taskid":"2221"}') == Duplicate()


def test_a_fault_is_made_only_where_it_fits() -> None:
    """A function that matches more than the fault is for costs nothing."""
    plan = FaultPlan()
    plan.script(lambda _: True, ListLag(1))
    assert arrive(plan, "Run") is None
    assert arrive(plan, "Task/List") == ListLag(1)


def test_clear_forgets_rules_and_keeps_the_records() -> None:
    """So a test can end a storm and look back at it."""
    plan = FaultPlan()
    plan.script("Run", Reset())
    plan.random(1.0)
    plan.note(request("Run", 7), Reset(), 12.5, processed=False)
    plan.clear()
    assert arrive(plan, "Run") is None
    assert plan.injected == (Injection(7, "Run", Reset(), 12.5, processed=False),)
    assert repr(plan) == "<FaultPlan seed=0, 0 scripts, 0 probabilities, 1 injected>"


# -- probabilities ---------------------------------------------------------------------------------


def draw(plan: FaultPlan, order: list[str]) -> dict[tuple[str, int], Fault | None]:
    """Let requests come in this order, and return their fates by name and number."""
    fates = {}
    for name in order:
        number = plan.number(name)
        fates[name, number] = plan.choose(request(name, number))
    return fates


def test_a_seed_replays_whatever_the_order() -> None:
    """A request's fate depends on the seed and its number within its operation, not on the others."""
    one, two, other = FaultPlan(7), FaultPlan(7), FaultPlan(8)
    for plan in (one, two, other):
        plan.random(0.3, ["Run", "Task/Detail"])
        plan.random(0.3)
    order = ["Run", "Task/Detail", "cdn"] * 60
    fates = draw(one, order)
    assert fates == draw(two, sorted(order))
    assert fates != draw(other, order)


def test_the_probability_is_that_of_a_request() -> None:
    """0 is never, 1 is always, and between them the share is right."""
    plan = FaultPlan(3)
    plan.random(0, ["Run"])
    plan.random(1, ["Task/Kill"])
    plan.random(0.1, ["Task/Detail"])
    assert not any(draw(plan, ["Run"] * 200).values())
    assert all(draw(plan, ["Task/Kill"] * 200).values())
    share = sum(fate is not None for fate in draw(plan, ["Task/Detail"] * 4000).values()) / 4000
    assert 0.08 < share < 0.12


def test_weights_and_what_fits_decide_about_the_fault() -> None:
    """A weight of 0 is never drawn; a List fault never hits a Run."""
    plan = FaultPlan(1)
    plan.random(1, ["Run", "Task/List"], faults={Reset(): 3, Html(): 1, Duplicate(): 0, ListLag(5): 2})
    runs = list(draw(plan, ["Run"] * 1000).values())
    assert set(runs) == {Reset(), Html()}
    assert 0.7 < runs.count(Reset()) / 1000 < 0.8
    assert set(draw(plan, ["Task/List"] * 300).values()) == {Reset(), Html(), ListLag(5)}


def test_without_a_fitting_fault_nothing_happens() -> None:
    """Rather than something that cannot be."""
    plan = FaultPlan()
    plan.random(1, faults=[ListLag(5)])
    assert arrive(plan, "Run") is None


def test_the_sandbox_s_own_switches_are_safe_from_chance() -> None:
    """The ledger can be read in any storm."""
    plan = FaultPlan()
    plan.random(1)
    assert arrive(plan, "other") is None


def test_the_standard_faults_are_of_all_kinds_but_one() -> None:
    """A lost key stays lost, so it is for scripts."""
    kinds = {type(fault) for fault in STANDARD_FAULTS}
    every = {thing for thing in vars(faults).values() if isinstance(thing, type)}
    assert kinds == {kind for kind in every if hasattr(kind, "processed") and kind.__name__[0] != "_"} - {
        RotateKey,
        Injection,
    }


# -- the faults themselves -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "processed"),
    [
        (Latency(1), True),
        (Drip(1), True),
        (Reset(), False),
        (Reset(at_request_byte=10), False),
        (Reset(after="processing"), True),
        (Reset(at_reply_byte=0), True),
        (HalfClose(), True),
        (Blackhole(), False),
        (Blackhole(processed=True), True),
        (WrongLength(1), True),
        (Garbage(), True),
        (Garbage(processed=False), False),
        (Html(), False),
        (Html(processed=True), True),
        (Status(503), False),
        (Status(503, processed=True), True),
        (Refused(), False),
        (Refused(processed=True, names_task=True), True),
        (NoTask(), True),
        (Duplicate(), True),
        (Foreign(), True),
        (ListLag(1), True),
        (RotateKey(), True),
        (CutSocket(), True),
        (LostCallback(), False),
        (LateCallback(), True),
        (RepeatedCallback(), True),
        (ForgedCallback(), True),
    ],
)
def test_every_fault_says_whether_the_service_gets_the_request(fault: Fault, processed: bool) -> None:
    """That is what a client must not guess."""
    assert fault.processed is processed


def test_where_faults_can_occur() -> None:
    """A WebSocket has no whole reply; only tasks are mistaken for others; only the API has keys.

    Callbacks, which are no requests of a client, have faults of their own.
    """
    assert Reset().operations == OPERATIONS - {"callback"} | {"other"}
    assert Html().operations - Html(processed=True).operations == {"socket"}
    assert Foreign().operations == {"Run", "Task/Detail", "Task/List", "Task/Cancel", "Task/Kill"}
    assert ListLag(1).operations == {"Task/List"}
    assert Refused(processed=True, names_task=True).operations == {"Run"}
    assert Refused().operations == RotateKey().operations
    assert NoTask().operations == {"Task/Detail", "Task/Cancel", "Task/Kill"}
    assert RotateKey().operations == OPERATIONS - {"cdn", "socket", "callback"}
    assert CutSocket().operations == {"socket"}
    for fault in (LostCallback(), LateCallback(), RepeatedCallback(), ForgedCallback()):
        assert fault.operations == {"callback"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Latency(-1),
        lambda: Latency(math.nan),
        lambda: Drip(0),
        lambda: Drip(1, "tail"),  # type: ignore[arg-type]
        lambda: Reset(at_request_byte=-1),
        lambda: Reset(after="lunch"),  # type: ignore[arg-type]
        lambda: Reset(at_request_byte=1, at_reply_byte=1),
        lambda: HalfClose(-1),
        lambda: Blackhole(-1),
        lambda: WrongLength(0),
        lambda: Garbage(part="tail"),  # type: ignore[arg-type]
        lambda: Html(100),
        lambda: Status(200),
        lambda: Status(600),
        lambda: Refused(status=100),
        lambda: Refused(names_task=True),
        lambda: FaultPlan().script("Task/List", Refused(processed=True, names_task=True)),
        lambda: FaultPlan().script("Task/List", NoTask()),
        lambda: ListLag(-1),
        lambda: CutSocket(after=0),
        lambda: CutSocket(after=True),
        lambda: CutSocket(after="lunch"),  # type: ignore[arg-type]
        lambda: CutSocket(how="softly"),  # type: ignore[arg-type]
        lambda: CutSocket(code=999),
        lambda: CutSocket(code=1005),
        lambda: CutSocket(code=1006),
        lambda: CutSocket(code=1015),
        lambda: CutSocket(code=2999),
        lambda: CutSocket(code=5000),
        lambda: CutSocket(code="1011"),  # type: ignore[arg-type]
        lambda: LateCallback(-1),
        lambda: RepeatedCallback(-1),
        lambda: ForgedCallback(seconds=-1),
        lambda: FaultPlan().script("Runs", Reset()),
        lambda: FaultPlan().script("Run", ListLag(1)),
        lambda: FaultPlan().script("Run", Reset(), times=-1),
        lambda: FaultPlan().script("Run", Reset(), skip=-1),
        lambda: FaultPlan().random(1.1),
        lambda: FaultPlan().random(0.1, ["run"]),
        lambda: FaultPlan().random(0.1, faults={Reset(): -1}),
        lambda: FaultPlan().random(0.1, faults={Reset(): math.nan}),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object]) -> None:
    """At the call, not later in another thread."""
    with pytest.raises(ValueError, match=r"\w"):
        make()


def test_the_messages_say_what_is_possible() -> None:
    """A wrong name gets the list of right ones."""
    with pytest.raises(ValueError, match=r"'runs' is no operation. Known: File/FolderCreate, .*Run, "):
        FaultPlan().script("runs", Reset())
    with pytest.raises(ValueError, match=r"ListLag\(seconds=1\) fits Task/List, not 'Run'"):
        FaultPlan().script("Run", ListLag(1))


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
def test_a_socket_can_be_closed_with_these_codes(code: int) -> None:
    """RFC 6455 lets servers send them."""
    assert CutSocket(how="close", code=code).code == code


def test_no_repr_shows_a_secret() -> None:
    """Keys travel through headers and through RotateKey."""
    each = Request(
        operation="Run",
        number=1,
        method="POST",
        path="/canary",
        headers={"x-api-key": "canary"},
        body=b"canary",
    )
    assert "canary" not in repr([each, RotateKey("canary", "canary")])
