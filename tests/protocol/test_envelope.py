"""The envelope: what means yes, what each refusal is, and that nothing else ever comes out."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.strategies import NASTY, TOKEN, json_values, sample
from wiro_async import (
    APIError,
    AuthenticationError,
    ConcurrencyLimited,
    InsufficientBalance,
    InvalidInput,
    InvalidResponse,
    InvalidTaskState,
    ModelNotFound,
    RateLimited,
    ServiceError,
    TaskNotFound,
    TermsNotAccepted,
    WiroError,
)
from wiro_async._http.retry import run_knowledge
from wiro_async._protocol.envelope import (
    UNCHANGED,
    Reply,
    encode,
    judge,
    judge_anew,
)
from wiro_async._protocol.refusals import was_believed_too_soon
from wiro_async._types import Payload

NOW = 1734513807.0


def reply(body: object, status: int = 200, operation: str = "Task/Detail", after: str = "") -> Reply:
    """Return a reply with *body*: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(operation, status, raw, after, NOW)


def refusal(body: object, status: int = 200, operation: str = "Task/Detail", after: str = "") -> Any:
    """Return what a reply is judged to be."""
    with pytest.raises(WiroError) as caught:
        judge(reply(body, status, operation, after))
    return caught.value


def wish(header: str) -> float | None:
    """Return the seconds that a Retry-After asks for."""
    seconds: float | None = refusal(b"", 429, after=header).retry_after
    return seconds


def no(code: object, message: object) -> dict[str, Any]:
    """Return the service's usual refusal."""
    return {"result": False, "errors": [{"code": code, "message": message}]}


# -- yes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "detail", "kill", "cancel"])
@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_a_literal_true_is_a_yes(name: str, status: int) -> None:
    """The documents' replies come back as they are, as a payload that does not show its values."""
    payload = judge(reply(sample(name), status))
    assert payload == sample(name)
    assert isinstance(payload, Payload)


@pytest.mark.parametrize("errors", [[], None, "", {}, [{"code": 0, "message": "a warning"}]])
def test_a_yes_with_errors_is_a_yes(errors: object) -> None:
    """``result`` decides, whatever stands in ``errors``."""
    assert judge(reply({"result": True, "errors": errors}))["result"] is True


