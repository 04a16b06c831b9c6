"""HTTP/1.1 in bytes: what a request may hold, where a reply ends, and what is no reply at all."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.servers import answer, chunked
from wiro_async._http.http11 import (
    LocalProtocolError,
    RemoteProtocolError,
    ReplyParser,
    header_lines,
    request_line,
)

LIMIT = 100 * 1024
"""The most bytes that may come beside a body; h11's limit."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def fed(data: bytes, size: int = 1 << 30, *, end: bool = False) -> tuple[ReplyParser, bytes]:
    """Return a parser that got *data* in pieces, and the body that came out."""
    parser = ReplyParser()
    body = b"".join(parser.feed(data[start : start + size]) for start in range(0, len(data), size))
    if end:
        parser.feed_end()
    return parser, body


SIZES = pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 30])

# -- requests --------------------------------------------------------------------------------------------


def test_a_request_is_written_as_it_stands() -> None:
    """Line and headers are exactly what was given, in order."""
    assert request_line("POST", b"/v1/Run/a%20b/c") == b"POST /v1/Run/a%20b/c HTTP/1.1\r\n"
    assert header_lines([(b"Host", b"x:1"), (b"X-Empty", b""), (b"A", b"b \t\xff c")]) == (
        b"Host: x:1\r\nX-Empty: \r\nA: b \t\xff c\r\n"
    )
    assert header_lines([]) == b""


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", b""), ("", b"/"), ("PO ST", b"/"), ("POST", b"/ "), ("POST", b"/a b"),
        ("POST", b"/\r\nX: y"), ("GET\r\n", b"/"), ("GÉT", b"/"), ("POST", b"/\xff"), ("POST", b"/\0"),
        ("POST", b"/\n"),
    ],
)  # fmt: skip
def test_a_first_line_is_one_line(method: str, target: bytes) -> None:
    """Method and target cannot smuggle anything behind themselves."""
    with pytest.raises(LocalProtocolError, match="method and target"):
        request_line(method, target)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"A", b"x\r\ny: z"), (b"A", b"x\ny"), (b"A", b"x\ry"), (b"A", b"x\0y"), (b"A", b" x"), (b"A", b"x "),
        (b"A", b"\tx"), (b"A", b"x\x7f"), (b"A", b"x\n"), (b"", b"x"), (b"A b", b"x"), (b"A:", b"x"),
        (b"A\n", b"x"), (b"\xff", b"x"),
    ],
)  # fmt: skip
def test_a_header_is_one_line(name: bytes, value: bytes) -> None:
    """What cannot stand in a header is refused, and the value is not shown."""
    with pytest.raises(LocalProtocolError) as caught:
        header_lines([(b"Host", b"x"), (name, value)])
    assert value.strip().decode("latin-1") not in str(caught.value).replace(repr(name), "").split("header")[0]


def test_a_refused_value_is_not_shown() -> None:
    """It may be a key."""
    with pytest.raises(LocalProtocolError) as caught:
        header_lines([(b"x-api-key", b"canary\n")])
    assert "canary" not in str(caught.value)


# -- whole replies ---------------------------------------------------------------------------------------

