"""The service's calls: queue, send, read with a cap, judge, retry what is safe; and Runs in three steps."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.fakes import BASE, FakeService, client, no, ok, task
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import AuthenticationError, ConnectionFailed, InvalidResponse, Limits, Secret
from wiro_async._aio import SendWindow
from wiro_async._config import configure
from wiro_async._http.foreign import adapted
from wiro_async._http.transport import Transport
from wiro_async._protocol.envelope import UNCHANGED
from wiro_async._protocol.operations import Operation, run
from wiro_async._types import Payload

RUN = run("owner/model")
DETAIL = Operation("Task/Detail", "Task/Detail")


def transport(service: httpx.AsyncBaseTransport, chance: float = 0.5, **limits: Any) -> Transport:
    config = configure(
        KEY,
        SECRET,
        base_url=BASE,
        socket_url=None,
        download_hosts=frozenset(),
        polling=None,
        limits=Limits(**limits),
        environ={},
    )
    assert config.api_secret == Secret(SECRET)
    return Transport(config, adapted(service), lambda: chance)


async def paid(
    caller: Transport, payload: dict[str, Any] | None = None, operation: Operation = RUN
) -> Payload:
    """Make one Run's exchange, as whoever pays for it does."""
    await caller.enter(operation)
    try:
        return await caller.exchange(
            operation,
            json.dumps(payload or {}, ensure_ascii=False, separators=(",", ":")).encode(),
            SendWindow(10.0),
        )
    finally:
        caller.leave()


class Silent(FakeService):
    """Takes a request and never answers; tells how far it came if asked to."""

    sent: bool | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((request.url.path, {}))
        request.extensions["wiro_async.progress"].sent = self.sent
        await anyio.sleep_forever()
        raise AssertionError


class Streaming(httpx.AsyncByteStream):
    """A body in pieces, which may break."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.closed = False

    def __aiter__(self) -> Streaming:
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            raise StopAsyncIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def aclose(self) -> None:
        self.closed = True


async def test_a_call_posts_json_and_returns_the_payload() -> None:
    """The request has our headers, the exact body, and no credential; the reply's payload comes back."""
    service = FakeService(Task_Detail=ok(total="1"))
    assert await transport(service).call(DETAIL, {"taskid": "7", "ü": ["ß"]}) == ok(total="1")
    (request,) = service.requests
    assert (request.method, str(request.url)) == ("POST", f"{BASE}/Task/Detail")
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"] == f"wiro-async/{wiro_async.__version__}"
    assert request.headers["host"] == "127.0.0.1:9"
    assert int(request.headers["content-length"]) == len('{"taskid":"7","ü":["ß"]}'.encode())
    assert service.calls == [("Task/Detail", {"taskid": "7", "ü": ["ß"]})]
    assert "x-api-key" not in request.headers


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("garbage"),
        httpx.Response(503, text="<html>"),
        httpx.Response(429, headers={"retry-after": "3"}),
        httpx.Response(200, text="<html>"),
        no(0, "try again"),
    ],
    ids=repr,
)
async def test_a_read_survives_what_passes(fault: Any) -> None:
    """Two faults in a row are retried, after the delay that the service asked for if it did."""
    service = FakeService(Task_Detail=[fault, fault, ok()])
    start = anyio.current_time()
    assert await transport(service).call(DETAIL, {}) == ok()
    assert service.counts["Task/Detail"] == 3
    waited = anyio.current_time() - start
    if isinstance(fault, httpx.Response) and fault.status_code == 429:
        assert waited == pytest.approx(6.0)
    else:
        assert waited == pytest.approx(0.5 * 0.1 + 0.5 * 0.2)


