"""The journal's rules: which step follows which, keys, inputs, and values as columns."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.fakes import task
from tests.journals import MODEL, intended
from wiro_async import InvalidInput, JournalCounts, JournalEntry, JournalFile, RateLimited, Secret
from wiro_async._journal import steps
from wiro_async._journal.steps import (
    Accepted,
    Blob,
    Done,
    Doubted,
    Ended,
    Learned,
    LocalFile,
    Released,
    Saved,
    Step,
    described,
    key_of,
)
from wiro_async._protocol.records import parse_task

STEPS: tuple[Step, ...] = (
    intended("k"),
    Accepted("k", "7"),
    Released("k", "RateLimited"),
    Doubted("k", "ReadTimeout"),
    Ended("k", "succeeded"),
    Ended("k", "failed"),
    Ended("k", "cancelled"),
    Saved("k", 0, "/clips/0.mp4", 10, "ab"),
    Done("k"),
)

# -- records ---------------------------------------------------------------------------------------------


def test_an_error_is_recorded_by_class_and_message() -> None:
    """Both are what a person asks for later."""
    assert Released.of("k", RateLimited("slow down")) == Released("k", "RateLimited", "slow down")


OUTPUT = {"name": "0.mp4", "url": "https://cdn1.wiro.ai/0.mp4", "size": "3", "contenttype": "video/mp4"}


def test_an_end_is_recorded_as_the_service_tells_it() -> None:
    """Until it tells the charge, the estimate counts; a success has no reason."""
    told = task(
        "2221", "task_postprocess_end", pexit="0", totalcost="0.35", outputs=[OUTPUT], debugoutput="x"
    )
    file = JournalFile(0, "0.mp4", "https://cdn1.wiro.ai/0.mp4", "video/mp4", 3)
    ended = Ended.of("k", parse_task(told), Decimal("0.28"))
    assert ended == Ended("k", "succeeded", None, Decimal("0.35"), None, "", (file,))
    ended = Ended.of("k", parse_task({**told, "totalcost": "0"}), Decimal("0.28"))
    assert ended == Ended("k", "succeeded", None, Decimal("0.28"), None, "", (file,), cost_final=False)
    told = task(
        "2221", "task_postprocess_end", pexit="1", debugoutput="no face", postprocessendtime="1700000000"
    )
    assert Ended.of("k", parse_task(told), None) == Ended(
        "k", "failed", 1.7e9, reason="no face", cost_final=False
    )


def test_neither_inputs_nor_tokens_are_in_a_repr() -> None:
    """They may be somebody's secrets."""
    wanted, token = intended("k", prompt="canary-prompt"), Secret("canary-token")
    entry = JournalEntry(
        key="k",
        inputs=wanted.inputs,
        state="intended",
        attempt=1,
        fingerprint=wanted.fingerprint,
        token=token,
    )
    shown = (wanted, entry, Accepted("k", "7", token), Learned("batch", {"options": "canary"}))
    assert "canary" not in repr(shown)
    assert entry.model == MODEL


def test_counts_add_up() -> None:
    """The total is of all states."""
    assert JournalCounts({"done": 3, "failed": 1}, Decimal(1)).total == 4


def test_an_end_knows_nothing_it_was_not_told() -> None:
    """Cost and time of a cancelled task are unknown, not zero."""
    assert (Ended("k", "cancelled", 1.0).cost, Ended("k", "cancelled", 1.0).elapsed) == (None, None)


def test_only_inputs_and_data_are_texts() -> None:
    """All else goes into columns of its own."""
    assert steps.text_of(intended("k", seed=6)) == '{"seed":6}'
    assert steps.text_of(Learned("prices", {"a": 1})) == '{"a":1}'
    assert {steps.text_of(step) for step in STEPS[1:]} == {""}


# -- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 6}, {"n": "6"}),
        ({"n": 6}, {"n": 6.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x": (1,)}, {"x": [1]}),
    ],
)
def test_inputs_that_the_service_cannot_tell_apart_have_one_key(one: Any, other: Any) -> None:
    """A job list that went from JSON to CSV is not paid for again."""
    assert key_of(MODEL, one) == key_of(MODEL, other)
    assert key_of(MODEL, one) == key_of(MODEL.lower(), one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 6}, {"n": 7}),
        ({"f": "a.jpg"}, {"f": Path("a.jpg")}),
        ({"f": b"a"}, {"f": b"b"}),
        ({"f": b"a"}, {"f": "a"}),
        ({"a": 1}, {"a": 1, "b": 2}),
    ],
)
def test_other_inputs_have_another_key(one: Any, other: Any) -> None:
    """And so have another model, and another occurrence."""
    assert key_of(MODEL, one) != key_of(MODEL, other)
    assert key_of(MODEL, one) != key_of("o/m", one)
    assert key_of(MODEL, one) != key_of(MODEL, one, 1)


def test_a_key_stays_what_it_was() -> None:
    """A journal of today is understood by the versions to come."""
    assert key_of("o/m", {"prompt": "waves", "seed": 6}) == "00a1662eda2ce3574fd478d9188849e5-0"


@pytest.mark.parametrize("key", ["", "x" * 501, "a\0b", "\ud800", True, 1.5, None])
def test_what_cannot_be_a_key_is_refused(key: Any) -> None:
    """With the input's name."""
    with pytest.raises(InvalidInput) as caught:
        steps.check_key(key)
    assert caught.value.name == "key"


