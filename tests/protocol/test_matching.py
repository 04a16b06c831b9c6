"""Finding the task of a Run whose answer was lost."""

from __future__ import annotations

import gc
import math
import pickle
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeService, client, no, ok
from wiro_async import SubmissionUnknown, Task
from wiro_async._protocol.matching import (
    Claim,
    KnownTasks,
    RunFingerprint,
    Skew,
    Strangers,
    fingerprint_of,
    marker_in,
    unknown,
    with_marker,
)
from wiro_async._protocol.records import parse_task

SENT = {"prompt": "waves", "seed": 6, "images": ["https://e.org/1.jpg"], "callbackUrl": "", "projectid": "7"}
MODEL = "MiniMax/hailuo-2.3"
NOW = 1_700_000_000.0


def wire(task_id: str = "1", created: float = NOW, callback: str = "", **parameters: Any) -> dict[str, Any]:
    """Return a task as the service lists it."""
    given = {"prompt": "waves", "seed": "6", "images": ["https://e.org/1.jpg"]}
    return {
        "id": task_id,
        "status": "task_queue",
        "createtime": str(int(created)),
        "parameters": {**given, **parameters},
        "callbackurl": callback,
    }


def recorded(task_id: str = "1", created: float = NOW, callback: str = "", **parameters: Any) -> Task:
    return parse_task(wire(task_id, created, callback, **parameters))


def fingerprint(**inputs: object) -> RunFingerprint:
    return RunFingerprint.of(MODEL, inputs, NOW, NOW + 85)


def doubt(**inputs: object) -> SubmissionUnknown:
    """Return the error of a Run whose answer was lost."""
    return Claim(KnownTasks(), MODEL, {**SENT, **inputs}, NOW, NOW + 85).disown("", "reset")


async def searched(error: SubmissionUnknown, *listed: dict[str, Any]) -> tuple[list[str], SubmissionUnknown]:
    """Search for a Run's task until there is none left that it could be.

    Returns:
        The ids of those that were found, in this order, and the doubt that is left.
    """

    def page(asked: dict[str, Any]) -> dict[str, Any]:
        return ok(tasklist=list(listed) if asked["start"] == "0" else [])

    found: list[str] = []
    async with client(FakeService(Task_List=page)) as caller:
        while True:
            try:
                found.append((await caller.reconcile(error)).id or "")
            except SubmissionUnknown as left:
                return found, left


async def found(error: SubmissionUnknown, *listed: dict[str, Any]) -> list[str]:
    """Return the ids of the tasks that a Run is found to be, the likeliest first."""
    return (await searched(error, *listed))[0]


# -- the digest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (6, "6"), (6, 6.0), ("6.50", 6.5), (-0.25, "-0.25"), (True, "true"), (None, ""), (" waves ", "waves"),
        ([1, "x"], ("1", "x")), ({"a": 1}, {"a": "1"}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([{"b": {"d": 1, "c": 2}, "a": 0}], [{"a": 0, "b": {"c": 2, "d": 1}}]),
    ],
)  # fmt: skip
def test_the_digest_survives_the_wire(one: object, other: object) -> None:
    """Numbers, booleans and null come back as strings, and the names within an input in any order."""
    assert fingerprint(x=one).digest == fingerprint(x=other).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "b"),
        (6, 7),
        ([1, 2], [2, 1]),
        ("1", "1.0.0"),
        ("1e3", "1000"),
        (["a"], "a"),
        ("9" * 30, "9" * 29),
    ],
)
def test_the_digest_tells_inputs_apart(one: object, other: object) -> None:
    """What is another input has another digest."""
    assert fingerprint(x=one).digest != fingerprint(x=other).digest


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.integers(), st.floats(), st.booleans())))
def test_the_digest_looks_at_the_named_inputs_only(inputs: dict[str, Any]) -> None:
    """Defaults that the service adds do not change it."""
    extra = {**inputs, "added by the service": "default"}
    known = KnownTasks()
    known.add("1", RunFingerprint.of(MODEL, inputs, NOW, NOW + 85))
    assert not known.is_free(parse_task({"id": "1", "parameters": extra}))


# -- the marker ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "marked"),
    [
        ("https://e.org/done", "https://e.org/done?wiro_async=abc"),
        ("https://e.org/done?x=%20y", "https://e.org/done?x=%20y&wiro_async=abc"),
        ("https://e.org/done?x#part", "https://e.org/done?x&wiro_async=abc#part"),
    ],
)
def test_the_marker_joins_the_query(url: str, marked: str) -> None:
    """The rest of the URL stays as it is, and the marker can be read back."""
    assert with_marker(url, "abc") == marked
    assert marker_in(marked) == "abc"
    assert marker_in(url) == ""


