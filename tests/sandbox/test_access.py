"""What a web page in somebody's browser cannot do to a sandbox on the same machine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.servers import wait_until
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox._access import Access
from wiro_async.sandbox._refusal import Refusal

RUN = "/v1/Run/MiniMax/image-to-video-01-director"
KEY = {"x-api-key": "open-key"}

# The client's own logger: what it would write down is not of interest.
_log = logging.getLogger("tests.quiet")
_log.setLevel(logging.CRITICAL)


@contextlib.contextmanager
def running(**options: object) -> Iterator[tuple[Sandbox, httpx.Client]]:
    """A key-only sandbox, and a client that has its control token."""
    with Sandbox(api_key="open-key", api_secret=None, render=False, **options) as sandbox:  # type: ignore[arg-type]
        headers = {**KEY, "x-sandbox-token": sandbox.control_token}
        with httpx.Client(base_url=sandbox.origin, headers=headers, trust_env=False) as http:
            yield sandbox, http


# -- names and pages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "LOCALHOST.:80", "127.0.0.1:8000", "127.9.9.9", "[::1]:99", "api.localhost", "sandbox"],
)
def test_this_machine_and_allowed_names_come_in(host: str) -> None:
    """As hosts and as pages; only what is no browser has neither."""
    access = Access(["Sandbox"], [], "t")
    access.check(host, "")
    access.check("localhost", host and f"http://{host}")


@pytest.mark.parametrize(
    "host",
    ["example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1", "[::1", "sandbox.x", "@"],
)
def test_strange_names_stay_outside(host: str) -> None:
    """However much they look like ours; the refusal says what to do."""
    access = Access(["sandbox"], [], "t")
    for given in ((host, ""), ("localhost", f"http://{host}"), ("localhost", "null")):
        with pytest.raises(Refusal, match="allow_host") as caught:
            access.check(*given)
        assert caught.value.http_status == 403


@pytest.mark.parametrize("path", [RUN, "/v1/Task/List", "/cdn/none", "/sandbox/balance", "/nowhere"])
@pytest.mark.parametrize("header", [{"host": "rebound.example"}, {"origin": "https://page.example"}])
def test_every_path_is_closed_to_strangers(path: str, header: dict[str, str]) -> None:
    """Over HTTP: with 403, the reason in the service's envelope, and nothing done."""
    body = {"inputImageFirstUrl": "https://example.com/a.jpg", "prompt": "p", "balance": 0}
    with running() as (sandbox, http):
        reply = http.post(path, json=body, headers=header)
        assert (reply.status_code, reply.json()["result"]) == (403, False)
        assert "--allow-host" in reply.json()["errors"][0]["message"]
        books = sandbox.ledger()
        assert (books["runs"], books["balance"]) == (0, "100.000000000000")


@pytest.mark.parametrize("origin", ["https://page.example", "null"])
def test_websockets_are_closed_to_strange_pages(origin: str) -> None:
    """A browser opens them across origins without asking; by a strange name neither."""
    with running() as (sandbox, _):
        strange = [{"origin": origin}, {"host": "rebound.example"}]
        for headers in strange:
            with (
                pytest.raises(InvalidStatus, match="403"),
                connect(sandbox.socket_url, additional_headers=headers, logger=_log, proxy=None),
            ):
                pass
        assert sandbox.ledger()["sockets"]["opened"] == 0
        own = {"origin": "http://localhost:3000"}
        with connect(sandbox.socket_url, additional_headers=own, logger=_log, proxy=None) as client:
            assert "connected" in str(client.recv(timeout=20))


def test_another_name_is_allowed_by_the_starter() -> None:
    """Such as a container's: it is in all URLs, then."""
    with running(host="0.0.0.0", allow_host=["sandbox"]) as (sandbox, _):
        port = sandbox.origin.rpartition(":")[2]
        assert sandbox.base_url == f"http://sandbox:{port}/v1"
        for host in ("sandbox", f"sandbox:{port}"):
            reply = httpx.post(
                f"http://127.0.0.1:{port}/v1/Tool/List",
                json={},
                headers={**KEY, "host": host},
                trust_env=False,
            )
            assert reply.status_code == 200