async def test_a_read_gives_up_after_three_attempts() -> None:
    """The third failure reaches the caller."""
    service = FakeService(Task_Detail=httpx.ReadError("reset"))
    with pytest.raises(wiro_async.ConnectionFailed, match=r"Task/Detail.*ReadError: reset") as caught:
        await transport(service).call(DETAIL, {})
    assert service.counts["Task/Detail"] == 3
    assert caught.value.sent
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_what_asking_again_cannot_change_is_not_asked_again() -> None:
    """A refusal reaches the caller at once."""
    service = FakeService(Task_Detail=no(1, "Task is not in a cancellable state."))
    with pytest.raises(wiro_async.InvalidTaskState):
        await transport(service).call(DETAIL, {})
    assert service.counts["Task/Detail"] == 1


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.PoolTimeout("full"), False),
        (httpx.ProxyError("no"), False),
        (httpx.ReadError("reset"), True),
        (httpx.WriteError("reset"), True),
        (httpx.ReadTimeout("slow"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (RuntimeError("a bug of the transport's"), True),
        (httpx.Response(429), None),
        (httpx.Response(500), None),
        (httpx.Response(502, text="<html>"), None),
        (httpx.Response(200, text=""), None),
        (no(0, "?"), None),
        (no(96, "concurrent task limit"), None),
    ],
    ids=repr,
)
async def test_an_exchange_is_never_repeated(fault: Any, sent: bool | None) -> None:
    """Its caller decides; a broken connection tells whether the Run may have reached the service."""
    service = FakeService(Run=fault)
    with pytest.raises(wiro_async.WiroError) as caught:
        await paid(transport(service))
    assert service.counts["Run"] == 1
    assert getattr(caught.value, "sent", None) is sent


async def test_a_run_is_no_call() -> None:
    """What repeats by itself takes nothing that costs money."""
    service = FakeService(Run=ok())
    with pytest.raises(AssertionError, match="paid for twice"):
        await transport(service).call(RUN, {})
    assert service.calls == []


async def test_a_run_sends_the_bytes_that_it_is_given() -> None:
    """They were encoded when the job was checked."""
    service = FakeService(Run=ok(taskid="1"))
    assert await paid(transport(service), {"prompt": "Möwen"}) == ok(taskid="1")
    assert service.calls == [("Run", {"prompt": "Möwen"})]
    assert int(service.requests[0].headers["content-length"]) == len('{"prompt":"Möwen"}'.encode())
    assert service.requests[0].url.path == "/v1/Run/owner/model"


async def test_an_outage_is_not_answered_with_a_storm() -> None:
    """A thousand failing calls share a budget of 35 retries, and successes pay it back slowly."""
    service = FakeService(Task_Detail=httpx.ConnectError("down"))
    caller = transport(service)
    for _ in range(1000):
        with pytest.raises(wiro_async.ConnectionFailed):
            await caller.call(DETAIL, {})
    assert service.counts["Task/Detail"] == 1035
    service.handlers["Task/Detail"] = ok()
    for _ in range(14):
        await caller.call(DETAIL, {})
    service.handlers["Task/Detail"] = [httpx.ConnectError("once"), ok()]
    assert await caller.call(DETAIL, {}) == ok()


@pytest.mark.parametrize(("sent", "told"), [(None, True), (True, True), (False, False)])
async def test_the_deadline_covers_the_whole_exchange(sent: bool | None, told: bool) -> None:
    """A silent service costs the request timeout, and the error knows whether anything was sent."""
    service = Silent()
    service.sent = sent
    start = anyio.current_time()
    with pytest.raises(wiro_async.ConnectionFailed, match="in time") as caught:
        await paid(transport(service, request_timeout=5))
    assert len(service.calls) == 1
    assert anyio.current_time() - start == pytest.approx(5.0)
    assert caught.value.sent is told


async def test_the_queue_for_a_slot_counts_and_stops_go_first() -> None:
    """With one slot: a cancel overtakes reads that wait, and a wait in the queue ends at the deadline."""
    reply = ok(tasklist=[task()])
    service = FakeService(Task_Detail=reply, Task_Cancel=reply)
    service.latency = 2.0
    limits = Limits(max_in_flight=1, slot_timeout=5)
    failed: list[wiro_async.ConnectionFailed] = []

    async def call(operation: Callable[[], Awaitable[object]]) -> None:
        try:
            await operation()
        except wiro_async.ConnectionFailed as error:
            failed.append(error)

    async with client(service, limits=limits) as caller, anyio.create_task_group() as group:
        handles = [caller.attach("2221") for _ in range(4)]
        for operation in (*(handle.refresh for handle in handles[:3]), handles[3].cancel):
            group.start_soon(call, operation)
            await anyio.wait_all_tasks_blocked()
    assert [name for name, _ in service.calls[:2]] == ["Task/Detail", "Task/Cancel"]
    assert service.peak == 1
    assert not failed or all(not error.sent for error in failed)


