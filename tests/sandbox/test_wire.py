"""HTTP/1.1 as bytes."""

from __future__ import annotations

import json

import pytest

from wiro_async.sandbox import _wire
from wiro_async.sandbox._wire import NO_BODY, UNTIL_EOF, Framing
from wiro_async.sandbox.faults import Garbage, Html, Status


def test_a_request_s_head() -> None:
    """Names are lower-cased, values trimmed."""
    words, headers = _wire.split_head(b"POST /v1/Run/a/b HTTP/1.1\r\nHost: x\r\nX-Api-Key:  k \r\n\r\n")
    assert (words, headers) == (["POST", "/v1/Run/a/b", "HTTP/1.1"], {"host": "x", "x-api-key": "k"})


def test_a_reply_s_head() -> None:
    """A phrase may have spaces."""
    words, headers = _wire.split_head(b"HTTP/1.1 404 Not Found\r\n\r\n")
    assert (words, headers) == (["HTTP/1.1", "404", "Not Found"], {})


@pytest.mark.parametrize(
    "head",
    [b"", b"GET /\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"\x16\x03\x01 a b", b"GET / HTTP/1.1\r\nx\r\n\r\n"],
)
def test_what_is_not_http_is_told(head: bytes) -> None:
    """The proxy then leaves it to the server."""
    with pytest.raises(ValueError, match="not "):
        _wire.split_head(head)


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ({}, NO_BODY),
        ({"content-length": "12"}, Framing(12)),
        ({"transfer-encoding": "gzip, Chunked", "content-length": "12"}, Framing(None, chunked=True)),
    ],
)
def test_where_a_request_ends(headers: dict[str, str], framing: Framing) -> None:
    """Chunks win over a length."""
    assert _wire.request_framing(headers) == framing


@pytest.mark.parametrize("length", ["-1", "1, 1", "", "²"])
def test_a_length_is_a_number(length: str) -> None:
    """In ASCII digits."""
    with pytest.raises(ValueError, match="not a length"):
        _wire.request_framing({"content-length": length})


def test_where_a_reply_ends() -> None:
    """Some have no body whatever their headers say; one without a length ends with the connection."""
    assert _wire.reply_framing("HEAD", 200, {"content-length": "12"}) == NO_BODY
    assert _wire.reply_framing("GET", 304, {}) == NO_BODY
    assert _wire.reply_framing("GET", 200, {"content-length": "12"}) == Framing(12)
    assert _wire.reply_framing("GET", 200, {}) == UNTIL_EOF


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/Run/MiniMax/hailuo-2.3", "Run"),
        ("/v1/Run/wiro/Product%20Photoshoot?x=1", "Run"),
        ("/v1/Task/Detail", "Task/Detail"),
        ("/v1/Task/Detail/", "other"),
        ("/v1/Run", "other"),
        ("/v1/cdn", "other"),
        ("/cdn/a/b.mp4", "cdn"),
        ("/sandbox/ledger", "other"),
        ("/", "other"),
        ("*", "other"),
    ],
)
def test_operations_are_told_from_the_path(path: str, operation: str) -> None:
    """By the same rule as the service's."""
    assert _wire.operation_of(path, {}) == operation


def test_a_socket_is_told_from_its_upgrade() -> None:
    """Whatever its path."""
    assert _wire.operation_of("/v1", {"upgrade": "WebSocket"}) == "socket"


REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}"


def test_replies_are_taken_apart_and_changed() -> None:
    """Byte by byte."""
    assert _wire.status_of(REPLY) == 200
    assert _wire.body_of(REPLY) == b"{}"
    assert _wire.with_length(REPLY, 5) == REPLY.replace(b"Content-Length: 2", b"content-length: 7")
    assert _wire.with_length(REPLY, -5) == REPLY.replace(b"Content-Length: 2", b"content-length: 0")
    assert _wire.without_length(REPLY, 1) == b"HTTP/1.1 200 OK\r\nx: y\r\nconnection: close\r\n\r\n{"
    assert _wire.without_length(REPLY, 9).endswith(b"\r\n\r\n")
    assert _wire.with_header(b"GET / HTTP/1.1\r\n\r\n", "a: b") == b"GET / HTTP/1.1\r\na: b\r\n\r\n"


def test_answers_are_http() -> None:
    """With a length that is right, and without a body where there can be none."""
    assert _wire.answer(Garbage(b"?", "head"), "POST", last=True) == b"?"
    assert _wire.answer(Garbage(b"?!"), "POST", last=False) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: 2\r\n\r\n?!"
    )
    assert _wire.answer(Garbage(b"?!"), "HEAD", last=False).endswith(b"content-length: 2\r\n\r\n")
    status = _wire.answer(Status(503, retry_after=1.5), "POST", last=True)
    assert status.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1.5\r\nconnection: close\r\n" in status
    assert json.loads(_wire.body_of(status))["errors"] == [{"code": 0, "message": "Service Unavailable"}]
    page = _wire.answer(Html(520), "POST", last=False)
    assert page.startswith(b"HTTP/1.1 520 Unknown\r\ncontent-type: text/html; charset=utf-8\r\n")
    assert b"<h1>520 Unknown</h1>" in page


def test_the_envelope_is_the_service_s() -> None:
    """Errors first, the result last."""
    assert _wire.body_of(_wire.envelope({"taskid": "1"})) == b'{"errors":[],"taskid":"1","result":true}'