@pytest.mark.parametrize(
    "body",
    [
        {}, {"errors": []}, {"taskid": "2221"}, {"result": None}, {"result": "true"}, {"result": 1},
        {"result": 1.0}, {"result": "1"}, {"result": [True]}, {"result": {"result": True}},
        {"result": "True"},
        {"result": ""},
        {"result": 0}, {"result": False}, {"result": False, "taskid": "2221"}, {"Result": True},
        {"data": {"result": True}}, {"success": True}, {"result": "false"}, {"result": []},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_nothing_else_is_a_yes(body: dict[str, Any]) -> None:
    """HTTP 200 alone is no success, and neither is what merely looks like ``true``."""
    error = refusal(body)
    assert type(error) is ServiceError
    assert (error.http_status, error.code, error.operation) == (200, None, "Task/Detail")
    assert str(error) == "Task/Detail: refused without a reason"


@pytest.mark.parametrize("status", [400, 404, 500, 502])
def test_a_yes_with_an_error_status_is_a_no(status: int) -> None:
    """Where the two disagree, the reply is not believed."""
    assert type(refusal({"result": True, "errors": [], "taskid": "2221"}, status)) is ServiceError


# -- the service's own refusals --------------------------------------------------------------------------

LIMIT = (
    "You have reached your concurrent task limit. With your current balance of $50.00, you can run up to 5 "
    "tasks at the same time. Add funds to increase your limit."
)

MESSAGES: list[tuple[str, int, int, str, type[WiroError]]] = [
    ("Project authorization is not founded.", 0, 401, "Run", AuthenticationError),
    (
        "Project requires signature authentication. x-signature and x-nonce headers are required.",
        0,
        401,
        "Run",
        AuthenticationError,
    ),
    ("Project authorization is not valid.", 0, 401, "Run", AuthenticationError),
    ("Requested ip 10.0.0.1 is not allowed.", 0, 401, "Run", AuthenticationError),
    ("Project authorization is not valid.", 0, 200, "Task/Detail", AuthenticationError),
    ("Requested ip 10.0.0.1 is not allowed.", 0, 200, "Run", AuthenticationError),
    ("Bearer token is missing.", 99, 401, "Run", AuthenticationError),
    ("Bearer token is missing.", 99, 200, "Run", AuthenticationError),
    ("You don't have any permission for this action.", 0, 403, "Task/Kill", AuthenticationError),
    ("You don't have any permission for this action.", 0, 200, "Task/Kill", ServiceError),
    ("Error parsing url.", 0, 404, "Run", ServiceError),
    (LIMIT, 96, 200, "Run", ConcurrencyLimited),
    (LIMIT, 0, 200, "Run", ConcurrencyLimited),
    ("Insufficient balance", 97, 200, "Run", InsufficientBalance),
    ("Insufficient balance", 0, 200, "Run", InsufficientBalance),
    ("anything", 96, 200, "Run", ConcurrencyLimited),
    ("anything", 97, 200, "Run", InsufficientBalance),
    ("anything", 98, 200, "Run", TermsNotAccepted),
    ("anything", 99, 200, "Run", AuthenticationError),
    ("sign in to run this model", 98, 200, "Run", TermsNotAccepted),
    ("Please sign in to run this model", 0, 200, "Run", TermsNotAccepted),
    ("Request parameter [prompt] required", 0, 200, "Run", InvalidInput),
    ("Request parameter [seed] must be integer or float", 0, 200, "Run", InvalidInput),
    ("Request parameter [seed] must be between 0 and 9", 0, 200, "Run", InvalidInput),
    ("Request files [inputImage] required", 0, 200, "Run", InvalidInput),
    ("Request parameters are invalid.", 0, 200, "Run", InvalidInput),
    ("Request parameters are invalid.", 0, 400, "Run", InvalidInput),
    ("tool-not-accessible", 1, 200, "Run", ModelNotFound),
    ("tool-not-accessible", 0, 200, "Run", ModelNotFound),
    ("slug-owner-project-not-exist", 0, 200, "Tool/Detail", ModelNotFound),
    ("anything", 1, 200, "Run", ModelNotFound),
    ("anything", 1, 200, "Tool/Detail", ModelNotFound),
    ("There is no task yet.", 1, 200, "Task/Detail", TaskNotFound),
    ("There is no task yet.", 0, 200, "Task/List", TaskNotFound),
    ("task-not-exist", 0, 200, "Task/Kill", TaskNotFound),
    ("anything", 1, 200, "Task/Detail", TaskNotFound),
    ("Task is not in a cancellable state.", 1, 200, "Task/Cancel", InvalidTaskState),
    ("Task could not be killed: it has ended", 1, 200, "Task/Kill", InvalidTaskState),
    ("anything", 1, 200, "Task/Cancel", InvalidTaskState),
    ("anything", 1, 200, "Task/Kill", InvalidTaskState),
    ("anything", 1, 200, "File/Upload", ServiceError),
    ("taskid or socketaccesstoken is required", 0, 200, "Task/Kill", ServiceError),
    ("filesystem-already-exist", 0, 200, "File/Upload", ServiceError),
    (
        "Task must be completed or cancelled before deleting files",
        0,
        200,
        "Task/InputOutputDelete",
        ServiceError,
    ),
    ("anything", 0, 200, "Run", ServiceError),
    ("anything", 12345, 200, "Run", ServiceError),
    ("Insufficient balance", 97, 500, "Run", ServiceError),
    ("There is no task yet.", 1, 503, "Task/Detail", ServiceError),
    ("Insufficient balance", 97, 429, "Run", RateLimited),
]


@pytest.mark.parametrize(("message", "code", "status", "operation", "kind"), MESSAGES)
def test_every_known_message_has_its_class(
    message: str, code: int, status: int, operation: str, kind: type[WiroError]
) -> None:
    """The words decide first, then the code, and the service's own words are kept."""
    error = refusal(no(code, message), status, operation)
    assert type(error) is kind
    assert message in str(error)
    assert str(error).startswith(f"{operation}: ")
    if isinstance(error, APIError):
        assert (error.code, error.http_status, error.operation, error.detail) == (
            code,
            status,
            operation,
            message,
        )


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Request parameter [prompt] required", "prompt"),
        ("Request parameters [a b] required", "a b"),
        ("Request files [inputImage] required", "inputImage"),
        ("Request file [x] required", "x"),
        ("Request parameter [] required", None),
        ("Request parameters are invalid.", None),
    ],
)
def test_a_refused_input_is_named(message: str, name: str | None) -> None:
    """So that a form can show the complaint beside its field."""
    assert refusal(no(0, message)).name == name


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_status_of_its_own_meaning_is_no_complaint_about_inputs(status: int) -> None:
    """Whatever the words are like."""
    assert not isinstance(refusal(no(0, "Request files limit reached"), status), InvalidInput)


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        (LIMIT, 5),
        ("You can run up to 1 task at a time: concurrent task limit", 1),
        ("concurrent task limit", None),
        ("concurrent task limit: up to many tasks", None),
        ("concurrent task limit: up to " + "9" * 10 + " tasks", None),
    ],
)
def test_the_concurrency_limit_is_read(message: str, limit: int | None) -> None:
    """The number of tasks in the message, if there is one."""
    error = refusal(no("96", message), operation="Run")
    assert (type(error), error.limit, error.code) == (ConcurrencyLimited, limit, 96)


@pytest.mark.parametrize(
    ("code", "read"),
    [
        (96, 96), ("96", 96), (" 96 ", 96), ("096", 96), (0, 0), ("0", 0), (-3, -3), ("", None), ("x", None),
        ("96.0", None), (96.0, None), (None, None), (True, None), ([], None), ({}, None), ("９６", None),
        ("1" * 7, None), (10**30, 10**30),
    ],
)  # fmt: skip
def test_a_code_is_a_number_or_none(code: object, read: int | None) -> None:
    """As a number or as a string; anything else is no code."""
    error = refusal(no(code, "x"), operation="Run")
    assert error.code == read
    assert type(error) is (ConcurrencyLimited if read == 96 else ServiceError)