async def test_a_full_queue_is_an_error_that_says_so() -> None:
    """Who gets no slot in time learns so at once: that nothing was sent, and which limit to raise."""
    caller = transport(Silent(), max_in_flight=1, slot_timeout=5)
    await caller.enter(RUN)
    start = anyio.current_time()
    for wait in (lambda: caller.call(DETAIL, {}), lambda: caller.enter(RUN)):
        with pytest.raises(wiro_async.ConnectionFailed, match="max_in_flight") as caught:
            await wait()
        assert caught.value.sent is False
    assert anyio.current_time() - start == pytest.approx(10.0)
    caller.leave()
    await caller.enter(RUN)
    caller.leave()
    assert caller.gate.in_flight == 0


async def test_a_call_ends_when_its_caller_wants_it_to() -> None:
    """In the queue, in the exchange, and before a pause that would last longer."""
    caller = transport(Silent(), max_in_flight=1)
    start = anyio.current_time()
    with pytest.raises(wiro_async.ConnectionFailed, match="no complete answer in time"):
        await caller.call(DETAIL, {}, until=start + 3.0)
    assert anyio.current_time() == start + 3.0
    await caller.enter(DETAIL)
    with pytest.raises(wiro_async.ConnectionFailed, match="no free slot in time"):
        await caller.call(DETAIL, {}, until=start + 5.0)
    assert anyio.current_time() == start + 5.0
    service = FakeService(Task_Detail=httpx.Response(503, headers={"retry-after": "7"}))
    with pytest.raises(wiro_async.ServiceError):
        await transport(service).call(DETAIL, {}, until=start + 12.0)
    assert anyio.current_time() == start + 5.0
    assert service.counts == {"Task/Detail": 1}


async def test_an_answer_that_is_known_is_not_read_again() -> None:
    """To the byte; a large one has no fingerprint, and is read each time."""
    service = FakeService(Task_Detail=[ok(total="1"), ok(total="1"), ok(total="2"), ok(total="1" * 70_000)])
    caller = transport(service)
    first = await caller.call(DETAIL, {}, known=0)
    assert isinstance(first, Payload)
    assert first.fingerprint != 0
    assert await caller.call(DETAIL, {}, known=first.fingerprint) is UNCHANGED
    other = await caller.call(DETAIL, {}, known=first.fingerprint)
    assert isinstance(other, Payload)
    assert other == ok(total="2")
    assert other.fingerprint not in (0, first.fingerprint)
    large = await caller.call(DETAIL, {}, known=other.fingerprint)
    assert isinstance(large, Payload)
    assert large.fingerprint == 0


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x" * 100])
async def test_an_encoded_reply_is_refused_unread(encoding: str) -> None:
    """What was not asked for is not decoded: no bomb goes off."""
    stream = Streaming(b"bomb")
    reply = httpx.Response(200, headers={"content-encoding": encoding}, stream=stream)
    with pytest.raises(wiro_async.InvalidResponse, match="encoded"):
        await paid(transport(FakeService(Run=reply)))
    assert stream.pieces == [b"bomb"]
    assert stream.closed


async def test_a_reply_without_end_is_cut_off() -> None:
    """At 16 MiB the reading stops and the reply is closed."""
    stream = Streaming(*[b"x" * (1 << 20)] * 40)
    with pytest.raises(wiro_async.InvalidResponse, match="larger than 16777216 bytes"):
        await paid(transport(FakeService(Run=httpx.Response(200, stream=stream))))
    assert len(stream.pieces) == 23
    assert stream.closed


async def test_a_reply_that_breaks_is_a_broken_connection() -> None:
    """A body that ends in an error is neither believed nor left open."""
    stream = Streaming(b'{"result"', httpx.ReadError("cut"))
    with pytest.raises(wiro_async.ConnectionFailed, match="cut") as caught:
        await paid(transport(FakeService(Run=httpx.Response(200, stream=stream))))
    assert caught.value.sent
    assert stream.closed