def test_what_can_be_a_key_is_taken() -> None:
    """Any other text, and whole numbers as their text."""
    for key in ("a", "x" * 500, "größe 1/2", "🌊"):
        assert steps.check_key(key) == key
    assert steps.check_key(5) == "5"


# -- inputs ----------------------------------------------------------------------------------------------


NAMES = st.text(max_size=5) | st.sampled_from(["$path", "$$path", "$sha256", "$size", "$path_hex", "$"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES
)
FILES = st.builds(LocalFile, NAMES) | st.builds(Blob, st.text("abc", max_size=4), st.integers(0, 9))
VALUES = st.recursive(
    SCALARS | FILES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@examples(60)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_inputs_come_back_as_they_were_recorded(inputs: dict[str, Any]) -> None:
    """Whatever names they have: no mapping of the caller's can be taken for a file."""
    assert steps.recalled(steps.recorded(inputs)) == inputs
    assert described(inputs) == inputs
    assert key_of(MODEL, described(inputs)) == key_of(MODEL, inputs)


def test_files_come_back_by_path_and_bytes_by_digest() -> None:
    """A path can be submitted again; bytes are only the caller's."""
    told = described({"a": PurePosixPath("x/a.jpg"), "b": b"abc", "c": bytearray(b"abc")})
    blob = Blob("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3)
    assert told == {"a": LocalFile("x/a.jpg"), "b": blob, "c": blob}


@pytest.mark.parametrize("name", ["caf\udce9.jpg", b"caf\xe9.jpg"])
def test_a_path_that_is_no_text_comes_back(name: str | bytes) -> None:
    """Names of files are bytes."""

    class Odd:
        def __fspath__(self) -> str | bytes:
            return name

    file = described({"f": Odd()})["f"]
    assert file == LocalFile("caf\udce9.jpg")
    assert file.__fspath__() == "caf\udce9.jpg"


def test_inputs_that_cannot_be_recorded_are_refused_with_their_place() -> None:
    """Open files, endless nesting, inputs that hold themselves, and what is no JSON."""
    nested: Any = "x"
    for _ in range(70):
        nested = [nested]
    circle: dict[str, Any] = {}
    circle["again"] = circle
    ring: list[Any] = []
    ring.append(ring)
    with Path(__file__).open("rb") as file:
        for inputs, hint in (
            ({"x": {"f": file}}, r"inputs\.x\.f is an open file"),
            ({"x": nested}, "nested deeper than 64 levels"),
            (circle, r"^inputs\.again\.again\..* is nested deeper than 64 levels"),
            ({"x": ring}, r"^inputs\.x\[0\]\[0\].* is nested deeper than 64 levels"),
            ({"x": {1, 2}}, r"inputs\.x is a set"),
            ({"x": float("nan")}, r"inputs\.x"),
        ):
            with pytest.raises(InvalidInput, match=hint):
                described(inputs)


# -- columns ---------------------------------------------------------------------------------------------


@examples(60)
@given(st.text())
def test_text_from_the_wire_can_always_be_stored(text: str) -> None:
    """Whole characters stay as they are."""
    cleaned = steps.clean(text + "\ud800")
    assert cleaned == text.encode("utf-8", "replace").decode() + "?"
    assert steps.clean("abc", 2) == "ab"


@examples(60)
@given(st.text(st.characters(codec=None)))
def test_any_path_comes_back(path: str) -> None:
    """As text where it is some, as bytes where not."""
    stored = steps.path_value(path)
    assert steps.path_of(stored) == path
    assert isinstance(stored, str) is (steps.clean(path) == path)


@pytest.mark.parametrize(
    ("told", "kept"), [(0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None), (None, None)]
)
def test_sizes_that_cannot_be_are_unknown(told: int | None, kept: int | None) -> None:
    """SQLite has 64 bits."""
    assert steps.whole(told) == kept


@pytest.mark.parametrize(
    ("told", "kept"), [(1, 1.0), (float("nan"), None), (float("-inf"), None), (None, None), (6.5, 6.5)]
)
def test_times_that_cannot_be_are_unknown(told: float | None, kept: float | None) -> None:
    """Not a number is no time."""
    assert steps.seconds(told) == kept


@examples(60)
@given(st.decimals(min_value=0, max_value=9_000_000, places=12))
def test_amounts_are_kept_exactly(cost: Decimal) -> None:
    """To the service's twelve decimals."""
    amount = steps.picos(cost)
    assert amount is not None
    assert steps.usd(amount) == cost


@pytest.mark.parametrize(
    ("cost", "kept"),
    [
        (None, None),
        (Decimal("NaN"), None),
        (Decimal("-Infinity"), None),
        (Decimal("1e999999"), 2**63 - 1),
        (Decimal("9223372.036854775808"), 2**63 - 1),
        (Decimal("9223372.036854775807"), 2**63 - 1),
        (Decimal("9223372.036854775806"), 2**63 - 2),
        (Decimal("-1e30"), 0),
        (Decimal("-0.35"), 0),
        (Decimal("0.0000000000005"), 0),
        (Decimal("0.00000000000051"), 1),
    ],
)
def test_amounts_that_do_not_fit_err_on_the_safe_side(cost: Decimal | None, kept: int | None) -> None:
    """What is too much for 64 bits stays very much, below 0 is 0; what is no number is not known."""
    assert steps.picos(cost) == kept