@pytest.mark.parametrize(
    ("errors", "code", "detail"),
    [
        ([{"code": 0, "message": "m"}], 0, "m"),
        ([{"code": 0, "message": "m"}, {"code": 97, "message": "n"}], 0, "m"),
        (["m"], None, "m"),
        (["m", {"code": 97}], None, "m"),
        ("m", None, "m"),
        ({"code": "0", "message": "m"}, 0, "m"),
        ([[{"code": 0, "message": "m"}]], 0, "m"),
        ([[["m"]]], None, "m"),
        ([{"message": "m"}], None, "m"),
        ([{"code": 7}], 7, ""),
        ([{"code": 7, "message": None}], 7, ""),
        ([{"code": 7, "message": {"en": "m"}}], 7, ""),
        ([{"code": 7, "message": 7}], 7, ""),
        ([{}], None, ""),
        ([], None, ""),
        ([[]], None, ""),
        ([None], None, ""),
        (None, None, ""),
        ({}, None, ""),
        ("", None, ""),
        (0, None, ""),
        (False, None, ""),
        ([7], None, ""),
        (["  m\r\n\tn  "], None, "m n"),
        (["\x1b[31mred\x07\u202e\ud800"], None, "[31mred"),
    ],
)
def test_errors_of_any_shape_are_read(errors: object, code: int | None, detail: str) -> None:
    """Objects, strings, null, nested lists: the first one is taken, as one printable line."""
    error = refusal({"result": False, "errors": errors}, operation="File/Upload")
    assert (error.code, error.detail) == (code, detail)
    assert str(error) == f"File/Upload: {detail or 'refused without a reason'}"


def test_a_refusal_teaches() -> None:
    """The hint names what to call or to check."""
    assert "client.list_models('word')" in str(refusal(no(1, "x"), operation="Run"))
    assert "stop() picks by itself" in str(refusal(no(1, "x"), operation="Task/Kill"))
    assert "signed or key-only" in str(refusal(no(0, "x"), status=401))
    assert "wait for one of your tasks to end" in str(refusal(no(96, "x"), operation="Run"))


# -- Runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 425, 499])
@pytest.mark.parametrize("words", ["Insufficient balance", "Request parameter [x] required", "anything"])
def test_a_run_that_timed_out_or_met_another_is_no_refusal(status: int, words: str) -> None:
    """Whatever the words are: it may have been taken. Of other calls the words count."""
    error = refusal(no(97, words), status, "Run")
    assert type(error) is ServiceError
    assert run_knowledge(error) == "unknown"
    if words == "Insufficient balance":
        assert type(refusal(no(97, words), status, "Tool/List")) is InsufficientBalance


@pytest.mark.parametrize(
    "words",
    [
        "Request files could not be stored",
        "Request parameters could not be saved: database connection lost",
        "Requests are refused",
        "Could not save: Request parameter [x] required",
    ],
)
def test_words_like_a_validation_s_are_no_refusal(words: str) -> None:
    """Only those that are known to be one."""
    error = refusal(no(0, words), operation="Run")
    assert type(error) is ServiceError
    assert run_knowledge(error) == "unknown"


@pytest.mark.parametrize("status", [200, 400, 409, 500, 503])
@pytest.mark.parametrize("result", [True, False])
def test_a_reply_to_a_run_that_names_a_task_is_about_that_task(status: int, result: bool) -> None:
    """Whatever else it says, if it is in the service's own envelope."""
    body = no(0, "Database connection lost") | {"result": result, "taskid": 2221, "socketaccesstoken": "t"}
    assert judge(reply(body, status, "Run")) == body
    assert type(refusal(body, 429, "Run")) is RateLimited
    for other in (body | {"taskid": ""}, body | {"taskid": None}, body | {"result": None}):
        if status != 200 or not other["result"]:
            assert isinstance(refusal(other, status, "Run"), ServiceError | InvalidResponse)
    if (status, result) != (200, True):
        assert isinstance(refusal(body, status, "Task/Kill"), ServiceError)


@pytest.mark.parametrize(
    ("error", "message", "too_soon"),
    [
        ("ServiceError", "Run: Database connection lost", True),
        ("ServiceError", "Run: Error parsing url.", False),
        ("AuthenticationError", "Run: HTTP 401, no JSON object in the body (check the key and secret)", True),
        ("AuthenticationError", "Run: Project authorization is not valid. (check the key)", False),
        ("InvalidInput", "Run: the service refused an input: Request files could not be stored", True),
        ("InvalidInput", "Run: the service refused an input: Request parameters are invalid.", False),
        ("InvalidInput", "inputs.x is a set", False),
        ("InsufficientBalance", "Run: Insufficient balance", False),
        ("SubmissionUnknown", "Run of a/b: the connection broke", False),
    ],
)
def test_refusals_on_record_that_were_believed_too_soon(error: str, message: str, too_soon: bool) -> None:
    """What earlier versions took for a refusal, and is none."""
    assert was_believed_too_soon(error, message) is too_soon


