"""The sandbox's callbacks, over real sockets; tasks live on a clock that is moved by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import httpx
import pytest

from tests.servers import Peer, Server, answer, chunked, refused_port, until
from wiro_async.sandbox import Sandbox, SandboxConfig
from wiro_async.sandbox._auth import Project
from wiro_async.sandbox._catalogue import Catalogue
from wiro_async.sandbox._engine import Task
from wiro_async.sandbox._service import Service
from wiro_async.sandbox.faults import (
    Fault,
    FaultPlan,
    ForgedCallback,
    LateCallback,
    LostCallback,
    RepeatedCallback,
    Reset,
)

CATALOGUE = Catalogue.load()
PROJECT = Project("699", "k", None)
MODEL = ("MiniMax", "image-to-video-01-director")
LOOPBACK = ("127.0.0.1", "localhost")
OK = answer(status="202 Accepted")
Reply = dict[str, Any]


class Rig:
    """A service without a server, and what it sends."""

    def __init__(self, plan: FaultPlan | None = None, **options: Any) -> None:
        self.now = 1_734_513_807.5
        config = SandboxConfig(
            render=False, balance=1e6, **{"callback_pause": 0.01, "allow_fetch": LOOPBACK, **options}
        )
        self.service = Service(config, CATALOGUE, lambda: self.now, plan)

    def run(self, url: str, prompt: str = "she walks") -> Task:
        """Accept a job that wants to be called back."""
        inputs = {"inputImageFirstUrl": "https://example.com/a.jpg", "prompt": prompt, "callbackUrl": url}
        reply = self.service._run(PROJECT, inputs, *MODEL)
        self.service.scheduler.ring()
        return self.service.engine.by_token(reply["socketaccesstoken"])

    def pass_(self, seconds: float = 1000.0) -> None:
        """Let time pass."""
        self.now += seconds
        self.service.scheduler.ring()

    def books(self) -> dict[str, int]:
        """What is not zero in the ledger."""
        return {name: number for name, number in self.service.callbacks.ledger().items() if number}

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Send what there is to send."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.service.callbacks.work)
            yield
            group.cancel_scope.cancel()

    async def ended(self, url: str, prompt: str = "she walks") -> Task:
        """Let a task end, and wait until its callback has an outcome."""
        task = self.run(url, prompt)
        async with self.working():
            self.pass_()
            await until(self.settled)
        return task

    def settled(self) -> bool:
        """Whether all callbacks have an outcome."""
        books = self.service.callbacks.ledger()
        return books["expected"] == sum(books[name] for name in ("sent", "failed", "lost", "not_sent"))


class Receiver(Server):
    """Answers callbacks with one reply after the other; the last one again and again."""

    def __init__(self, *replies: bytes) -> None:
        super().__init__(self._answer)
        self.requests: list[bytes] = []
        self._replies = list(replies or [OK])

    def __enter__(self) -> Receiver:
        super().__enter__()
        return self

    def _answer(self, peer: Peer) -> None:
        request = peer.request()
        if request is not None:
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            self.requests.append(request)
            peer.send(reply)

    def bodies(self) -> list[Reply]:
        """What was sent, decoded."""
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.requests]


def planned(*faults: Fault) -> FaultPlan:
    plan = FaultPlan()
    for fault in faults:
        plan.script("callback", fault)
    return plan


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["tasklist", "bare"])
async def test_a_finished_task_is_sent_to_its_address(shape: str) -> None:
    """As JSON, in either shape, to the address as it was given."""
    rig = Rig(callback_shape=shape)
    with Receiver() as receiver:
        task = await rig.ended(f"{receiver.url}/wiro/job-1?a=b%2F")
    (body,) = receiver.bodies()
    shown = body["tasklist"][0] if shape == "tasklist" else body
    assert (shown["id"], shown["status"], shown["pexit"]) == (task.id, "task_postprocess_end", "0")
    assert (len(shown["outputs"]), shown["callbackurl"]) == (1, f"{receiver.url}/wiro/job-1?a=b%2F")
    head = receiver.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"post /wiro/job-1?a=b%2f http/1.1\r\n")
    assert b"content-type: application/json" in head
    assert f"host: {receiver.url.removeprefix('http://')}".encode() in head
    assert rig.books() == {"expected": 1, "sent": 1, "attempts": 1}


async def test_a_failure_and_a_cancellation_are_ends_too() -> None:
    """Each with its own status and exit code."""
    rig = Rig()
    with Receiver() as receiver:
        await rig.ended(receiver.url, "[sandbox:fail no face]")
        task = rig.run(receiver.url, "[sandbox:queue]")
        rig.service.engine.cancel(task, rig.now)
        async with rig.working():
            rig.service.scheduler._look_again(task.id)  # the sandbox's loop does so
            await until(rig.settled)
    ends = [(each["tasklist"][0]["status"], each["tasklist"][0]["pexit"]) for each in receiver.bodies()]
    assert ends == [("task_postprocess_end", "1"), ("task_cancel", "")]


async def test_nothing_is_sent_before_the_end() -> None:
    """And nothing twice after it."""
    rig = Rig()
    with Receiver() as receiver:
        task = rig.run(receiver.url, "[sandbox:hang]")
        async with rig.working():
            rig.pass_()
            await anyio.wait_all_tasks_blocked()
            assert receiver.requests == []
            rig.service.engine.steer(task.id, "finish", rig.now)
            rig.service.scheduler._look_again(task.id)
            await until(rig.settled)
            rig.pass_()
            rig.service.scheduler._look_again(task.id)
            await anyio.wait_all_tasks_blocked()
    assert len(receiver.requests) == 1


def test_callbacks_go_out_from_a_running_sandbox() -> None:
    """As soon as a task has ended, without anybody asking."""
    arrived = threading.Event()

    def handler(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(OK)
            arrived.set()

    with (
        Server(handler) as server,
        Sandbox(api_key="k", api_secret=None, render=False, speed=2000, allow_fetch=LOOPBACK) as sandbox,
    ):
        inputs = {"inputImageFirstUrl": "https://example.com/a.jpg", "prompt": "x", "callbackUrl": server.url}
        url = f"{sandbox.base_url}/Run/{'/'.join(MODEL)}"
        httpx.post(url, json=inputs, headers={"x-api-key": "k"})
        assert arrived.wait(20)
    assert sandbox.ledger()["callbacks"]["expected"] == 1


# -- attempts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "replies",
    [
        [answer(status="500 Internal Server Error")],
        [answer(status="302 Found", headers=["Location: http://127.0.0.1:1/"])],
        [b"garbage\r\n\r\n"],
        [b""],
        [answer(b"cut short", headers=["Content-Length: 100"], length=False)],
    ],
)
async def test_what_is_not_answered_with_2xx_is_tried_three_times(replies: list[bytes]) -> None:
    """A redirect is no answer, and is not followed."""
    rig = Rig()
    with Receiver(*replies) as receiver:
        await rig.ended(receiver.url)
    assert len(receiver.requests) == 3
    assert rig.books() == {"expected": 1, "failed": 1, "attempts": 3}


async def test_an_attempt_may_succeed_after_others_have_not() -> None:
    """All of them say the same."""
    rig = Rig()
    with Receiver(answer(status="500 Oops"), b"", OK) as receiver:
        await rig.ended(receiver.url)
    assert receiver.bodies()[0] == receiver.bodies()[2]
    assert rig.books() == {"expected": 1, "sent": 1, "attempts": 3}


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"thanks", status="200 OK"),
        answer(chunked(b"tha", b"nks"), headers=["Transfer-Encoding: chunked"], length=False),
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        answer(status="204 No Content", length=False),
        answer(b"until the end", length=False),
    ],
)
async def test_every_form_of_a_good_answer_is_understood(reply: bytes) -> None:
    """At the first attempt."""
    rig = Rig()
    with Receiver(reply) as receiver:
        await rig.ended(receiver.url)
    assert rig.books() == {"expected": 1, "sent": 1, "attempts": 1}


async def test_nobody_there_and_nobody_answering_are_failures() -> None:
    """The second one after a time limit."""
    rig = Rig(callback_timeout=0.05)
    await rig.ended(f"http://127.0.0.1:{refused_port()}/")
    with Server(Peer.hold) as silent:
        await rig.ended(silent.url)
    await rig.ended(f"http://127.0.0.1:{refused_port()}/é")
    assert rig.books() == {"expected": 3, "failed": 3, "attempts": 9}


async def test_only_so_many_are_sent_at_the_same_time() -> None:
    """The others wait, and all arrive."""
    lock, now, most = threading.Lock(), 0, 0
    full = threading.Event()

    def handler(peer: Peer) -> None:
        nonlocal now, most
        if peer.request() is None:
            return
        with lock:
            now += 1
            most = max(most, now)
            if now == 32:
                full.set()
        full.wait(20)
        with lock:
            now -= 1
        peer.send(OK)

    rig = Rig()
    with Server(handler) as server:
        for _ in range(40):
            rig.run(server.url)
        async with rig.working():
            rig.pass_()
            await until(rig.settled)
    assert most == 32
    assert rig.books() == {"expected": 40, "sent": 40, "attempts": 40}


# -- where to --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "http://192.168.0.1/",
        "https://127.0.0.1/",
        "ftp://127.0.0.1/",
        "http://",
        "nonsense",
        "http://[127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
    ],
)
async def test_no_other_machine_is_called(url: str) -> None:
    """It is counted instead; nor does a forger call it."""
    rig = Rig(planned(ForgedCallback()))
    await rig.ended(url)
    assert rig.books() == {"expected": 1, "not_sent": 1}


async def test_a_name_of_this_machine_is_as_good_as_its_address() -> None:
    """localhost, and no port for the usual one."""
    rig = Rig()
    with Receiver() as receiver:
        await rig.ended(receiver.url.replace("127.0.0.1", "localhost"))
    assert rig.books()["sent"] == 1


# -- faults ----------------------------------------------------------------------------------------


@contextmanager
def faulty(fault: Fault) -> Iterator[tuple[Rig, Receiver, FaultPlan]]:
    """A service whose next callback suffers a fault, and who gets it."""
    plan = planned(fault)
    with Receiver() as receiver:
        yield Rig(plan), receiver, plan


async def test_a_callback_may_be_lost() -> None:
    """It is never sent; the next one is."""
    with faulty(LostCallback()) as (rig, receiver, plan):
        await rig.ended(f"{receiver.url}/lost")
        (injection,) = plan.injected
        assert (injection.number, injection.operation, injection.processed) == (1, "callback", False)
        await rig.ended(f"{receiver.url}/sent")
    assert [request.split(b" ", 2)[1] for request in receiver.requests] == [b"/sent"]
    assert rig.books() == {"expected": 2, "lost": 1, "sent": 1, "attempts": 1}
    assert plan.seen == {"callback": 2}


async def test_a_callback_may_be_late() -> None:
    """By real seconds."""
    with faulty(LateCallback(0.2)) as (rig, receiver, plan):
        rig.run(receiver.url)
        async with rig.working():
            began = anyio.current_time()
            rig.pass_()
            await until(rig.settled)
            assert anyio.current_time() - began >= 0.2
    assert len(receiver.requests) == 1
    assert [each.processed for each in plan.injected] == [True]


async def test_a_callback_may_come_twice() -> None:
    """And says the same both times."""
    with faulty(RepeatedCallback()) as (rig, receiver, plan):
        rig.run(receiver.url)
        async with rig.working():
            rig.pass_()
            await until(lambda: rig.books().get("repeated") and rig.settled())
        assert receiver.bodies()[0] == receiver.bodies()[1]
        assert len(plan.injected) == 1
    assert rig.books() == {"expected": 1, "sent": 1, "repeated": 1, "attempts": 2}


@pytest.mark.parametrize("stray", [False, True])
async def test_a_callback_may_be_forged(stray: bool) -> None:
    """It comes while the task still waits, claims its success, and perhaps misses the address."""
    with faulty(ForgedCallback(stray=stray)) as (rig, receiver, plan):
        task = rig.run(f"{receiver.url}/job", "[sandbox:queue]")
        assert len(plan.injected) == 1
        async with rig.working():
            await until(lambda: rig.books().get("forged"))
            rig.service.engine.cancel(task, rig.now)
            rig.service.scheduler._look_again(task.id)
            await until(rig.settled)
    forged, true = (each["tasklist"][0] for each in receiver.bodies())
    assert (forged["id"], forged["status"], forged["pexit"]) == (task.id, "task_postprocess_end", "0")
    assert forged["outputs"][0]["url"].startswith("https://forged.invalid/")
    assert true["status"] == "task_cancel"
    paths = [request.split(b" ", 2)[1] for request in receiver.requests]
    assert paths == [b"/jobx" if stray else b"/job", b"/job"]
    assert rig.books() == {"expected": 1, "sent": 1, "forged": 1, "attempts": 2}


async def test_a_forgery_that_nobody_takes_is_no_failed_callback() -> None:
    """The books on true ones stay true."""
    refusal, plan = answer(status="404 Not Found"), planned(ForgedCallback(stray=True))
    rig = Rig(plan)

    def handler(peer: Peer) -> None:
        request = peer.request()
        if request is not None:
            peer.send(refusal if b"/jobx " in request else OK)

    with Server(handler) as server:
        rig.run(f"{server.url}/job")
        async with rig.working():
            await until(lambda: rig.books().get("attempts") == 3)
            rig.pass_()
            await until(rig.settled)
    assert rig.books() == {"expected": 1, "sent": 1, "attempts": 4}


def test_faults_for_requests_do_not_touch_callbacks() -> None:
    """Whatever a function matches."""
    plan = FaultPlan()
    plan.script(lambda _: True, Reset())
    rig = Rig(plan)
    rig.run("http://127.0.0.1:1/")
    rig.pass_()
    assert (plan.injected, len(rig.service.callbacks._errands)) == ((), 1)


def test_no_repr_shows_the_address() -> None:
    """Who knows it can send callbacks."""
    rig = Rig()
    rig.run("http://127.0.0.1:1/canary")
    rig.pass_()
    assert "canary" not in repr(rig.service.callbacks._errands)