WHOLE: dict[str, tuple[bytes, bytes, bool]] = {
    "length": (answer(b"hello"), b"hello", True),
    "no body": (answer(b""), b"", True),
    "a space behind the length": (OK + b"Content-Length: 5 \r\n\r\nhello", b"hello", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "an empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "any status": (b"HTTP/1.1 999 ?\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "chunked": (CHUNKED + chunked(b"hello", b" ", b"world"), b"hello world", True),
    "one large chunk": (CHUNKED + chunked(b"x" * 70_000), b"x" * 70_000, True),
    "chunked in other words": (
        OK + b"TRANSFER-ENCODING:  Chunked \r\n\r\n" + chunked(b"hello"), b"hello", True
    ),
    "an empty chunked body": (CHUNKED + chunked(), b"", True),
    "extensions of chunks": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', b"hello", True),
    "zeros before a size": (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", b"hello", True),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\nZ: z\r\n\r\n", b"hello", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "no content of some length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True),
    "interim replies": (CONTINUE * 3 + answer(b"hello"), b"hello", True),
    "an interim reply with headers": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 7\r\n\r\n" + answer(b"hello"), b"hello",
        True,
    ),
    "an upgrade that is only offered": (
        answer(b"hello", headers=["Upgrade: h2c", "Connection: Upgrade"]), b"hello", True,
    ),
    "close": (answer(b"hello", headers=["Connection: close"]), b"hello", False),
    "close among others": (answer(b"hello", headers=["Connection: a, CLOSE"]), b"hello", False),
    "close in a second header": (
        answer(b"hello", headers=["Connection: keep-alive", "connection: Close "]), b"hello", False,
    ),
    "a control character in a cookie": (
        OK + b"Set-Cookie: a=\x01b\x7f\r\nContent-Length: 5\r\n\r\nhello", b"hello", False
    ),
    "a control character in the reason": (
        b"HTTP/1.1 200 O\x01K\r\nContent-Length: 5\r\n\r\nhello", b"hello", False
    ),
    "a folded header": (OK + b"X: a\r\n \t b \r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "a length in a folded header": (
        OK + b"Content-Length: 5\r\nX: a\r\n\tContent-Length: 7\r\n\r\nhello", b"hello", False
    ),
    "a line feed alone between headers": (
        OK + b"Content-Length: 5\r\nX: a\nY: b\r\n\r\nhello", b"hello", False
    ),
    "a line feed alone behind the last header": (
        OK + b"Content-Length: 5\r\nX: a\r\nY: b\n\r\nhello", b"hello", False
    ),
    "a line feed alone behind the status": (
        b"HTTP/1.1 200 OK\nX: a\r\nContent-Length: 5\r\n\r\nhello", b"hello", False
    ),
    "one length twice": (OK + b"Content-Length: 5\r\nContent-Length:5 \r\n\r\nhello", b"hello", False),
    "a list of equal lengths": (OK + b"Content-Length: 5, 5\r\n\r\nhello", b"hello", False),
    "a space behind a size": (CHUNKED + b"5 \t\r\nhello\r\n0 \r\n\r\n", b"hello", True),
    "an extension behind a space": (CHUNKED + b"5; a=b\r\nhello\r\n0; c\r\n\r\n", b"hello", True),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "HTTP/1.0 that would stay": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", b"hello", False,
    ),
}  # fmt: skip


@SIZES
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_reply(name: str, size: int) -> None:
    """However it is cut into pieces, the body is the same, and what may follow is known at its last byte."""
    data, body, reusable = WHOLE[name]
    early, _ = fed(data[:-1], size)
    assert not early.whole
    parser, received = fed(data, size)
    assert parser.whole
    assert received == body
    assert parser.reusable is reusable
    parser.feed_end()


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 30])
@pytest.mark.parametrize(
    "behind", [b"x", b"\r\n", b"\0", answer(b"evil"), CONTINUE, b"HTTP/1.1 101 S\r\n\r\n"]
)
@pytest.mark.parametrize("name", WHOLE)
def test_nothing_may_stand_behind_a_reply(name: str, behind: bytes, size: int) -> None:
    """The reply is believed, and what is behind it, even a line break, makes the connection unfit."""
    data, body, _ = WHOLE[name]
    parser, received = fed(data + behind, size)
    assert parser.whole
    assert received == body
    assert not parser.reusable


def test_the_head_is_as_it_came() -> None:
    """Status, reason, version and headers, in order and spelling; trailers are not among them."""
    data = b"HTTP/1.1 404 Not \xff There\r\nX-A: 1\r\nx-a:2\r\nTransfer-Encoding: chunked\r\n\r\n"
    parser, _ = fed(data + b"1\r\nx\r\n0\r\nX-T: 3\r\n\r\n", 3)
    head = parser.head
    assert head is not None
    assert (head.status, head.reason, head.version) == (404, b"Not \xff There", b"HTTP/1.1")
    assert head.headers == [(b"X-A", b"1"), (b"x-a", b"2"), (b"Transfer-Encoding", b"chunked")]


@SIZES
def test_a_body_without_length_ends_with_the_connection(size: int) -> None:
    """It is whole when the stream ends, and the connection is not used again."""
    parser, body = fed(OK + b"\r\nsome\r\n\r\nbody", size)
    assert body == b"some\r\n\r\nbody"
    assert (parser.whole, parser.reusable) == (False, False)
    parser.feed_end()
    assert (parser.whole, parser.reusable) == (True, False)


# -- no replies ------------------------------------------------------------------------------------------