# -- HTTP statuses ---------------------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    "JSON": json.dumps(no(0, "its words")).encode(),
    "an empty object": b"{}",
    "HTML": b"<!DOCTYPE html><html><head><title>Bad gateway</title></head></html>",
    "nothing": b"",
    "10 MB": b"x" * 10_000_000,
    "17 MB": b"[" * 17_000_000,
    "a JSON string": b'"no"',
    "latin-1": "vérité".encode("latin-1"),
}
KINDS: dict[int, type[APIError]] = {401: AuthenticationError, 403: AuthenticationError, 429: RateLimited}
STATUSES = [
    400,
    401,
    403,
    404,
    405,
    408,
    409,
    413,
    422,
    425,
    429,
    451,
    500,
    501,
    502,
    503,
    504,
    *range(520, 527),
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", STATUSES)
def test_an_error_status_is_an_error_whatever_the_body(status: int, body: str) -> None:
    """A 4xx that is not in the service's own envelope was said by a server before it, and is no refusal."""
    error = refusal(BODIES[body], status, after="7")
    if body != "JSON" and status < 500 and status != 429:
        assert type(error) is InvalidResponse
    else:
        assert type(error) is KINDS.get(status, ServiceError)
        # An empty object is one, and says as little as none.
        words = "its words" if body == "JSON" else f"HTTP {status}, no JSON object in the body"
        assert error.detail == words
    assert error.http_status == status
    assert len(str(error)) < 600
    if isinstance(error, RateLimited | ServiceError):
        assert error.retry_after == 7.0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><TITLE lang=en>Just a\nmoment...</title></html>", "a web page ('Just a moment...'), not"),
        (b"<html><body>403 Forbidden</body></html>", "not the service's"),
        (b"", "empty"),
        (b'{"success":false,"errors":[{"code":97,"message":"m"}],"result":null}', "a JSON object without a"),
        (b'{"message":"Project authorization is not valid."}', "a JSON object without a result, which is"),
    ],
)
def test_a_page_from_the_edge_is_told_as_what_was_seen(body: bytes, words: str) -> None:
    """By its title, where it has one; a code or words outside of the service's envelope are nobody's."""
    error = refusal(body, 403)
    assert type(error) is InvalidResponse
    assert f"Task/Detail: HTTP 403 with a body that is {words}" in str(error)
    assert not error.too_large


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
@pytest.mark.parametrize("body", [b"", b'{"result": true}', b"<html>"])
def test_a_redirect_is_never_followed(status: int, body: bytes) -> None:
    """It would take the credentials elsewhere, and means that the address is wrong."""
    error = refusal(body, status)
    assert type(error) is InvalidResponse
    assert error.http_status == status
    assert "which is never followed; check base_url" in str(error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None), ("0", 0.0), ("5", 5.0), (" 5 ", 5.0), ("1.5", 1.5), ("120", 120.0), ("121", 120.0),
        ("1e9", 120.0), ("1e999", 120.0), ("inf", 120.0), ("-5", 0.0), ("-inf", 0.0), ("nan", None),
        ("-nan", None),
        ("soon", None), ("5 seconds", None), ("٥", 5.0), ("\0", None), ("," * 100, None), ("9" * 5000, 120.0),
        (formatdate(NOW + 60, usegmt=True), 60.0), (formatdate(NOW + 9999, usegmt=True), 120.0),
        (formatdate(NOW - 60, usegmt=True), 0.0), (formatdate(NOW + 60, localtime=True), 60.0),
        ("Wed, 18 Dec 2024 09:24:27 -0000", 60.0), ("Wed, 18 Dec 2024 12:24:27 +0300", 60.0),
        ("Wed Dec 18 09:24:27 2024", 60.0), ("Wednesday, 18-Dec-24 09:24:27 GMT", 60.0),
        ("Wed, 31 Feb 2024 09:24:27 GMT", None), ("Wed, 18 Dec 99999999999999 09:24:27 GMT", None),
        ("Wed, 18 Dec 2024 09:24:27 +9999999999", None), ("Wed, 18 Dec 2024 99:99:99 GMT", None),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_a_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    """Of HTTP's three date formats any; between 0 and 120 s, whatever it says; junk is no wish at all."""
    assert wish(header) == seconds


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set this machine's clock to Tokyo."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set here")
@pytest.mark.usefixtures("far_east")
@pytest.mark.parametrize("date", ["Wed Dec 18 09:24:27 2024", "Wed, 18 Dec 2024 09:24:27 -0000"])
def test_a_date_without_a_zone_is_in_gmt(date: str) -> None:
    """And not in the zone of the machine that reads it."""
    assert wish(date) == 60.0


DATE_PARTS = [
    "Wed,", "18", "Dec", "2024", "09:24:27", "GMT", "-0000", "+9999", "9" * 20, "-1", "0", "99:99", "PM",
    "1e3", ":",
    "(", "18-Dec-24", "\0",
]  # fmt: skip


@given(st.one_of(st.text(max_size=20), st.lists(st.sampled_from(DATE_PARTS), max_size=7).map(" ".join)))
@examples(500)
def test_a_retry_after_of_any_text_is_bounded(header: str) -> None:
    """No header raises, and none makes us wait for longer than two minutes."""
    seconds = wish(header)
    assert seconds is None or 0 <= seconds <= 120


# -- what is not the protocol ----------------------------------------------------------------------------

OK = b'{"result": true, "errors": []'


