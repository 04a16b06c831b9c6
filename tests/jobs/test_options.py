"""The options of submit() and run(): what type checkers, the documentation and the checks say is the same."""

from __future__ import annotations

import inspect
import math
import re
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs
import pytest

from tests.batches import MODEL, Service
from tests.fakes import client
from wiro_async import Client, ConfigurationError, InvalidInput, RunOptions, SubmitOptions
from wiro_async._jobs.options import DEFAULTS, CallSettings

SUBMIT = get_type_hints(SubmitOptions)
RUN = get_type_hints(RunOptions)


def test_both_forms_have_the_same_options_and_types() -> None:
    """One for type checkers, one with the checks."""
    checked, promised = get_type_hints(CallSettings), dict(RUN)
    assert checked.pop("max_cost") == Decimal | None, "an amount may come in several types"
    assert promised.pop("max_cost") == Decimal | float | str | None
    assert checked == promised
    assert SUBMIT.items() < RUN.items()
    assert RUN.keys() - SUBMIT.keys() == {"timeout", "on_cancel"}
    assert not RunOptions.__required_keys__


@pytest.mark.parametrize(("method", "options"), [(Client.submit, SubmitOptions), (Client.run, RunOptions)])
def test_the_public_methods_take_them(method: Any, options: type[Any]) -> None:
    """By name, and their documentation says where they are listed."""
    parameter = inspect.signature(method).parameters["options"]
    assert parameter.kind is inspect.Parameter.VAR_KEYWORD
    assert options.__name__ in str(parameter.annotation)
    assert f"**options: See ``{options.__name__}``" in (inspect.getdoc(method) or "")


def documented(options: type[Any]) -> dict[str, str]:
    """Return what the documentation says of each option."""
    _, _, listed = (inspect.getdoc(options) or "").partition("Attributes:\n")
    entries = re.split(r"^    (?=\w+: )", listed, flags=re.MULTILINE)[1:]
    return {name: " ".join(said.split()) for name, _, said in (entry.partition(":") for entry in entries)}


def test_every_option_is_documented() -> None:
    """In its own order; where None stands for something, it is said what for."""
    told = documented(SubmitOptions) | documented(RunOptions)
    assert list(documented(SubmitOptions)) == list(SUBMIT)
    assert list(documented(RunOptions)) == [name for name in RUN if name not in SUBMIT]
    for field in attrs.fields(CallSettings):
        if field.name == "callback_url":
            assert field.default is None, "without one there is no callback"
        elif field.default is None:
            assert re.search(r"None: |defaults to ", told[field.name]), field.name
        elif get_origin(RUN[field.name]) is Literal:
            for choice in get_args(RUN[field.name]):
                assert f'``"{choice}"``' in told[field.name], field.name


def test_the_defaults_are_those_of_a_call_without_options() -> None:
    """Which shares one record with all others."""
    assert CallSettings() == DEFAULTS
    assert attrs.asdict(DEFAULTS) == dict.fromkeys(RUN, None) | {"on_unknown": "raise", "on_cancel": "keep"}


SECONDS = "it must be a number of seconds, or None"
NOT_SECONDS: list[Any] = [math.nan, "30", True, [1]]
BELOW = (
    "it must be a non-negative number of seconds, or None: of what is left of a deadline, give max(left, 0)"
)

REFUSED: list[tuple[str, Any, str]] = [
    *((name, -1.0, BELOW) for name in ("slot_timeout", "expected_duration", "timeout")),
    *(("slot_timeout", value, SECONDS) for value in NOT_SECONDS),
    *(("expected_duration", value, SECONDS) for value in NOT_SECONDS),
    *(("timeout", value, SECONDS) for value in NOT_SECONDS),
    *(("on_unknown", value, "it must be 'raise' or 'resubmit'") for value in ("retry", None, ["raise"])),
    *(("on_cancel", value, "it must be 'keep' or 'stop'") for value in ("leave", None, True)),
    *(("watch", value, "it must be None, 'auto', 'socket'") for value in ("push", "", ["poll"])),
    *(("check", value, "it must be True, False, 'strict' or None") for value in ("no", 2, ["strict"])),
    *(("project_id", value, "it must be a non-empty string, or None") for value in ("", 699, ["a"])),
    *(("max_cost", value, "it must be a non-negative amount in USD") for value in (-1, "much", math.nan)),
    *(("allow_unpriced", value, "it must be True or False, or None") for value in (1, "yes")),
]


