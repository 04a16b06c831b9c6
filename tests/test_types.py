"""The shared vocabulary: statuses by their wire names, and strings that do not show themselves."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import sys
import traceback
from collections.abc import Callable

import attrs
import pytest

from tests.strategies import TOKEN
from wiro_async import Secret, Status
from wiro_async._types import Payload

SURFACES: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "f-string": lambda secret: f"{secret}",
    "f-string with !r": lambda secret: f"{secret!r}",
    "percent s": lambda secret: "%s" % secret,  # noqa: UP031 - this form is what is tested
    "percent r": lambda secret: "%r" % secret,  # noqa: UP031 - this form is what is tested
    "list": lambda secret: repr([secret]),
    "dict": lambda secret: repr({"key": secret}),
    "exception": lambda secret: repr(ValueError(secret)) + str(ValueError(secret)),
    "dir": lambda secret: repr(dir(secret)),
    "json": lambda secret: json.dumps({"a": secret}, default=repr),
    "copy": lambda secret: repr(copy.copy(secret)) + repr(copy.deepcopy([secret])),
    "hash": lambda secret: str(hash(secret)),
}


@pytest.mark.parametrize("surface", SURFACES)
def test_a_secret_is_not_shown(surface: str) -> None:
    """Whatever turns a secret into text turns it into stars."""
    assert TOKEN not in SURFACES[surface](Secret(TOKEN))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_does_not_carry_a_secret(protocol: int) -> None:
    """The text stays behind, and what comes out says so when it is asked."""
    pickled = pickle.dumps({"token": Secret(TOKEN)}, protocol)
    assert TOKEN.encode() not in pickled
    with pytest.raises(ValueError, match="came out of a pickle, which never carries the text; fetch it anew"):
        pickle.loads(pickled)["token"].reveal()


def test_a_log_record_does_not_carry_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Logging a secret writes stars."""
    logging.getLogger("test").warning("the key is %s, that is %r", Secret(TOKEN), Secret(TOKEN))
    assert "Secret('**********')" in caplog.text
    assert TOKEN not in caplog.text


def test_a_traceback_with_locals_does_not_show_a_secret() -> None:
    """Tools that print local variables print stars."""

    def fail(secret: Secret) -> None:
        raise RuntimeError(f"with {secret}")

    try:
        fail(Secret("".join(reversed(TOKEN))))
    except RuntimeError:
        kind, error, trace = sys.exc_info()
        assert kind is not None
        assert error is not None
        shown = "".join(traceback.TracebackException(kind, error, trace, capture_locals=True).format())
    assert "Secret('**********')" in shown
    assert TOKEN[::-1] not in shown


def test_a_secret_has_no_dict_and_no_format() -> None:
    """``vars`` and format specifications, which would go round the repr, are refused."""
    with pytest.raises(TypeError):
        vars(Secret(TOKEN))
    with pytest.raises(TypeError, match="format string"):
        format(Secret(TOKEN), ">40")
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(Secret(TOKEN))


def test_a_secret_is_not_unfolded() -> None:
    """It is made by attrs, but what shows or copies the fields of attrs classes does not know that."""

    @attrs.frozen
    class Record:
        token: Secret

    record = Record(Secret(TOKEN))
    assert not attrs.has(Secret)
    assert attrs.asdict(record) == {"token": Secret(TOKEN)}
    assert TOKEN not in repr((attrs.asdict(record), attrs.astuple(record), record))
    assert not hasattr(Secret, "__match_args__")


def test_a_secret_cannot_be_changed() -> None:
    """It can be a key of a mapping."""
    with pytest.raises(AttributeError):
        Secret(TOKEN)._value = "another"  # type: ignore[misc]


def test_a_secret_is_revealed_when_asked_by_name() -> None:
    """``reveal`` gives the text, and secrets compare by it."""
    assert Secret(TOKEN).reveal() == TOKEN
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") not in ("a", b"a", None)  # type: ignore[comparison-overlap]
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_status_equals_its_wire_name() -> None:
    """Members and plain strings can be mixed, in comparisons and as keys."""
    wire: str = "task_cancel"
    known: dict[str, int] = {Status.CANCEL: 1}
    assert wire == Status.CANCEL
    assert known[wire] == 1
    assert f"{Status.OUTPUT_FULL}" == "task_output_full"
    assert all(status.value == f"task_{status.name.lower()}" for status in Status)
    assert len(Status) == 17


def test_a_payloads_repr_tells_its_keys_only() -> None:
    """Values may be tokens, so a traceback that shows a payload shows what it was about and no more."""
    payload = Payload(tasktoken=TOKEN, inputs={"deep": TOKEN})
    assert repr(payload) == str(payload) == "<Payload inputs tasktoken>"
    assert repr(Payload({str(number): 0 for number in range(1000)})).count(" ") == 20
    assert payload == {"tasktoken": TOKEN, "inputs": {"deep": TOKEN}}
    assert json.loads(json.dumps(payload))["tasktoken"] == TOKEN