def nested(depth: int) -> bytes:
    """Return a reply of which the deepest list is at *depth*."""
    return OK + b', "x": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "blanks": (b" \r\n\t ", "empty"),
    "HTML": (b"<html>200 OK</html>", "not JSON"),
    "cut off": (OK, "not JSON"),
    "cut in a string": (b'{"result": true, "taskid": "22', "not JSON"),
    "two objects": (b'{"result": true}{"result": true}', "not JSON"),
    "a stray byte behind": (b'{"result": true}x', "not JSON"),
    "a trailing comma": (b'{"result": true,}', "not JSON"),
    "single quotes": (b"{'result': true}", "not JSON"),
    "Python": (b'{"result": True}', "not JSON"),
    "a control character": (b'{"result": true, "x": "\x01"}', "not JSON"),
    "NaN": (OK + b', "cost": NaN}', "NaN is no JSON"),
    "Infinity": (OK + b', "cost": Infinity}', "Infinity is no JSON"),
    "-Infinity": (OK + b', "cost": -Infinity}', "-Infinity is no JSON"),
    "an integer of a million digits": (OK + b', "x": ' + b"9" * 1_000_000 + b"}", "not JSON"),
    "one key, two values": (b'{"result": false, "result": true}', "one key, two values"),
    "one key, two values, inside": (
        b'{"result": true, "tasklist": [{"id": 1, "id": 2}]}',
        "one key, two values",
    ),
    "a byte order mark": (b"\xef\xbb\xbf" + OK + b"}", "not JSON"),
    "UTF-16": ('{"result": true}'.encode("utf-16"), "not UTF-8"),
    "UTF-16 without a mark": ('{"result": true}'.encode("utf-16-le"), "not JSON"),
    "UTF-32": ('{"result": true}'.encode("utf-32"), "not UTF-8"),
    "bad UTF-8": (OK + b', "x": "\xff"}', "not UTF-8"),
    "half a UTF-8 sequence": (OK + b', "x": "\xe2\x82"}', "not UTF-8"),
    "an overlong sequence": (OK + b', "x": "\xc0\xaf"}', "not UTF-8"),
    "a surrogate in UTF-8": (OK + b', "x": "\xed\xa0\x80"}', "not UTF-8"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "not UTF-8"),
    "NUL bytes": (b"\0" * 100, "not JSON"),
    "a list": (b"[]", "a JSON list where an object belongs"),
    "a string": (b'"true"', "a JSON str where an object belongs"),
    "true": (b"true", "a JSON bool where an object belongs"),
    "null": (b"null", "a JSON NoneType where an object belongs"),
    "a number": (b"1", "a JSON int where an object belongs"),
    "65 levels": (nested(65), "nested deeper than 64 levels"),
    "500 levels": (nested(500), "nested deeper than 64 levels"),
    "100 000 levels": (nested(100_000), "larger than 20000 lists and objects"),
    "100 000 objects in each other": (b'{"a":' * 100_000, "larger than 20000 lists and objects"),
    "10 000 levels": (nested(10_000), "nested deeper than 64 levels"),
    "more than the cap": (
        OK + b', "x": "' + b"x" * 16_777_216 + b'"}',
        "larger than 16777216 bytes",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_not_the_protocol_is_a_reply_error(case: str) -> None:
    """With the operation, the status, what is wrong, and at most 500 characters of the body."""
    body, problem = UNREADABLE[case]
    error = refusal(body, operation="Run")
    assert type(error) is InvalidResponse
    assert str(error).startswith("Run: HTTP 200 with a body that is ")
    assert problem in str(error)
    assert len(str(error)) < 200
    assert (error.http_status, error.operation) == (200, "Run")
    assert len(error.excerpt) <= 500
    assert error.__context__ is None, "no foreign exception, which would hold the whole body"


@pytest.mark.parametrize(
    "body",
    [
        nested(64),
        OK + b', "x": [' + b"[]," * 1000 + b"[]]}",
        OK + b', "result": true}',
        OK + b', "x": "\\ud800"}',
        b" \r\n\t" + OK + b"}\r\n",
        OK + b', "x": 1e999}',
        OK + b', "x": ' + b"9" * 400 + b"}",
        OK + b', "x": "' + b"x" * 1_000_000 + b'"}',
    ],
    ids=lambda body: ascii(body[29:60]),
)
def test_what_is_merely_odd_is_read(body: bytes) -> None:
    """64 levels, many shallow lists, a key repeated with the same value, white space, half a pair."""
    assert judge(reply(body))["result"] is True


def blank(times: int) -> bytes:
    """Return a reply with so many blanks between its values."""
    return b'{"result":true,"x":%s1}' % (b" " * times)


LINE = '[INFO] 12:00, step 120/1000, {"loss": [0.1234, 0.25]}, "eta": C:\\\\tmp\\\\, é\n'


@pytest.mark.parametrize("name", ["debugoutput", "debugerror"])
def test_a_long_log_is_read(name: str) -> None:
    """427 kB of ordinary lines, in a page of twelve tasks: brackets, commas, quotes and escapes."""
    log = LINE * (427_000 // len(LINE))
    body = {"result": True, "tasklist": [{"id": "1", name: log, "parameters": '{"a": [1, 2]}'}] * 12}
    assert log.count("[") * 12 > 20_000 * 5
    assert judge(reply(body)) == body


def test_a_text_that_is_no_json_is_not_counted() -> None:
    """A prompt may hold what it will."""
    body = {"result": True, "x": "a" + "[{,]} " * 100_000, "y": ""}
    assert judge(reply(body)) == body


@pytest.mark.parametrize(
    "begin", ["[", "{", "\\u005b", "\\u007B"], ids=["list", "object", "escaped list", "escaped object"]
)
def test_the_structure_of_json_in_a_text_is_counted(begin: str) -> None:
    """The text of a task's parameters is decoded, too, so it must not hide what costs."""
    body = b'{"result":true,"parameters":"%s%s","debugoutput":"x"}' % (begin.encode(), b"[]," * 100_000)
    error = refusal(body)
    assert "larger than 20000 lists and objects" in str(error)
    assert error.too_large


@pytest.mark.parametrize("before", ["", "é", "\\", '"', "\n"])
@given(shift=st.integers(0, 40))
def test_where_a_text_ends_is_seen_wherever_a_slice_ends(before: str, shift: int) -> None:
    """Slices of 256 KiB may cut an escape, a key or a quote; what is counted is what the decoder makes."""
    text = before + "[" * 5
    filler = "x" * (256 * 1024 - 60 + shift)
    lists: list[list[int]] = [[] for _ in range(19_980)]
    body = {"f": filler, "debugoutput": text, "x": f"q{text}" + "[" * 30_000, "result": True, "a": lists}
    assert judge(reply(body)) == body
    body["more"] = [[] for _ in range(30)]
    assert "larger than 20000 lists and objects" in str(refusal(body))


def filled(piece: str, times: int) -> bytes:
    """Return a reply of more than 64 KiB that has one text of many pieces."""
    return b'{"result":true,"x":"%s"}' % (" " * 65_536 + piece * times).encode()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"result":true,"x":[%s1]}' % (b"1," * 99_999), ""),
        (b'{"result":true,"x":[%s1]}' % (b"1," * 100_000), "larger than 100000 values"),
        (b'{"result":true,"x":[%s1]}%s' % (b"[]," * 19_998, b" " * 9999), ""),
        (
            b'{"result":true,"x":[%s1]}%s' % (b"[]," * 19_999, b" " * 9999),
            "larger than 20000 lists and objects",
        ),
        (
            b'{"result":true,"x":[%s1]}%s' % (b"{}," * 19_999, b" " * 9999),
            "larger than 20000 lists and objects",
        ),
        (filled("\\n", 999_999), ""),
        (filled("\\n", 1_000_001), "larger than 1000000 escapes"),
        (filled('\\"', 1_000_000).replace(b"true", b"true," + b'"":"",' * 99_000 + b'"y":1'), ""),
        (b'"' * 1_500_000, "not JSON"),
        (b'"' * 1_500_001, "larger than 1500000 quotes"),
        (filled('\\"', 1_500_001), "larger than 1000000 escapes"),
        (filled(" ", 9_000_000), ""),
        (blank(2_000_000), ""),
        (blank(2_000_001), "larger than 2000000 blanks"),
        (b"\n" * 2_000_001 + b'{"result":true}', "larger than 2000000 blanks"),
        (filled("x", 16_000_000), ""),
        (filled("é", 4_161_525), ""),
        (filled("é", 4_161_526), "larger than 16777216 bytes in memory"),
        (filled("語", 3_000_000), "larger than 16777216 bytes in memory"),
        (filled("😀", 1_000_000), ""),
        (
            filled("x", 5_000_000).replace(b"xx", "😀".encode(), 1),
            "larger than 16777216 bytes in memory",
        ),
        (filled("", 0).replace(b"true", b"true," + b'"y":' + b"9" * 400), ""),
        (filled("", 0).replace(b"true", b"true," + b'"y":' + b"9" * 401), "a number of 401 digits"),
        (filled("", 0).replace(b"true", b"true," + b'"y":0.' + b"9" * 398), ""),
        (filled("", 0).replace(b"true", b"true," + b'"y":0.' + b"9" * 399), "a number of 401 digits"),
    ],
    ids=lambda value: ascii(value[:40]),
)
def test_a_costly_reply_is_refused_before_it_is_decoded(body: bytes, problem: str) -> None:
    """What would block the event loop or fill the memory is counted first; what is merely large is read."""
    if problem:
        assert f"with a body that is {problem}" in str(refusal(body)) or f"({problem})" in str(refusal(body))
    else:
        assert judge(reply(body))["result"] is True


