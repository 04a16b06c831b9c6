"""What may be sent again: total tables over every error, bounded delays, and a budget for all."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from wiro_async import (
    APIError,
    AuthenticationError,
    BatchStopped,
    BudgetExceeded,
    ClientUseError,
    ConcurrencyLimited,
    ConfigurationError,
    ConnectionFailed,
    DownloadError,
    InsufficientBalance,
    InvalidInput,
    InvalidResponse,
    InvalidTaskState,
    JournalError,
    MissingExtra,
    ModelNotFound,
    RateLimited,
    ServiceError,
    SubmissionUnknown,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskNotFound,
    TaskTimeout,
    TermsNotAccepted,
    WiroError,
    _errors,
)
from wiro_async._http.retry import (
    DOWNLOADS,
    READS,
    RUNS,
    UPLOADS,
    Credentials,
    RetryBudget,
    RetryPolicy,
    is_transient,
    is_unwell,
    run_knowledge,
    run_may_repeat,
)

ZERO = Decimal(0)


def service_error(http_status: int | None, code: int | None = None) -> ServiceError:
    """Return a failure of the service."""
    return ServiceError("m", http_status=http_status, code=code)


# An error; what it tells of a Run; whether a Run may be repeated; whether a read is worth repeating.
TABLE: list[tuple[WiroError, str, bool, bool]] = [
    # Provably not sent: no connection, no slot, no name.
    (ConnectionFailed("m", sent=False), "not sent", True, True),
    (ConfigurationError("m"), "not sent", False, False),
    (MissingExtra("m"), "not sent", False, False),
    (ClientUseError("m"), "not sent", False, False),
    (JournalError("m", path="run.db", reason="full"), "not sent", False, False),
    (BatchStopped("m", reason="balance"), "not sent", False, False),
    (BudgetExceeded("m", price=None, spent=ZERO, limit=ZERO, scope="call"), "not sent", False, False),
    # Refused, and why: asking again would not change it, but for the rate.
    (InvalidInput("m"), "refused", False, False),
    (RateLimited("m", http_status=429), "refused", True, True),
    (ConcurrencyLimited("m", http_status=200, code=96), "refused", False, False),
    (InsufficientBalance("m", http_status=200, code=97), "refused", False, False),
    (TermsNotAccepted("m", http_status=200, code=98), "refused", False, False),
    (AuthenticationError("m", http_status=401, code=99), "refused", False, False),
    (AuthenticationError("m", http_status=403), "refused", False, False),
    (ModelNotFound("m", http_status=200, code=1), "refused", False, False),
    (TaskNotFound("m", http_status=200, code=1), "refused", False, False),
    (InvalidTaskState("m", http_status=200, code=1), "refused", False, False),
    (APIError("m", http_status=200), "refused", False, False),
    # Known refusals without a class of their own.
    (ServiceError("m", http_status=404, code=0, detail="Error parsing url."), "refused", False, True),
    (
        ServiceError("m", http_status=200, detail="You don't have any permission for this action."),
        "refused",
        False,
        True,
    ),
    *(
        (ServiceError("m", http_status=200, code=0, detail=detail), "refused", False, True)
        for detail in (
            "Your account has been suspended. Please contact support if you believe this is a mistake.",
            "This model is not allowed in your team. Contact your team admin.",
            "Your model name should be contain (A-Z) (0-9) (-) (_) (.)",
            "This name is not allowed",
            "This model name is already in use",
        )
    ),
    # A task that the service itself has named may turn up.
    (TaskNotFound("m", http_status=200, passing=True), "refused", False, True),
    # Code 0 is a fault of the input or of the service, and unknown words may be either: the Run may have been
    # taken. A read is repeated.
    (service_error(200, 0), "unknown", False, True),
    (service_error(400, 0), "unknown", False, True),
    (service_error(200, 1), "unknown", False, False),
    (service_error(200, 12345), "unknown", False, False),
    (service_error(400), "unknown", False, False),
    (service_error(404), "unknown", False, False),
    (service_error(404, 1), "unknown", False, False),
    (service_error(408), "unknown", False, True),
    (service_error(408, 7), "unknown", False, True),
    (service_error(409), "unknown", False, True),
    (service_error(422), "unknown", False, False),
    (service_error(425, 7), "unknown", False, True),
    (service_error(499), "unknown", False, True),
    (ServiceError("m", http_status=409, detail="Error parsing url."), "unknown", False, True),
    (ServiceError("m", http_status=200, detail="Database connection lost"), "unknown", False, True),
    (InvalidResponse("m", http_status=403), "unknown", False, True),
    (InvalidResponse("m", http_status=404), "unknown", False, True),
    # Unknown: the Run may have been taken.
    (ConnectionFailed("m", sent=True), "unknown", False, True),
    (InvalidResponse("m", http_status=200), "unknown", False, True),
    (InvalidResponse("m", http_status=302), "unknown", False, True),
    (InvalidResponse("m"), "unknown", False, True),
    (service_error(200), "unknown", False, True),
    (service_error(None), "unknown", False, True),
    (service_error(None, 7), "unknown", False, True),
    *((service_error(each), "unknown", False, True) for each in (500, 501, 502, 503, 504, 520, 526, 599)),
    *((service_error(status, 97), "unknown", False, True) for status in (500, 502, 503, 504)),
    # No answer to a Run at all: nothing is known, and nothing is repeated.
    (SubmissionUnknown("m", model="", inputs_digest="", submitted_at=0.0, cause=""), "unknown", False, False),
    (TaskError("m"), "unknown", False, False),
    (TaskFailed("m"), "unknown", False, False),
    (TaskCancelled("m"), "unknown", False, False),
    (TaskTimeout("m"), "unknown", False, False),
    (DownloadError("m"), "unknown", False, False),
    (WiroError("m"), "unknown", False, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "knowledge", "repeat", "transient"),
    TABLE,
    ids=lambda value: f"{type(value).__name__} {vars(value)}" if isinstance(value, WiroError) else str(value),
)
def test_every_error_has_its_verdicts(
    error: WiroError, knowledge: str, repeat: bool, transient: bool
) -> None:
    """What is known of a Run, whether it may be repeated, and whether a read is worth repeating."""
    assert run_knowledge(error) == knowledge
    assert run_may_repeat(error) is repeat
    assert is_transient(error) is transient


def test_no_error_is_without_a_verdict() -> None:
    """A new class of error needs a row in the table above: decide, then add it."""
    of_tasks = {TaskCancelled, TaskError, TaskFailed, TaskTimeout}
    assert {type(row[0]) for row in TABLE} == {getattr(_errors, name) for name in _errors.__all__} | of_tasks


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_an_unknown_run_is_never_repeated(row: tuple[WiroError, str, bool, bool]) -> None:
    """The rule above all others: what could pay twice is not sent twice."""
    error = row[0]
    assert not (run_knowledge(error) == "unknown" and run_may_repeat(error))


class Novel(APIError):
    pass


class Strange(WiroError):
    pass


def test_an_error_that_nobody_thought_of_is_careful() -> None:
    """A class from elsewhere is not repeated, and only the service's own word counts as a refusal."""
    for error in (Novel("m"), Strange("m")):
        assert not run_may_repeat(error)
        assert not is_transient(error)
    assert run_knowledge(Novel("m")) == "refused"
    assert run_knowledge(Strange("m")) == "unknown"