@pytest.mark.parametrize("url", ["", "http://[", "?wiro_async", "x"])
def test_an_address_without_a_marker_has_none(url: str) -> None:
    """Whatever the service recorded."""
    assert marker_in(url) == ""


# -- matching --------------------------------------------------------------------------------------------


async def test_model_inputs_and_time_find_the_task() -> None:
    """Equal in wire form, created since the Run; the oldest first."""
    assert await found(doubt(), wire("3", NOW + 9), wire("2", NOW + 1), wire("1", NOW - 5)) == ["1", "2", "3"]
    assert await found(doubt(), wire("1", NOW - 90)) == ["1"]


@pytest.mark.parametrize(
    "other",
    [
        wire(prompt="other"),
        wire(images=["https://e.org/2.jpg"]),
        wire(created=NOW - 91),
        wire(callback="https://e.org/done"),
        {"id": "1", "createtime": str(int(NOW))},
        {"id": "1", "parameters": SENT, "modelslugowner": "a", "modelslugproject": "b"},
    ],
)
async def test_what_is_not_ours_is_not_taken(other: dict[str, Any]) -> None:
    """Other inputs, another file, too old, somebody's callback, nothing recorded, another model."""
    assert await found(doubt(), other) == []


async def test_both_spellings_of_a_model_are_one() -> None:
    """The service names the clean slug where we sent the catalogue's."""
    listed = {"id": "1", "parameters": SENT, "modelslugowner": "minimax", "modelslugproject": "hailuo-2-3"}
    assert await found(doubt(), listed) == ["1"]


async def test_the_marker_decides_where_there_is_one() -> None:
    """A task with our marker is ours whatever else it says, and others are not even looked at."""
    callback = with_marker("https://e.org/done", "abc")
    error = doubt(callbackUrl=callback)
    assert error.marker == "abc"
    ours = wire("2", callback=callback, prompt="rewritten")
    others = wire("1"), wire("3", callback="https://e.org/done?wiro_async=x")
    assert await found(error, *others, ours) == ["2"]


async def test_without_callbacks_on_record_the_inputs_decide() -> None:
    """The service may not list callback URLs at all."""
    assert await found(doubt(callbackUrl=with_marker("https://e.org", "abc")), wire("1")) == ["1"]


async def test_the_marker_decides_whatever_the_time() -> None:
    """A clock that is hours fast does not hide the task that carries it."""
    callback = with_marker("https://e.org/done", "abc")
    error = doubt(callbackUrl=callback)
    assert await found(error, wire("1", NOW - 9999, callback)) == ["1"]


@pytest.mark.parametrize(
    ("age", "is_it", "like"),
    [
        (90.0, True, False),
        (91.0, False, True),
        (3690.0, False, True),
        (3691.0, False, False),
        # Its task is made before it is quiet, 85 s later.
        (-175.0, True, False),
        (-176.0, False, True),
        (-3775.0, False, True),
        (-3776.0, False, False),
    ],
)
async def test_a_task_that_is_only_too_old_or_too_young_is_like_the_one_in_doubt(
    age: float, is_it: bool, like: bool
) -> None:
    """By up to an hour, because a clock may be off: then no Run is proved absent."""
    tasks = [wire("1", NOW - age), wire("2", NOW - age, prompt="other")]
    ids, left = await searched(doubt(), *tasks)
    assert ids == ["1"] * is_it
    assert left.absent is not like
    assert ("task 1 has the same model and inputs" in str(left)) is like


async def test_what_has_no_time_is_not_too_old() -> None:
    """It matches already."""
    ids, left = await searched(doubt(), {"id": "1", "parameters": SENT})
    assert ids == ["1"]
    assert left.absent


async def test_with_a_task_like_it_no_run_is_absent() -> None:
    """The message tells the task and both times, so that the clocks can be compared."""
    _, error = await searched(doubt(), wire("2221", NOW - 120))
    assert not error.absent
    assert error.cause == "reset"
    for told in (
        "may be billed", "task 2221", "120 s older", "22:11:20 UTC", "22:13:20 UTC", "compare",
    ):  # fmt: skip
        assert told in str(error)


@pytest.mark.parametrize("absent", [True, False])
async def test_a_doubt_goes_through_its_error_and_back(absent: bool) -> None:
    """What the error carries is enough to look again; a list that cannot be read proves nothing."""
    error = doubt(callbackUrl=with_marker("https://e.org", "abc"))
    reply = ok(tasklist=[]) if absent else no(99, "no such key")
    async with client(FakeService(Task_List=reply)) as caller:
        with pytest.raises(SubmissionUnknown) as caught:
            await caller.reconcile(pickle.loads(pickle.dumps(error)))
    assert fingerprint_of(caught.value) == fingerprint_of(error)
    assert caught.value.absent is absent
    assert ("so it does not exist" in str(caught.value)) is absent