NO_HEADS: dict[str, bytes] = {
    # Status lines
    "garbage": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "a blank line first": b"\r\n" + answer(b"hello"),
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a zero first": b"HTTP/1.1 099 OK\r\n\r\n",
    "a sign": b"HTTP/1.1 +20 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "a NUL in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "a CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "a line feed alone": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\n",
    "a change of protocol": b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a change of protocol without a name": b"HTTP/1.1 101 S\r\n\r\n",
    # Header lines
    "a folded length": OK + b"Content-Length: 1\r\n 2\r\n\r\n",
    "a folded coding": OK + b"Transfer-Encoding: chunked\r\n \r\n\r\n",
    "a folded control character": OK + b"X: a\r\n \x0bb\r\n\r\n",
    "a length behind a line feed alone": OK + b"X: a\nContent-Length: 2\r\n\r\nok",
    "a length before a line feed alone": OK + b"Content-Length: 2\nX: a\r\n\r\nok",
    "chunks behind a line feed alone": OK + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok"),
    "chunks before a line feed alone": OK + b"Transfer-Encoding: chunked\nX: a\r\n\r\n" + chunked(b"ok"),
    "line feeds alone": b"HTTP/1.1 200 OK\nX: a\n\nok",
    "a blank line that is a line feed alone": OK + b"X: a\r\n\nok",
    "a space before the first header": OK + b" X: a\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 2\r\n\r\n",
    "a space in a name": OK + b"X Y: a\r\n\r\n",
    "no colon": OK + b"garbage\r\n\r\n",
    "no name": OK + b": a\r\n\r\n",
    "a byte above ASCII in a name": OK + b"X\xff: a\r\n\r\n",
    "a NUL in a value": OK + b"X: a\0b\r\n\r\n",
    "a CR in a value": OK + b"X: a\rb\r\n\r\n",
    # Where the body ends
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
    "a negative length": OK + b"Content-Length: -2\r\n\r\n",
    "a length with a sign": OK + b"Content-Length: +2\r\n\r\n",
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\n",
    "a length with an underscore": OK + b"Content-Length: 1_0\r\n\r\n",
    "an empty length": OK + b"Content-Length: \r\n\r\n",
    "a length in words": OK + b"Content-Length: many\r\n\r\n",
    "two lengths in a list": OK + b"Content-Length: 2, 3\r\n\r\n",
    "a length, and nothing": OK + b"Content-Length: 2,\r\n\r\n",
    "a length of 30 digits": OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "another coding below chunks": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "another coding above chunks": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunks twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "chunks in two headers": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "almost chunks": OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    "quoted chunks": OK + b'Transfer-Encoding: "chunked"\r\n\r\n',
    "no content in another coding": b"HTTP/1.1 204 No\r\nTransfer-Encoding: gzip\r\n\r\n",
    # Sizes
    "a large head": OK + b"X: " + b"x" * LIMIT + b"\r\n\r\n",
    "many headers": OK + b"X: y\r\n" * (LIMIT // 6) + b"\r\n",
    "many interim replies": CONTINUE * (LIMIT // len(CONTINUE) + 1),
    "a status line without end": b"HTTP/1.1 200 " + b"x" * LIMIT,
}


@pytest.mark.parametrize("size", [1, 1 << 30])
@pytest.mark.parametrize("name", NO_HEADS)
def test_what_is_no_head_is_refused(name: str, size: int) -> None:
    """Before a byte of a body is believed, and before the peer leaves."""
    size = max(size, len(NO_HEADS[name]) // 1000)
    with pytest.raises(RemoteProtocolError):
        fed(NO_HEADS[name], size)


def test_a_head_may_have_100_kib() -> None:
    """As with h11, the whole of it; interim replies before it count as well."""
    rest = OK + b"Content-Length: 2\r\nX: "
    full = rest + b"x" * (100 * 1024 - len(rest) - 4) + b"\r\n\r\nok"
    assert len(full) == 100 * 1024 + 2
    parser, body = fed(full)
    assert (parser.whole, body) == (True, b"ok")
    for too_much in (full.replace(b"X: ", b"X:  "), CONTINUE + full):
        with pytest.raises(RemoteProtocolError, match="more than 102400 bytes beside the body"):
            fed(too_much)


def test_head_and_chunks_have_a_limit_each() -> None:
    """What came before the body does not count between its bytes, nor one gap of it in the next."""
    head = CHUNKED[:-2] + b"X: " + b"x" * 60 * 1024 + b"\r\n\r\n"
    chunk = b"2;" + b"y" * 60 * 1024 + b"\r\nok\r\n"
    parser, body = fed(head + chunk + chunk + b"0\r\n\r\n", 30 * 1024)
    assert (parser.whole, body) == (True, b"okok")


def test_a_head_that_ends_in_line_feeds_alone_is_refused_at_once() -> None:
    """Before it has timed out, and before its peer leaves."""
    with pytest.raises(RemoteProtocolError, match="not certain where the body begins"):
        fed(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n")


def test_odd_headers_are_read_as_h11_reads_them() -> None:
    """A folded value is one value with a space in it, and a control character stays."""
    parser, _ = fed(OK + b"A: b\r\n  c\t\r\nD: \x02e\nF: g\r\n\r\n")
    assert parser.head is not None
    assert [(name, value.strip()) for name, value in parser.head.headers] == [
        (b"A", b"b c"), (b"D", b"\x02e"), (b"F", b"g"),
    ]  # fmt: skip
    assert parser.head.odd


@pytest.mark.parametrize("name", ["garbage", "HTTP/2", "RTSP", "lower case", "a request"])
def test_what_cannot_become_http_is_refused_at_its_first_bytes(name: str) -> None:
    """A peer that speaks another protocol is not waited for."""
    with pytest.raises(RemoteProtocolError, match="begin"):
        fed(NO_HEADS[name][:7])


NO_CHUNKS: dict[str, bytes] = {
    "no hexadecimal": b"zz\r\nok\r\n",
    "a negative size": b"-2\r\nok\r\n",
    "a prefix": b"0x2\r\nok\r\n",
    "an empty size": b"\r\nok\r\n",
    "a size of 20 digits": b"f" * 20 + b"\r\nok\r\n",
    "too short a chunk": b"2\r\no\r\n0\r\n\r\n",
    "too long a chunk": b"2\r\nokay\r\n0\r\n\r\n",
    "a line feed alone behind the size": b"2\nok\r\n",
    "a line feed alone behind the data": b"2\r\nok\n",
    "nothing behind the data": b"2\r\nok0\r\n\r\n",
    "an extension behind two spaces": b"2 ; x\r\nok\r\n0\r\n\r\n",
    "a control character in an extension": b"2;\rx\r\nok\r\n0\r\n\r\n",
    "a line feed alone behind a trailer": b"2\r\nok\r\n0\r\nX: y\n\n",
    "a bad trailer": b"2\r\nok\r\n0\r\nX Y\r\n\r\n",
    "a length as a trailer": b"2\r\nok\r\n0\r\nContent-Length: 2\r\n\r\n",
    "a size without end": b"0" * (LIMIT + 1),
    "an extension without end": b"2;" + b"x" * LIMIT,
    "trailers without end": b"0\r\n" + b"X: y\r\n" * (LIMIT // 6 + 1),
}


@pytest.mark.parametrize("size", [1, 1 << 30])
@pytest.mark.parametrize("name", NO_CHUNKS)
def test_what_is_no_chunk_is_refused(name: str, size: int) -> None:
    """Whatever the head has promised."""
    data = CHUNKED + NO_CHUNKS[name]
    with pytest.raises(RemoteProtocolError):
        fed(data, max(size, len(data) // 1000))


CUT: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "without an answer"),
    "a part of a status line": (b"HTTP/1.1 20", "middle of a head"),
    "a part of a header": (OK + b"Content-Le", "middle of a head"),
    "an interim reply only": (CONTINUE, "without an answer"),
    "a part of a body": (answer(b"hello")[:-2], "before 2 bytes"),
    "a head only": (answer(b"hello")[:-5], "before 5 bytes"),
    "a part of a chunk": (CHUNKED + b"a\r\nok", "before the last chunk"),
    "all but the last chunk": (CHUNKED + b"2\r\nok\r\n", "before the last chunk"),
    "the last chunk without its end": (CHUNKED + b"2\r\nok\r\n0\r\n", "before the last chunk"),
}


@pytest.mark.parametrize("name", CUT)
def test_a_reply_that_is_cut_off_is_an_error(name: str) -> None:
    """The error says what is missing."""
    data, missing = CUT[name]
    with pytest.raises(RemoteProtocolError, match=missing):
        fed(data, end=True)


# -- against h11 -----------------------------------------------------------------------------------------


def by_h11(data: bytes) -> tuple[int, bytes] | None:
    """Return the status and body that h11 reads from *data* and the end of the stream; None for an error."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


pieces = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", CONTINUE, b"HTTP/1.1 204 N\r\n",
        b"Content-Length: 2\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n", b"X: y\r\n", b" z\r\n", b"X: \x01\r\n", b"X: y\n", b"2 \r\nok\r\n",
        b"2; x\r\nok\r\n", b" z", b"\r\n", b"\r\n\r\n", b"\n", b"ok", b"2\r\nok\r\n",
        b"0\r\n\r\n", b"0\r\n", b"1;x\r\na\r\n", b":", b"\0",
    ]
)  # fmt: skip
messages = st.one_of(
    st.sampled_from([data for data, _, _ in WHOLE.values()] + list(NO_HEADS.values())).map(
        lambda data: data[:4000]
    ),
    st.lists(pieces, max_size=12).map(b"".join),
)


@examples(400)
@given(data=messages, size=st.integers(1, 40), mutation=st.tuples(st.integers(0, 400), st.binary(max_size=2)))
def test_what_is_believed_h11_believes_too(data: bytes, size: int, mutation: tuple[int, bytes]) -> None:
    """No reply is read that h11 refuses or reads otherwise, and no error but ours comes out."""
    place, inserted = mutation
    data = data[:place] + inserted + data[place:]
    try:
        parser, body = fed(data, size, end=True)
    except RemoteProtocolError:
        return
    assert parser.head is not None
    assert by_h11(data) == (parser.head.status, body)