@given(
    st.one_of(st.none(), st.integers(100, 599)),
    st.one_of(st.none(), st.sampled_from([0, 1, 96, 97, 98, 99]), st.integers()),
)
@examples(500)
def test_any_failure_of_the_service_has_a_careful_verdict(status: int | None, code: int | None) -> None:
    """Never repeated for a Run; unknown from 500 up, and wherever the service did not say no itself."""
    error = service_error(status, code)
    assert not run_may_repeat(error)
    if status is not None and status >= 500:
        assert run_knowledge(error) == "unknown"
        assert is_transient(error)
    if code is None and (status is None or status < 400):
        assert run_knowledge(error) == "unknown"


# -- when ------------------------------------------------------------------------------------------------


policies = st.builds(
    RetryPolicy,
    attempts=st.one_of(st.none(), st.integers(1, 100)),
    base=st.floats(1e-6, 1e3),
    longest=st.floats(1e-3, 1e4),
    jitter=st.floats(0, 1),
)


@given(policies, st.integers(1, 10_000), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 120)))
@examples(500)
def test_a_pause_has_bounds(policy: RetryPolicy, attempt: int, chance: float, wish: float | None) -> None:
    """Between the service's wish and the longest pause; it grows with the attempts, and with the chance."""
    pause = policy.pause(attempt, chance, wish)
    assert (wish or 0.0) <= pause <= max(wish or 0.0, policy.longest)
    ceiling = policy.pause(attempt, 1.0)
    assert ceiling == min(policy.longest, policy.base * 2.0 ** min(attempt - 1, 900))
    assert policy.pause(attempt, chance) <= policy.pause(attempt + 1, chance)
    assert policy.pause(attempt, chance / 2) <= policy.pause(attempt, chance) <= ceiling
    assert policy.pause(attempt, 0.0) == pytest.approx(ceiling * (1 - policy.jitter))
    is_last = policy.attempts is not None and attempt >= policy.attempts
    assert policy.delay(attempt, chance, wish) == (None if is_last else pause)


def pauses(policy: RetryPolicy, chance: float) -> list[float]:
    """Return every pause of a policy until it gives up."""
    found: list[float] = []
    while (pause := policy.delay(len(found) + 1, chance)) is not None:
        found.append(round(pause, 6))
    return found