# -- is it ours? -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        recorded(),
        recorded(images=["https://api.wiro.ai/v1/File/rehosted.jpg"]),
        recorded(prompt="waves ", seed=6, steps="30"),
        recorded(seed="random"),
        parse_task({"id": "1", "parameters": {}}),
        parse_task({"id": "1", "parameters": {"images": ["https://rehosted"]}}),
    ],
)
def test_what_the_service_rewrites_is_no_contradiction(task: Task) -> None:
    """Rehosted files, defaults, spellings, no parameters at all."""
    known = KnownTasks()
    Claim(known, MODEL, SENT, NOW, NOW + 85).verify(task)
    assert task.id in known


@pytest.mark.parametrize(
    "task",
    [
        recorded(prompt="another job", seed="1"),
        parse_task({"id": "1", "parameters": SENT, "modelslugowner": "a", "modelslugproject": "b"}),
        recorded(callback="https://e.org/done?wiro_async=0123456789abcdef"),
    ],
)
def test_another_jobs_task_is_a_contradiction(task: Task) -> None:
    """Another model, texts and numbers of which none is as sent, or the marker of another Run."""
    with pytest.raises(SubmissionUnknown, match="another model or of other inputs"):
        Claim(KnownTasks(), MODEL, SENT, NOW, NOW + 85).verify(task)


# -- whose task is it ------------------------------------------------------------------------------------


def claimed(known: KnownTasks, task_id: str = "1", **inputs: Any) -> Claim:
    """Return the claim of a Run whose answer named that task."""
    claim = Claim(known, MODEL, {**SENT, **inputs}, NOW, NOW + 85)
    known.add(task_id, claim)
    return claim


def test_what_is_known_is_bounded() -> None:
    """The newest are kept."""
    known = KnownTasks(kept=3)
    for number in range(5):
        known.add(str(number))
    assert [number for number in range(5) if str(number) in known] == [2, 3, 4]
    everything = KnownTasks()
    for number in range(100_001):
        everything.add(str(number))
    assert [str(number) in everything for number in range(3)] == [False, True, True]


def test_a_claim_is_released_or_confirmed_by_its_own_run_only() -> None:
    """What is certain, or another's by now, stays; what was forgotten meanwhile is still the claimant's."""
    known = KnownTasks()
    mine, other = claimed(known), Claim(known, MODEL, {"prompt": "other"}, NOW, NOW + 85)
    known.release("1", other)
    assert "1" in known
    known.release("1", mine)
    assert "1" not in known
    known.release("1", mine)
    assert known.confirm("1", mine)
    known.release("1", mine)
    assert "1" in known
    assert not known.confirm("1", mine)


@pytest.mark.parametrize("sent_at", [NOW, NOW + 1])
def test_a_claim_found_again_by_its_fingerprint_is_the_same(sent_at: float) -> None:
    """After a lost answer a task is held by what was searched for; another Run of equal inputs is not it."""
    known = KnownTasks()
    known.add("1", RunFingerprint.of(MODEL, SENT, NOW, NOW + 85))
    assert known.confirm("1", Claim(known, MODEL, dict(SENT), sent_at, NOW + 85)) is (sent_at == NOW)


def test_a_verified_task_is_certain() -> None:
    """From then on no other Run can take it for its own."""
    known = KnownTasks()
    claimed(known).verify(recorded())
    assert not known.is_free(recorded(prompt="other"))


def test_a_task_that_is_not_the_runs_is_given_up() -> None:
    """It is nobody's then, and the Run is in doubt again."""
    known = KnownTasks()
    claim = claimed(known)
    with pytest.raises(SubmissionUnknown, match=r"the reply named task 1, .*other inputs") as caught:
        claim.verify(recorded(prompt="other", seed="7"))
    assert fingerprint_of(caught.value) == claim.fingerprint
    assert "1" not in known


def test_a_task_that_turned_out_to_be_anothers_stays_its() -> None:
    """The Run whose answer was wrong cannot verify it, though the inputs are equal."""
    known = KnownTasks()
    claim = claimed(known)
    known.add("1")
    with pytest.raises(SubmissionUnknown):
        claim.verify(recorded())
    assert "1" in known


def test_a_claimed_task_is_free_for_a_search_if_it_cannot_be_the_claimants() -> None:
    """Else it is taken; a task that nobody has named is free."""
    known = KnownTasks()
    claimed(known)
    assert known.is_free(recorded("2"))
    assert not known.is_free(recorded())
    assert known.is_free(recorded(prompt="other"))


def test_a_thousand_claims_keep_their_payloads() -> None:
    """The next one takes the oldest's."""
    known = KnownTasks()
    oldest = weakref.ref(claimed(known, "oldest"))
    for number in range(999):
        claimed(known, str(number))
    gc.collect()
    assert oldest() is not None
    claimed(known, "newest")
    gc.collect()
    assert oldest() is None