def test_only_an_equal_reply_is_unchanged() -> None:
    """A fingerprint is of the status and every byte; what is refused has none, and none equals none."""
    first = judge_anew(reply(OK + b"}"), 0)
    assert isinstance(first, Payload)
    known = first.fingerprint
    assert judge_anew(Reply("Run", 200, bytearray(OK + b"}")), known) is UNCHANGED
    assert judge_anew(reply(OK + b"} "), known) == first
    assert judge_anew(reply(OK + b"}", status=201), known) == first
    assert judge_anew(reply(OK + b"}"), 0) is not UNCHANGED
    with pytest.raises(InvalidResponse):
        judge_anew(reply(b"<html>"), known)


def test_a_reply_may_come_in_a_buffer() -> None:
    """What was received is not copied first, whether it is small, large, good or bad."""
    for body in (OK + b"}", filled("x", 100_000), filled("é", 100_000)):
        assert judge(Reply("Run", 200, bytearray(body), "", NOW))["result"] is True
    with pytest.raises(InvalidResponse, match="not JSON") as caught:
        judge(Reply("Run", 200, bytearray(b"<html>"), "", NOW))
    assert caught.value.excerpt == "<html>"


@pytest.mark.parametrize("body", [b"[" * 17_000_000, filled("😀", 3_000_000), b"1," * 9_000_000])
@pytest.mark.parametrize("status", [429, 502])
def test_a_costly_body_does_not_hide_the_status(body: bytes, status: int) -> None:
    """An error page may be as large as it likes."""
    assert type(refusal(body, status)) is KINDS.get(status, ServiceError)