@pytest.mark.parametrize(
    ("policy", "at_most", "at_least"),
    [
        (
            RUNS,
            [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0],
            [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0],
        ),
        (READS, [0.1, 0.2], [0.0] * 2),
        (UPLOADS, [0.5, 1.0, 2.0, 4.0], [0.0] * 4),
        (DOWNLOADS, [0.4, 0.8, 1.6, 3.2, 6.4], [0.4, 0.8, 1.6, 3.2, 6.4]),
    ],
    ids=["RUNS", "READS", "UPLOADS", "DOWNLOADS"],
)
def test_the_table_of_policies_is_true(
    policy: RetryPolicy, at_most: list[float], at_least: list[float]
) -> None:
    """Attempts, first and longest pause, and jitter are as the class's documentation says."""
    assert (pauses(policy, 1.0), pauses(policy, 0.0)) == (at_most, at_least)
    row = rf"{len(at_most) + 1} +{at_most[0]} s +20 s +(0|0.5|1) +{round(sum(at_most), 1):g} s in all"
    assert re.search(row, RetryPolicy.__doc__ or "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"base": 0.0},
        {"base": float("inf")},
        {"base": float("nan")},
        {"longest": -1.0},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"jitter": float("nan")},
    ],
    ids=str,
)
def test_a_policy_checks_its_parameters(wrong: dict[str, Any]) -> None:
    """What makes no sense is refused, and named."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**{"base": 1.0, **wrong})


# -- how many --------------------------------------------------------------------------------------------


def test_an_outage_is_not_answered_with_a_storm() -> None:
    """Of a thousand calls that all fail, 35 retries are sent: 3.5 % more than without any."""
    budget = RetryBudget()
    retries = sum(budget.take() for _ in range(1000) for _ in range(2))
    assert retries == 35
    assert budget.tokens == 10


def test_successes_pay_for_retries() -> None:
    """One token a success, never more than the capacity, so one retry for every 14 calls in the long run."""
    budget = RetryBudget()
    assert budget.is_full
    while budget.take():
        assert not budget.is_full
    for _ in range(3):
        budget.credit()
    assert not budget.take()
    budget.credit()
    assert budget.take()
    for _ in range(499):
        budget.credit()
        assert not budget.is_full
    budget.credit()
    assert budget.is_full
    budget.credit()
    assert budget.tokens == 500


@given(st.lists(st.booleans(), max_size=300))
@examples(200)
def test_the_budget_stays_within_its_bounds(takes: list[bool]) -> None:
    """Never negative, never above capacity, and a refusal costs nothing."""
    budget = RetryBudget()
    for take in takes:
        before = budget.tokens
        if not take:
            budget.credit()
            assert budget.tokens == min(500.0, before + 1)
        elif budget.take():
            assert budget.tokens == before - 14
        else:
            assert budget.tokens == before < 14
        assert budget.is_full is (budget.tokens == 500)
        assert 0 <= budget.tokens <= 500


@pytest.mark.parametrize(
    ("error", "unwell"),
    [
        (ConnectionFailed("cut", sent=True), True),
        (RateLimited("slow down"), True),
        (ServiceError("broken", http_status=500), True),
        (ServiceError("broken", http_status=503), True),
        (ServiceError("timeout", http_status=499), False),
        (InvalidResponse("HTML", http_status=500), True),
        (InvalidResponse("HTML", http_status=502), True),
        (InvalidResponse("HTML", http_status=200), False),
        (ServiceError("odd", http_status=200, code=0), False),
        (TaskNotFound("none"), False),
        (AuthenticationError("no"), False),
    ],
)
def test_what_says_that_the_service_is_unwell(error: WiroError, unwell: bool) -> None:
    """One task's bad record is no reason to let all others wait."""
    assert is_unwell(error) is unwell


# -- credentials -----------------------------------------------------------------------------------------


def test_credentials_that_never_worked_are_not_believed_in() -> None:
    """The first refusal is believed, of a read and of a Run."""
    credentials = Credentials()
    assert credentials.refused_read(1) is None
    assert not credentials.refused_run(0.0)
    assert credentials.rest(0.0) == 0.0


def test_the_fourth_refusal_of_a_read_is_believed() -> None:
    """After pauses of 1, 3 and 6 s; from then on the first one is."""
    credentials = Credentials()
    credentials.worked = True
    assert [credentials.refused_read(times) for times in (1, 2, 3, 4)] == [1.0, 3.0, 6.0, None]
    assert credentials.refused_read(1) is None


def test_the_fourth_refusal_of_runs_in_a_row_is_believed() -> None:
    """No Run should be sent for 1, 3 and 6 s after the others; refusals meanwhile do not count."""
    credentials = Credentials()
    credentials.worked = True
    for time, until in ((0.0, 1.0), (1.0, 4.0), (4.0, 10.0)):
        assert credentials.refused_run(time)
        assert credentials.rest(time) == until - time
        assert credentials.refused_run(until - 0.25)
        assert credentials.rest(until - 0.25) == 0.25
        assert credentials.rest(until) == credentials.rest(until + 5.0) == 0.0
    assert not credentials.refused_run(10.0)
    assert not credentials.worked
    assert credentials.rest(10.0) == 0.0