def test_a_claim_shows_no_inputs() -> None:
    """They are the user's."""
    assert "waves" not in repr(claimed(KnownTasks()))


class Digested(dict[str, Any]):
    """Inputs that note what a digest takes out of them."""

    def __init__(self, **inputs: Any) -> None:
        super().__init__({**SENT, **inputs})
        self.taken: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.taken.append(name)
        return super().get(name, default)


def test_a_run_without_doubt_is_never_digested() -> None:
    """A claim that is verified costs no SHA-256; in doubt one does for all that is asked."""
    payload, known = Digested(), KnownTasks()
    claim = Claim(known, MODEL, payload, NOW, NOW + 85)
    known.add("1", claim)
    claim.verify(recorded())
    assert payload.taken == []
    assert claim.fingerprint is claim.fingerprint
    assert sorted(payload.taken) == ["callbackUrl", "images", "prompt", "seed"]


def test_claims_that_nobody_verifies_keep_no_payload() -> None:
    """But the newest thousand of them; the older ones are known by their fingerprints, as well."""
    known = KnownTasks()
    oldest = claimed(known, "0")
    known.add("1")
    payload = weakref.ref(claimed(known, "2", images=[]))
    claimed(known, "certain").verify(recorded("certain"))
    for number in range(1000):
        claimed(known, str(number + 3))
    gc.collect()
    assert payload() is None
    assert not known.is_free(recorded("0"))
    assert known.is_free(recorded("0", prompt="other"))
    assert known.confirm("0", oldest)


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Thu, 01 Jan 1970 00:10:00 GMT", (590.0, 601.0)),
        ("Thu, 01 Jan 1970 00:10:00 -0000", (590.0, 601.0)),
        ("", None),
        ("soon", None),
    ],
)
def test_a_date_bounds_how_far_the_clocks_differ(date: str, skew: tuple[float, float] | None) -> None:
    """It has whole seconds, and was written some time between the question and the reply."""
    assert Skew.told(date, 0.0, 10.0) == skew


def test_a_doubt_without_a_quiet_time_gives_none() -> None:
    """Only one that is known says from when on the list can tell."""
    known = Claim(KnownTasks(), MODEL, SENT, NOW, NOW + 85).disown("", "reset")
    assert "can be told from" in known.message
    fingerprint = fingerprint_of(known)._replace(quiet_at=math.inf)
    assert "can be told from" not in unknown(fingerprint, "reset").message


# -- tasks that nobody knows -----------------------------------------------------------------------------


def stranger(task_id: str, model: str = "", callback: str = "", **inputs: Any) -> Task:
    """Return a task that notes what is digested of it."""
    return Task(
        id=task_id, status="task_queue", parameters=Digested(**inputs), model=model, callback_url=callback
    )


def taken(strangers: Strangers, model: str = MODEL, **inputs: Any) -> str | None:
    """Return the id of the task that is taken for a Run of *inputs*."""
    task = strangers.take(RunFingerprint.of(model, {**SENT, **inputs}, NOW, NOW + 85))
    return None if task is None else task.id


def test_a_stranger_is_taken_once() -> None:
    """Of equal ones the first; a task of no model that is told is the first Run's, whatever its model."""
    strangers = Strangers(
        [
            stranger("of another model", "google/veo-3"),
            stranger("with a callback", MODEL, "https://e.org"),
            stranger("other inputs", MODEL, prompt="calm"),
            Task(id="no inputs", status="task_queue", model=MODEL),
            stranger("first", MODEL),
            stranger("of any model"),
            stranger("last", MODEL),
        ]
    )
    assert taken(strangers) == "first"
    assert taken(strangers, "kling/kling-2") == "of any model"
    assert [taken(strangers), taken(strangers)] == ["last", None]
    assert taken(strangers, prompt="calm") == "other inputs"
    assert taken(strangers, "google/veo-3") == "of another model"
    assert strangers
    only = Strangers([stranger("only", MODEL)])
    assert (taken(only), bool(only)) == ("only", False)


def test_a_stranger_is_digested_once_for_all_runs_of_a_kind() -> None:
    """A model and the names of inputs are a kind; the digests of sixteen kinds are kept."""
    task = stranger("1", prompt="calm")
    assert isinstance(task.parameters, Digested)
    strangers, counts = Strangers([task]), []
    for names in ([], [], ["x0"], [], [f"x{number}" for number in range(16)], []):
        for name in names or ["seed"]:
            inputs: dict[str, Any] = {name: 6}
            taken(strangers, **inputs)
        counts.append(task.parameters.taken.count("prompt"))
    assert counts == [1, 1, 2, 2, 17, 18]