def test_depth_is_counted_from_the_outermost() -> None:
    """64 levels pass, in lists, objects and both."""
    for make in (lambda inner: [inner], lambda inner: {"a": 1, "b": inner}):
        value: Any = make(0)
        for _ in range(62):
            value = make(value)
        assert judge(reply({"result": True, "x": value}))["result"] is True
        with pytest.raises(InvalidResponse, match="nested deeper than 64 levels"):
            judge(reply({"result": True, "x": make(value)}))


@pytest.mark.parametrize(
    "body",
    [
        b'{"taskid": "2221", "socketaccesstoken": "%s", "result": tr',
        b'{"taskid":"2221","socketaccesstoken":"%s"',
        b'{\\"socketaccesstoken\\": \\"%s\\"}',
        b"{'socketaccesstoken': '%s'}",
        b'<pre>{"tasktoken":"%s"}</pre>',
        b"<p>x-api-key: %s</p>",
        b"X-Signature=%s&",
        b'"accesskey" : "%s"',
        '{"socketaccesstoken": "%s"'.encode("utf-16"),
        '{"socketaccesstoken": "%s"'.encode("utf-16-be"),
        b" " * 1960 + b'{"socketaccesstoken": "%s',
        b" " * 470 + b'{"socketaccesstoken": "%s',
    ],
)
def test_an_excerpt_shows_no_credential(body: bytes) -> None:
    """A broken reply to a Run holds the socket token: it is struck out before anybody logs the error."""
    for encoding in ("ascii", "utf-16-le", "utf-16-be"):
        body = body.replace("%s".encode(encoding), TOKEN.encode(encoding))
    error = refusal(body, operation="Run")
    assert TOKEN[:8] not in error.excerpt
    assert TOKEN[:8] not in repr(vars(error))


def test_a_refusal_shows_no_credential() -> None:
    """Nor does a message of the service that repeats one."""
    error = refusal(no(0, f"bad tasktoken={TOKEN} given"))
    assert error.detail == "bad tasktoken=********** given"
    assert TOKEN not in str(error)


def test_a_reply_does_not_show_its_body() -> None:
    """Its repr is what a traceback with locals prints."""
    assert TOKEN not in repr(reply({"socketaccesstoken": TOKEN}))


SHAPES: list[Callable[[Any, Any], Any]] = [
    lambda code, words: [{"code": code, "message": words}],
    lambda code, words: [{"code": code}, words],
    lambda code, words: {"code": code, "message": words},
    lambda code, words: [words, code],
    lambda code, words: [[words]],
    lambda code, words: words,
    lambda code, words: code,
]


def body_of(result: Any, shape: int, code: Any, words: Any) -> bytes:
    """Return a reply that is an object at least."""
    return json.dumps({"result": result, "errors": SHAPES[shape](code, words)}).encode()


bodies = st.one_of(
    st.builds(
        body_of,
        st.sampled_from([True, False, *NASTY]),
        st.integers(0, len(SHAPES) - 1),
        st.sampled_from([0, 1, 96, "96", 97, 98, 99, *NASTY]),
        st.sampled_from([*(row[0] for row in MESSAGES), *NASTY]),
    ),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
)


@given(
    bodies,
    st.one_of(st.sampled_from([200, 200, 200, *STATUSES]), st.integers(100, 999)),
    st.sampled_from(["Run", "Task/Detail", "Task/Cancel", "Task/Kill", "Tool/Detail", "File/Upload", ""]),
    st.sampled_from(["", "5", "x"]),
)
@examples(3000)
def test_only_our_errors_come_out(body: bytes, status: int, operation: str, after: str) -> None:
    """Whatever the bytes and the status: a payload with a literal true, or one of our errors, in one line."""
    try:
        payload = judge(Reply(operation, status, body, after, NOW))
    except WiroError as error:
        assert isinstance(error, APIError | InvalidResponse | InvalidInput)  # noqa: PT017 - either is right here
        assert len(error.message) <= 800  # noqa: PT017
        assert "\n" not in error.message  # noqa: PT017
        assert len(getattr(error, "excerpt", "")) <= 500  # noqa: PT017
    else:
        assert payload["result"] is True
        assert status < 300


# -- sending ---------------------------------------------------------------------------------------------


class Size(IntEnum):
    SMALL = 6


class Move(StrEnum):
    ZOOM = "[Zoom in]"


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        ({}, b"{}"),
        ({"prompt": "she walks"}, b'{"prompt":"she walks"}'),
        ({"prompt": "été 😀"}, '{"prompt":"été 😀"}'.encode()),
        ({"a": None, "b": True, "c": 1, "d": 1.5}, b'{"a":null,"b":true,"c":1,"d":1.5}'),
        ({"a": [1, (2, [3])]}, b'{"a":[1,[2,[3]]]}'),
        ({"a": {"b": {}}}, b'{"a":{"b":{}}}'),
        ({"a": Size.SMALL, "b": Move.ZOOM}, b'{"a":6,"b":"[Zoom in]"}'),
        ({"a": 2**1024 - 1}, b'{"a":%d}' % (2**1024 - 1)),
        ({"a": -(2**63)}, b'{"a":-9223372036854775808}'),
        ({"a": "\0\r\n\u2028"}, '{"a":"\\u0000\\r\\n\u2028"}'.encode()),
    ],
)
def test_a_payload_becomes_compact_utf_8(payload: dict[str, Any], body: bytes) -> None:
    """Everything that has a JSON form is written in it."""
    before = copy.deepcopy(payload)
    assert encode(payload) == body
    assert payload == before
    assert type(payload.get("a")) is type(before.get("a"))