# -- the switches ----------------------------------------------------------------------------------


def test_the_switches_need_the_starters_token() -> None:
    """Reading the books, too: they hold tokens and prompts."""
    with running() as (sandbox, http):
        for token in ("", "wrong"):
            refused = [
                http.get("/sandbox/ledger", headers={"x-sandbox-token": token}),
                http.post("/sandbox/balance", json={"balance": 1}, headers={"x-sandbox-token": token}),
            ]
            assert {reply.status_code for reply in refused} == {403}
            assert "--ready-file" in refused[0].text
        assert http.get("/sandbox/ledger").json()["balance"] == "100.000000000000"
        assert http.post("/sandbox/balance", json={"balance": 1}).json()["balance"] == "1.0"
        assert len(sandbox.control_token) >= 32


def test_the_switches_want_json() -> None:
    """A form can be sent by any page without asking."""
    with running() as (_, http):
        reply = http.post("/sandbox/balance", data={"balance": "1"})
        assert (reply.status_code, "Send JSON" in reply.text) == (415, True)
        plain = http.post("/sandbox/balance", content=b"{}", headers={"content-type": ""})
        assert plain.status_code == 415
        with_charset = {"content-type": "Application/JSON; charset=utf-8"}
        assert (
            http.post("/sandbox/balance", content=b'{"balance":1}', headers=with_charset).status_code == 200
        )


# -- where the sandbox goes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1/x", True),
        ("http://127.0.0.1:999/x", True),
        ("http://app:8000/x?y", True),
        ("http://APP:8000", True),
        ("http://app:8001/", False),
        ("http://app/", False),
        ("http://secure/", False),
        ("https://secure/", True),
        ("http://[::1]:7/", True),
        ("http://localhost/", False),
        ("http://user@127.0.0.1:0/", False),
        ("ftp://127.0.0.1/", False),
        ("http://127.0.0.1:x/", False),
        ("http:///x", False),
        ("app:8000", False),
    ],
)
def test_only_allowed_addresses_are_reached(url: str, allowed: bool) -> None:
    """A host with all of its ports, or with one."""
    access = Access([], ["127.0.0.1", "app:8000", "secure:443", "[::1]:7"], "t")
    assert access.may_reach(url) is allowed


def test_without_permission_no_callback_is_sent() -> None:
    """Not even on this machine: something else may listen there."""
    with running() as (sandbox, http):
        elsewhere = f"{sandbox.origin}/v1"
        body = {"inputImageFirstUrl": "https://example.com/a.jpg", "prompt": "p", "callbackUrl": elsewhere}
        task = http.post(RUN, json=body).json()
        http.post(f"/sandbox/tasks/{task['taskid']}", json={"action": "finish"})
        wait_until(lambda: sandbox.ledger()["callbacks"]["not_sent"] == 1)
        books = sandbox.ledger()["callbacks"]
        assert (books["sent"], books["attempts"]) == (0, 0)


# -- logs ------------------------------------------------------------------------------------------


def test_debug_logs_hold_no_token(caplog: pytest.LogCaptureFixture) -> None:
    """Neither keys nor tasks' tokens nor the control token, whatever library logs."""
    with caplog.at_level(logging.DEBUG), running() as (sandbox, http):
        body = {"inputImageFirstUrl": "https://example.com/a.jpg", "prompt": "p"}
        task = http.post(RUN, json=body).json()
        token = task["socketaccesstoken"]
        http.post("/v1/Task/Detail", json={"tasktoken": token})
        http.post("/v1/Task/Detail", data={"tasktoken": token})
        http.post("/v1/Task/Detail", files={"tasktoken": (None, token)})
        with connect(sandbox.socket_url, logger=_log, proxy=None) as client:
            client.send(f'{{"type":"task_info","tasktoken":"{token}"}}')
            client.recv(timeout=20)
            client.recv(timeout=20)
        secrets = (token, sandbox.control_token, "open-key")
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    said = "\n".join(record.getMessage() for record in ours)
    assert not [secret for secret in secrets if secret in said]
