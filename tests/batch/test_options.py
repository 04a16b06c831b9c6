"""The options of batches: known to type checkers and checked, each with its rule, and documented."""

from __future__ import annotations

import inspect
import re
import typing
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.batches import Databases, Service, batch_of, jobs
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import client
from wiro_async import BatchOptions, Client, ConfigurationError, InvalidInput, JournalReader, MapOptions
from wiro_async._batch.options import BatchSettings

NAN = float("nan")

FUNCTION = "a function, or None"
PATH = "a path, or None"
SECONDS = "a number of seconds, or None"
BELOW = "a non-negative number of seconds, or None: of what is left of a deadline, give max(left, 0)"
TRUTH = "True or False"
USD = "a non-negative amount in USD"

REFUSED: dict[str, list[tuple[object, str]]] = {
    "journal": [(5, PATH), (b"a.db", PATH)],
    "key": [("sku", FUNCTION)],
    "model": [(value, "a non-empty string, or None") for value in (5, "")],
    "concurrency": [(value, "a whole number of at least 1") for value in (0, -1, 1.5, True, None, "many")],
    "max_cost": [(value, USD) for value in ("much", -1, NAN, float("inf"), True, b"1", Decimal("sNaN"))],
    "download": [(5, PATH)],
    "delete_remote": [(1, TRUTH), (None, TRUTH)],
    "overwrite": [(1, TRUTH), (None, TRUTH)],
    "ordered": [(1, TRUTH), ("no", TRUTH)],
    "fail_fast": [(1, TRUTH)],
    "retry_failed": [(value, "a whole number of at least 0") for value in (-1, True, None, 1.0)],
    "breaker": [(value, "a whole number of at least 1") for value in (0, 1.5, "20", True)],
    "canary": [(value, "a whole number of at least 0") for value in (-1, None, "3")],
    "timeout": [("1", SECONDS), (True, SECONDS), (NAN, SECONDS), (-1, BELOW)],
    "on_unknown": [("maybe", "'raise' or 'resubmit'"), (None, "'raise' or 'resubmit'")],
    "check": [(value, "True, False, 'strict' or None") for value in ("no", 2)],
    "stop_on_exit": [("kill", "'leave' or 'stop'"), (True, "'leave' or 'stop'")],
    "on_progress": [(5, FUNCTION)],
    "total": [(value, "a whole number of at least 0") for value in (1.5, -1, "7", True)],
    "memo": [(5, "a JSON object, or None"), ([], "a JSON object, or None")],
}
"""Values that each option does not take, and what is said of them."""

TAKEN: dict[str, list[object]] = {
    "journal": [None, "a.db", Path("a.db")],
    "key": [None, str],
    "model": [None, "owner/model"],
    "concurrency": ["auto", 1, 10_000],
    "max_cost": [None, 0, 2.5, "3.50", Decimal(3)],
    "download": [None, "clips", Path("clips"), "clips/{key}-{n}{ext}"],
    "delete_remote": [False],
    "overwrite": [True, False],
    "ordered": [True, False],
    "fail_fast": [True, False],
    "retry_failed": [0, 3],
    "breaker": [None, 1, 20],
    "canary": [0, 3],
    "timeout": [None, 0, 0.5, 600, float("inf")],
    "on_unknown": ["raise", "resubmit"],
    "check": [None, True, False, "strict"],
    "stop_on_exit": ["leave", "stop"],
    "on_progress": [None, print],
    "total": [None, 0, 1_000_000],
    "memo": [None],
}
"""Values that each option takes by itself."""


def make(**options: Any) -> None:
    """Make a batch."""
    client(Service()).batch(**options)


# -- the two forms ---------------------------------------------------------------------------------------


def test_type_checkers_know_what_is_checked() -> None:
    """The same names, and the same types, but for an amount, which may come in several."""
    promised = typing.get_type_hints(BatchOptions)
    checked = typing.get_type_hints(BatchSettings)
    assert set(promised) == {field.name for field in attrs.fields(BatchSettings)}
    assert promised.pop("max_cost") == Decimal | float | str | None
    assert checked.pop("max_cost") == Decimal | None
    assert promised == checked


def test_every_option_may_be_left_out() -> None:
    """The batch then has its defaults."""
    assert BatchOptions.__required_keys__ == MapOptions.__required_keys__ == frozenset()
    assert BatchSettings().breaker == 20
    make()