def deep(depth: int, kind: Callable[[Any], Any]) -> Any:
    """Return 0 inside of *depth* containers."""
    value: Any = 0
    for _ in range(depth):
        value = kind(value)
    return value


def endless() -> dict[str, Any]:
    """Return a payload that holds itself."""
    payload: dict[str, Any] = {}
    payload["self"] = [payload]
    return payload


REFUSED: dict[str, tuple[dict[Any, Any], str, str]] = {
    "NaN": ({"a": math.nan}, "inputs.a", "is nan; JSON has only finite numbers"),
    "inf": ({"a": [1, math.inf]}, "inputs.a[1]", "is inf"),
    "-inf": ({"a": {"b": -math.inf}}, "inputs.a.b", "is -inf"),
    "a surrogate": ({"a": "x\ud800"}, "inputs.a", "half a surrogate pair at character 1"),
    "a surrogate in a list": ({"a": ["\udfff"]}, "inputs.a[0]", "at character 0"),
    "a surrogate in a key": (
        {"a": {"\ud800": 1}},
        "inputs.a",
        "a key of inputs.a holds half a surrogate pair",
    ),
    "bytes": ({"a": b"x"}, "inputs.a", "is a bytes; inputs are str, int"),
    "bytearray": ({"a": [b"", bytearray(b"x")][1:]}, "inputs.a[0]", "is a bytearray"),
    "memoryview": ({"a": memoryview(b"x")}, "inputs.a", "is a memoryview"),
    "a set": ({"a": {1}}, "inputs.a", "is a set"),
    "a frozenset": ({"a": (frozenset(),)}, "inputs.a[0]", "is a frozenset"),
    "a path": ({"a": Path("x")}, "inputs.a", "Path; inputs are"),
    "an object": ({"a": object()}, "inputs.a", "is a object"),
    "a class": ({"a": int}, "inputs.a", "is a type"),
    "a function": ({"a": len}, "inputs.a", "is a builtin_function_or_method"),
    "a generator": ({"a": (x for x in "")}, "inputs.a", "is a generator"),
    "a range": ({"a": range(3)}, "inputs.a", "is a range"),
    "a complex number": ({"a": 1j}, "inputs.a", "is a complex"),
    "dict keys": ({"a": {}.keys()}, "inputs.a", "is a dict_keys"),
    "an integer key": ({1: "x"}, "inputs", "has the key 1; keys must be strings"),
    "an integer key inside": ({"a": [{2: "x"}]}, "inputs.a[0]", "has the key 2"),
    "None as a key": ({None: 1}, "inputs", "has the key None"),
    "a boolean key": ({True: 1}, "inputs", "has the key True"),
    "a float key": ({1.5: 1}, "inputs", "has the key 1.5"),
    "a bytes key": ({b"a": 1}, "inputs", "has the key b'a'"),
    "a tuple key": ({("a",): 1}, "inputs", "has the key ('a',)"),
    "an integer too large": ({"a": 2**1024}, "inputs.a", "is an integer of 1025 bits"),
    "an integer far too large": ({"a": [-(10**10_000)]}, "inputs.a[0]", "send it as a string"),
    "65 lists": (
        {"a": deep(65, lambda inner: [inner])},
        "inputs.a[0][0]",
        "deeper than 64 levels; flatten it",
    ),
    "65 objects": ({"a": deep(65, lambda inner: {"b": inner})}, "inputs.a.b.b", "deeper than 64 levels"),
    "65 tuples": ({"a": deep(65, lambda inner: (inner,))}, "inputs.a[0][0]", "deeper than 64 levels"),
    "10 000 lists": ({"a": deep(10_000, lambda inner: [inner])}, "inputs.a[0][0]", "deeper than 64 levels"),
    "itself": (endless(), "inputs.self[0].self[0]", "deeper than 64 levels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_json_form_is_refused_with_its_place(case: str) -> None:
    """Before a byte is sent, with the path to it, in the message and as a fact."""
    payload, path, words = REFUSED[case]
    with pytest.raises(InvalidInput) as caught:
        encode(payload)
    assert words in str(caught.value)
    assert path in str(caught.value)
    assert caught.value.name is not None
    assert caught.value.name.startswith(path)
    assert len(str(caught.value)) < 400
    assert caught.value.__context__ is None
    str(caught.value).encode()


def test_64_levels_are_encoded() -> None:
    """The payload is the first, and what is sent is no deeper than what is read."""
    for kind in (lambda inner: [inner], lambda inner: {"b": inner}):
        assert (
            judge(reply(b'{"result": true, "x": ' + encode({"a": deep(62, kind)}) + b"}"))["result"] is True
        )
        encode({"a": deep(63, kind)})
        with pytest.raises(InvalidInput, match="nested deeper than 64 levels"):
            encode({"a": deep(64, kind)})


@given(st.dictionaries(st.text(), json_values, max_size=4))
@examples(400)
def test_what_is_encoded_reads_back(payload: dict[str, Any]) -> None:
    """Encoding changes neither the payload nor its meaning; what cannot be encoded is refused as an input."""
    before = copy.deepcopy(payload)
    try:
        body = encode(payload)
    except InvalidInput:
        assert b"Infinity" in json.dumps(payload).encode()
    else:
        assert json.loads(body) == payload
    assert payload == before