@pytest.mark.parametrize(("name", "value", "rule"), REFUSED)
async def test_an_option_that_cannot_work_is_refused_before_anything_is_sent(
    name: str, value: Any, rule: str
) -> None:
    """The message has its name, its value, and the rule."""
    service = Service()
    options = {name: value}
    async with client(service) as own:
        for method in (own.submit, own.run) if name in SUBMIT else (own.run,):
            with pytest.raises(ConfigurationError) as caught:
                await method(MODEL, {"prompt": "a"}, **options)
            assert str(caught.value).startswith(f"{name} is {value!r}; {rule}")
    assert not service.calls


def test_every_option_has_a_check() -> None:
    """But for the callback's address: inputs can have it too, so it is checked with these."""
    assert {name for name, _, _ in REFUSED} == RUN.keys() - {"callback_url"}


@pytest.mark.parametrize("url", ["host/done", "ftp://host/done", "", 5])
async def test_a_callback_goes_to_a_web_address(url: Any) -> None:
    """Given as an option or among the inputs. The address may hold a secret, so it is not repeated."""
    service = Service()
    async with client(service) as own:
        for inputs, options in (({}, {"callback_url": url}), ({"callbackUrl": url}, {})):
            with pytest.raises(InvalidInput, match="callback_url must be an http or https URL") as caught:
                await own.submit(MODEL, {"prompt": "a", **inputs}, **options)
            assert caught.value.name == "callback_url"
        with pytest.raises(InvalidInput, match="callbackUrl is given twice"):
            await own.submit(MODEL, {"callbackUrl": "https://host/a"}, callback_url="https://host/b")
    assert not service.calls


async def test_an_option_that_there_is_none_of_is_refused() -> None:
    """As Python refuses it."""
    wrong: Any = {"slot_timeot": 5}
    async with client(service := Service()) as own:
        with pytest.raises(TypeError, match="slot_timeot"):
            await own.submit(MODEL, {"prompt": "a"}, **wrong)
    assert not service.calls


@pytest.mark.parametrize(
    "options",
    [
        {"slot_timeout": math.inf, "timeout": 0, "expected_duration": 0},
        {
            "watch": "poll",
            "on_unknown": "resubmit",
            "on_cancel": "stop",
            "project_id": "699",
            "check": "strict",
        },
        dict.fromkeys(("slot_timeout", "timeout", "expected_duration", "watch", "project_id", "check")),
    ],
)
def test_what_can_work_is_taken(options: dict[str, Any]) -> None:
    """Infinity waits forever, zero is over at once, and None is the default."""
    assert attrs.asdict(CallSettings(**options)) == attrs.asdict(DEFAULTS) | options


@pytest.mark.parametrize(
    ("method", "arguments", "wrong"),
    [
        ("submit", (MODEL, {"prompt": "a"}), "timeout"),
        ("run", (MODEL, {"prompt": "a"}), "journal"),
        ("batch", (), "on_cancel"),
        ("map", (MODEL, [{"prompt": "a"}]), "model_name"),
    ],
)
async def test_an_option_that_a_method_does_not_have_is_refused(
    method: str, arguments: tuple[Any, ...], wrong: str
) -> None:
    """By the method's own name, and with those that it has; nothing is sent."""
    service = Service()
    async with client(service) as own:
        with pytest.raises(
            TypeError, match=rf"^{method}\(\) got an unexpected .*'{wrong}'; its options are "
        ):
            await getattr(own, method)(*arguments, **{wrong: 1})
    assert not service.calls
