"""Absence, over real sockets: silent peers, requests that land late, clocks that differ."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.servers import Peer, Server
from wiro_async import Client, Job, JournalReader, Limits, SubmissionUnknown
from wiro_async import _aio as aio
from wiro_async._http.network import connect
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox.faults import FaultPlan, Held, Latency, ListLag, Reset, Status

QUICK = Limits(request_timeout=0.5, send_window=1.0, margin=0.5, settle_timeout=0.2)
SLUG = "MiniMax/image-to-video-01-director"
INPUTS = {"prompt": "waves", "inputImageFirstUrl": "https://example.org/a.png"}


def client(server: Sandbox) -> Client:
    key, secret = server.config.api_key, server.config.api_secret
    return Client(key, secret, base_url=server.base_url, watch="poll", limits=QUICK)


@pytest.mark.parametrize("on_unknown", ["raise", "resubmit"])
async def test_a_peer_that_answers_nothing_is_given_up_in_time(on_unknown: wiro_async.OnUnknown) -> None:
    """As on virtual time; the bound is generous, as the machine may be busy."""

    def hold(peer: Peer) -> None:
        peer.request()
        peer.hold()

    with Server(hold) as server:
        async with Client(KEY, SECRET, base_url=f"{server.url}/v1", watch="poll", limits=QUICK) as own:
            with anyio.fail_after(2.7 + 10.0), pytest.raises(SubmissionUnknown):
                await own.submit(SLUG, INPUTS, on_unknown=on_unknown)


async def test_a_request_that_the_network_holds_is_waited_for() -> None:
    """It lands after its client has given it up, and a list without it was read: it is not sent again."""
    plan = FaultPlan()
    plan.script("Run", Held(0.9))
    async with (
        Sandbox(faults=plan, speed=100.0, render=False) as server,
        client(server) as own,
    ):
        assert (await own.submit(SLUG, INPUTS, on_unknown="resubmit")).id == "2221"
        assert server.ledger()["runs"] == 1


async def test_two_equal_runs_whose_answers_are_lost_are_paid_once_each(tmp_path: Path) -> None:
    """As single calls, and as jobs of a batch; one of each lands late, and the list lags."""
    plan = FaultPlan()
    for _ in range(2):
        plan.script("Run", Reset(after="processing"))
        plan.script("Run", Held(0.8))
    plan.random(0.3, ["Task/List"], faults=[ListLag(0.1), Latency(0.2)])
    async with (
        Sandbox(faults=plan, speed=300.0, render=False) as server,
        client(server) as own,
    ):
        ids: list[str | None] = []

        async def one() -> None:
            ids.append((await own.submit(SLUG, INPUTS, on_unknown="resubmit")).id)

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
        jobs = [Job(SLUG, INPUTS, key=key) for key in "ab"]
        async with own.batch(jobs, journal=tmp_path / "a.db", on_unknown="resubmit") as batch:
            ids += [outcome.task_id async for outcome in batch]
        assert len(set(ids)) == 4
        assert server.ledger()["runs"] == 4


@pytest.mark.parametrize("send_date", [True, False])
async def test_a_service_whose_clock_is_behind(send_date: bool) -> None:
    """Over sockets: where it sends a date the task is found, else it stays in doubt; it is paid once."""
    plan = FaultPlan()
    plan.script("Run", Reset(after="processing"))
    async with (
        Sandbox(faults=plan, clock_skew=-600.0, send_date=send_date, speed=100.0, render=False) as server,
        client(server) as own,
    ):
        try:
            found = (await own.submit(SLUG, INPUTS, on_unknown="resubmit")).id
        except SubmissionUnknown as error:
            found = "in doubt" if "has the same model and inputs" in str(error) else "?"
        assert found == ("2221" if send_date else "in doubt")
        assert server.ledger()["runs"] == 1


# -- a machine that stands still -------------------------------------------------------------------------


async def test_what_is_written_after_the_window_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slept between the check and the write."""
    slept, usual = [0.0], aio.uptime
    monkeypatch.setattr("wiro_async._aio.uptime", lambda: usual() + slept[0])
    window = aio.SendWindow(10.0)
    window.written()
    assert not window.late
    slept[0] = 3600.0
    window.written()
    assert (window.late, window.elapsed >= 3600.0) == (True, True)


async def test_a_run_that_left_too_late_is_quiet_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is logged as an error and recorded; a resume waits for it."""
    monkeypatch.setattr("wiro_async._aio.SendWindow.written", lambda window: setattr(window, "late", True))
    plan = FaultPlan()
    plan.script("Run", Reset())
    plan.script("Task/List", Status(503), times=None)
    async with Sandbox(faults=plan, speed=100.0, render=False) as server, client(server) as own:
        async with own.batch([Job(SLUG, INPUTS, key="a")], journal=tmp_path / "a.db") as batch:
            (outcome,) = [outcome async for outcome in batch]
        assert isinstance(outcome.error, SubmissionUnknown)
    async with JournalReader(tmp_path / "a.db") as journal:
        entry = await journal.find("a")
    assert entry is not None
    assert entry.fingerprint.quiet_at == outcome.error.quiet_at >= entry.fingerprint.sent_at + 2.2
    assert "may have left after its time" in caplog.text


def _socket_of(stream: Any) -> Any:
    return stream.sock if hasattr(stream, "sock") else stream._transport.get_extra_info("socket")


async def test_the_system_gives_up_what_is_not_acknowledged() -> None:
    """On the connections of Runs, where it has the option; a peer that has gone already changes nothing."""
    with Server(lambda peer: peer.hold()) as server:
        stream = await connect("127.0.0.1", server.port, None)
        stream.give_up_after(0.5)
        sock = _socket_of(stream)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 500
        await stream.aclose()
        await anyio.lowlevel.checkpoint()
        stream.give_up_after(0.5)