def test_map_has_all_options_but_the_model() -> None:
    """That is its first argument."""
    assert set(typing.get_type_hints(BatchOptions)) - set(typing.get_type_hints(MapOptions)) == {"model"}


@pytest.mark.parametrize("method", [Client.batch, Client.map])
def test_the_calls_take_these_options(method: Any) -> None:
    """And type checkers see them one by one."""
    options = inspect.signature(method, eval_str=False).parameters["options"]
    expected = "BatchOptions" if method is Client.batch else "MapOptions"
    assert options.annotation == f"Unpack[{expected}]"


def test_every_option_is_documented() -> None:
    """In the place where its type is written, in the same order; and nothing else is."""
    documented = {}
    for options in (MapOptions, BatchOptions):
        _, _, attributes = (inspect.getdoc(options) or "").partition("Attributes:\n")
        documented[options] = re.findall(r"^    (\w+): \S", attributes, re.MULTILINE)
    assert documented[MapOptions] == list(MapOptions.__annotations__)
    assert documented[BatchOptions] == ["model"]


# -- the checks ------------------------------------------------------------------------------------------


def test_every_option_has_its_cases() -> None:
    """So that a new one cannot be forgotten here."""
    assert set(REFUSED) == set(TAKEN) == set(typing.get_type_hints(BatchOptions))


@pytest.mark.parametrize(
    ("name", "value", "rule"), [(name, *case) for name, cases in REFUSED.items() for case in cases]
)
def test_values_that_cannot_work_are_refused(name: str, value: object, rule: str) -> None:
    """Before anything is read or opened; the message has the name, the value and the rule."""
    with pytest.raises(ConfigurationError) as caught:
        make(**{name: value})
    assert str(caught.value) == f"{name} is {value!r}; it must be {rule}"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in TAKEN for value in TAKEN[name]])
def test_values_that_can_work(name: str, value: object) -> None:
    """As numbers, texts and paths."""
    make(**{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memo": {}}, "memo needs a journal to be kept in; pass journal="),
        ({"delete_remote": True}, "delete_remote is for outputs that were saved; .* download="),
        ({"download": "clips/{sku}-{n}"}, "has the field 'sku'; the fields are ext, key"),
        ({"download": "clips/{n}"}, "would put several outputs into one file"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    """The message says what is missing."""
    with pytest.raises(ConfigurationError, match=message):
        make(**options)


def test_what_is_no_option_is_no_argument() -> None:
    """A name that was mistyped is not left out silently."""
    with pytest.raises(TypeError, match="retries"):
        make(retries=3)


# -- the memo --------------------------------------------------------------------------------------------


async def memo_of(path: Path) -> dict[str, Any]:
    async with JournalReader(path) as journal:
        return dict(await journal.memo())


async def test_a_memo_is_kept_in_the_journal(tmp_path: Path, databases: Databases) -> None:
    """A batch that is resumed without one leaves it there; another takes its place, an empty one too."""
    path = tmp_path / "a.db"
    given: list[tuple[dict[str, Any], object]] = [
        ({}, {}),
        ({"memo": {"by": "me", "n": [1]}}, {"by": "me", "n": [1]}),
        ({}, {"by": "me", "n": [1]}),
        ({"memo": None}, {"by": "me", "n": [1]}),
        ({"memo": {"by": "you"}}, {"by": "you"}),
        ({"memo": {}}, {}),
    ]
    for options, kept in given:
        async with batch_of(Service(), jobs("a"), journal=path, **options) as batch:
            await batch.wait()
        assert await memo_of(path) == kept


async def test_a_memo_is_there_from_the_beginning(tmp_path: Path, databases: Databases) -> None:
    """Whatever ends the batch."""
    async with batch_of(Service(), jobs("a"), journal=tmp_path / "a.db", memo={"by": "me"}):
        pass
    assert await memo_of(tmp_path / "a.db") == {"by": "me"}


async def test_a_memo_that_is_no_json_is_told_on_entering(tmp_path: Path, databases: Databases) -> None:
    """Nothing was begun, and the journal keeps the one that it had."""
    path = tmp_path / "a.db"
    for memo, error in (({"n": 1}, None), ({"n": object()}, InvalidInput)):
        async with client(Service()) as own:
            batch = own.batch(jobs("a"), journal=path, memo=memo)
            if error is None:
                async with batch:
                    pass
            else:
                with pytest.raises(error, match="object"):
                    await batch.__aenter__()
    assert await memo_of(path) == {"n": 1}