async def test_an_identity_encoding_is_fine() -> None:
    """The header may say what was asked for."""
    reply = httpx.Response(200, headers={"content-encoding": "identity"}, content=json.dumps(ok()).encode())
    assert await transport(FakeService(Task_Detail=reply)).call(DETAIL, {}) == ok()


async def test_a_closed_transport_says_so() -> None:
    """Use after close is an error, not a hang; closing twice is fine."""
    service = FakeService(Task_Detail=ok())
    caller = transport(service)
    await caller.aclose()
    await caller.aclose()
    assert service.closed
    with pytest.raises(wiro_async.ClientUseError, match="closed"):
        await caller.call(DETAIL, {})


async def test_a_forked_child_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process id than at first use is refused."""
    caller = transport(FakeService(Task_Detail=ok()))
    await caller.call(DETAIL, {})
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(wiro_async.ClientUseError, match="fork"):
        await caller.call(DETAIL, {})


def test_a_second_event_loop_is_told() -> None:
    """One client, two event loops: the second gets a clear error."""
    caller = transport(FakeService(Task_Detail=ok()))
    anyio.run(caller.call, DETAIL, {})
    for backend in ("asyncio", "trio"):
        with pytest.raises(wiro_async.ClientUseError, match="another event loop"):
            anyio.run(caller.call, DETAIL, {}, backend=backend)


async def test_closing_waits_for_runs_under_way() -> None:
    """A Run that has left is read to its answer before the connections go."""
    service = FakeService(Run=ok(taskid="1"))
    service.latency = 3.0
    caller = transport(service)
    answers: list[object] = []

    async def submit() -> None:
        answers.append(await paid(caller))

    async def close() -> None:
        await caller.aclose()
        assert service.closed
        assert service.in_flight == 0

    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        group.start_soon(submit)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(close)
        group.start_soon(close)
    assert answers == [ok(taskid="1")] * 2


async def test_closing_waits_for_a_run_that_has_its_slot() -> None:
    """Its intent is perhaps being written down; those in the queue are told that the client is closed."""
    service = FakeService(Run=ok(taskid="1"), Task_Detail=ok())
    caller = transport(service, max_in_flight=1)
    refused: list[type[Exception]] = []

    async def wait(action: Callable[[], Awaitable[object]]) -> None:
        try:
            await action()
        except wiro_async.ClientUseError as error:
            refused.append(type(error))

    await caller.enter(RUN)
    async with anyio.create_task_group() as group:
        group.start_soon(wait, lambda: caller.enter(RUN))
        group.start_soon(wait, lambda: caller.call(DETAIL, {}))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(caller.aclose)
        await anyio.wait_all_tasks_blocked()
        assert not service.closed
        assert await caller.exchange(RUN, b"{}", SendWindow(10.0)) == ok(taskid="1")
        caller.leave()
    assert service.closed
    assert refused == [wiro_async.ClientUseError] * 2
    assert (caller.gate.in_flight, caller.paid_calls) == (0, 0)


async def test_a_cancelled_read_ends_at_once() -> None:
    """Nothing is lost with it."""
    service = FakeService(Task_Detail=ok())
    service.latency = 3.0
    caller = transport(service)
    start = anyio.current_time()
    with anyio.move_on_after(1.0):
        await caller.call(DETAIL, {})
    assert anyio.current_time() - start == pytest.approx(1.0)
    assert caller.gate.in_flight == 0


async def test_an_upload_is_made_once() -> None:
    """A stream cannot be read twice, so an upload is not repeated."""
    service = FakeService(File_Upload=httpx.ReadError("cut"))
    with pytest.raises(wiro_async.ConnectionFailed):
        await transport(service).upload(
            Operation("File/Upload", "File/Upload"), [(b"Content-Length", b"2")], Streaming(b"ab")
        )
    assert service.calls == [("File/Upload", {"body": b"ab"})]


async def test_urls_are_remembered_without_limit_on_models() -> None:
    """A thousand models fill the cache of parsed URLs; the next one still works."""
    service = FakeService(Run=ok(taskid="1"))
    caller = transport(service)
    for number in range(1002):
        await paid(caller, operation=run(f"owner/model {number}"))
    assert service.requests[-1].url.raw_path == b"/v1/Run/owner/model%201001"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_large_reply_is_decoded_off_the_event_loop() -> None:
    """It comes to the same answer, or the same error."""
    large = {"x": "y" * 100_000}
    service = FakeService(Task_Detail=[ok(**large), no(1, "There is no task yet.") | large])
    caller = transport(service)
    assert await caller.call(DETAIL, {}) == ok(**large)
    with pytest.raises(wiro_async.TaskNotFound):
        await caller.call(DETAIL, {})


class Breaking(FakeService):
    """Breaks in a way of its own, and knows how far the request had come."""

    sent = True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["wiro_async.progress"].sent = self.sent
        raise OSError("a cable was pulled")


@pytest.mark.parametrize("sent", [True, False])
async def test_a_transport_that_tells_what_was_sent_is_believed(sent: bool) -> None:
    """Our own connections know whether a byte has left, whatever the exception is called."""
    service = Breaking()
    service.sent = sent
    with pytest.raises(wiro_async.ConnectionFailed, match="a cable was pulled") as caught:
        await paid(transport(service))
    assert caught.value.sent is sent


async def test_what_the_caller_was_handling_keeps_its_traceback() -> None:
    """A call made in an except block does not take the frames out of the exception there."""
    service = FakeService(Task_Detail=httpx.Response(200, stream=Streaming(httpx.ReadError("cut"))))
    caller = transport(service, chance=0.0)

    async def call_while_handling() -> None:
        try:
            raise KeyError
        except KeyError:
            with pytest.raises(wiro_async.WiroError):
                await caller.call(DETAIL, {})
            raise

    with pytest.raises(KeyError) as caught:
        await call_while_handling()
    assert caught.value.__traceback__ is not None
    assert len(caught.traceback) == 2


async def test_a_long_queue_is_no_failure() -> None:
    """A thousand calls behind one slot all get their turn: the deadline of an exchange begins with it."""
    service = FakeService(Run=ok(taskid="1"))
    service.latency = 0.5
    caller = transport(service, max_in_flight=1, request_timeout=5)
    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(paid, caller)
    assert service.counts == {"Run": 1000}


# -- credentials -----------------------------------------------------------------------------------------

REFUSED = httpx.Response(401, json=no(0, "Project authorization is not valid."))


async def test_credentials_that_worked_are_refused_four_times_before_it_is_believed() -> None:
    """Over ten seconds, for a read; from then on at once, until they work again."""
    service = FakeService(Task_Detail=[ok(), *[REFUSED] * 3, ok(), *[REFUSED] * 5, ok(), REFUSED, ok()])
    caller = transport(service)
    await caller.call(DETAIL, {})
    start = anyio.current_time()
    await caller.call(DETAIL, {})
    assert anyio.current_time() - start == pytest.approx(10.0)
    start = anyio.current_time()
    with pytest.raises(AuthenticationError):
        await caller.call(DETAIL, {})
    assert anyio.current_time() - start == pytest.approx(10.0)
    assert service.counts["Task/Detail"] == 9
    with pytest.raises(AuthenticationError):
        await caller.call(DETAIL, {})
    assert anyio.current_time() - start == pytest.approx(10.0)
    await caller.call(DETAIL, {})
    await caller.call(DETAIL, {})
    assert service.counts["Task/Detail"] == 13


async def test_credentials_that_never_worked_are_refused_at_once() -> None:
    """Of a read and of a Run."""
    service = FakeService(Task_Detail=REFUSED, Run=REFUSED)
    caller = transport(service)
    with pytest.raises(AuthenticationError):
        await caller.call(DETAIL, {})
    with pytest.raises(AuthenticationError) as caught:
        await paid(caller)
    assert not caught.value.passing
    assert caller.credentials.rest(anyio.current_time()) == 0
    assert service.counts == {"Task/Detail": 1, "Run": 1}


async def test_a_read_whose_time_is_up_does_not_say_that_the_credentials_are_wrong() -> None:
    """It has not asked often enough."""
    service = FakeService(Task_Detail=[ok(), REFUSED])
    caller = transport(service)
    await caller.call(DETAIL, {})
    start = anyio.current_time()
    with pytest.raises(ConnectionFailed):
        await caller.call(DETAIL, {}, until=start + 5)
    assert anyio.current_time() - start == pytest.approx(5.0)
    assert caller.credentials.worked


async def test_runs_that_are_refused_one_after_the_other() -> None:
    """Each raises at once; those refused together count once, and the fourth time it is believed."""
    service = FakeService(Run=[ok(taskid="1"), *[REFUSED] * 10])
    caller = transport(service)
    await paid(caller)
    passing: list[bool] = []
    for pause in (0.0, 0.0, 1.0, 2.9, 0.1, 6.0):
        await anyio.sleep(pause)
        with pytest.raises(AuthenticationError) as caught:
            await paid(caller)
        passing.append(caught.value.passing)
    assert passing == [True, True, True, True, True, False]


async def test_the_rest_after_a_refused_run() -> None:
    """One, three and six seconds, from the refusal on."""
    service = FakeService(Run=[ok(taskid="1"), REFUSED, ok(taskid="2"), REFUSED])
    caller = transport(service)
    for _ in range(2):
        await paid(caller)
        with pytest.raises(AuthenticationError):
            await paid(caller)
        assert caller.credentials.rest(anyio.current_time()) == pytest.approx(1.0)
        await anyio.sleep(0.4)
        assert caller.credentials.rest(anyio.current_time()) == pytest.approx(0.6)
        await anyio.sleep(2.0)
        assert caller.credentials.rest(anyio.current_time()) == 0


# -- pages that are too large ------------------------------------------------------------------------------


def large_pages(most: int) -> FakeService:
    """Return a service whose pages of more than *most* tasks are too large."""
    sizes: list[int] = []

    def answer(payload: dict[str, Any]) -> Any:
        sizes.append(int(payload["limit"]))
        return ok(tasklist=[]) if sizes[-1] <= most else ok(x=[0] * 200_000)

    return FakeService(Task_List=answer)


async def sizes(caller: Transport, service: FakeService, *pages: tuple[int, int]) -> list[int]:
    """Return how many tasks are asked for, where these pages are read: their starts and limits."""
    service.calls.clear()
    for start, limit in pages:
        await caller.tasks(None, start, limit)
    return [int(payload["limit"]) for _, payload in service.calls]


async def test_half_of_a_page_that_is_too_large_is_asked_for() -> None:
    """Once each, and so on down to one; what follows is as small, and another listing begins anew."""
    service = large_pages(30)
    caller = transport(service)
    assert await sizes(caller, service, (0, 100)) == [100, 50, 25]
    assert await sizes(caller, service, (25, 100), (50, 10)) == [25, 10]
    assert await sizes(caller, service, (0, 100)) == [100, 50, 25]
    service.handlers = large_pages(0).handlers
    with pytest.raises(InvalidResponse, match="larger than 100000 values") as caught:
        await sizes(caller, service, (0, 100))
    assert caught.value.too_large
    assert [int(payload["limit"]) for _, payload in service.calls] == [100, 50, 25, 12, 6, 3, 1]


async def test_a_short_list_makes_the_pages_of_others_neither_smaller_nor_larger() -> None:
    """Only a page that was too large makes others smaller, and only a larger one that was read, larger."""
    service = large_pages(30)
    caller = transport(service)
    assert await sizes(caller, service, (0, 1), (25, 28)) == [1, 28]
    assert await sizes(caller, service, (0, 100), (0, 1), (25, 100)) == [100, 50, 25, 1, 25]
    assert await sizes(caller, service, (0, 28), (25, 29)) == [28, 29]


async def test_a_list_that_cannot_be_read_for_another_reason_is_not_halved() -> None:
    """A page of one task would not help."""
    service = FakeService(Task_List=httpx.Response(403, text="<title>Blocked</title>"))
    with pytest.raises(InvalidResponse, match="Blocked"):
        await transport(service).tasks(None, 0, 100)
    assert {payload["limit"] for _, payload in service.calls} == {"100"}
