"""``--proxy``: every command has it, and what goes wrong with it is told without its password."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import KEY, SECRET
from tests.proxies import Proxy
from tests.servers import Server, refused_port
from wiro_async.cli import main
from wiro_async.sandbox import Sandbox

PASSWORD = "canary-password-77"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRO_API_KEY", KEY)
    monkeypatch.setenv("WIRO_API_SECRET", SECRET)


def test_a_command_goes_through_its_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    """The proxy signs the user in, and passes the call on."""
    proxy = Proxy(f"me:{PASSWORD}")
    with Sandbox(api_key=KEY, api_secret=SECRET) as sandbox, Server(proxy) as between:
        url = f"http://me:{PASSWORD}@127.0.0.1:{between.port}"
        assert main(["tasks", "--base-url", sandbox.base_url, "--proxy", url]) == 0
    assert proxy.asked == [f"POST {sandbox.base_url}/Task/List HTTP/1.1"]
    assert PASSWORD not in "".join(capsys.readouterr())


def test_a_proxy_that_is_no_good_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """As an address that is refused, and as one that is none: a mistake in the command line."""
    port = refused_port()
    tasks = ["tasks", "--base-url", "https://127.0.0.1:9/v1", "--proxy"]
    assert main([*tasks, f"http://me:{PASSWORD}@127.0.0.1:{port}"]) == 1
    assert f"the proxy http://127.0.0.1:{port} (proxy=)" in (said := capsys.readouterr().err)
    assert main([*tasks, f"me:{PASSWORD}@127.0.0.1:{port}"]) == 2
    assert "must look like http://host:port" in (said_too := capsys.readouterr().err)
    assert PASSWORD not in said + said_too


def test_hints_keep_the_proxy_but_no_password(session_of: Callable[..., str]) -> None:
    """The command that goes on needs it, too; a password does not belong on the screen."""
    assert session_of("http://127.0.0.1:3128") == "`wiro watch 7 --proxy http://127.0.0.1:3128`"
    assert session_of(f"http://me:{PASSWORD}@127.0.0.1:3128") == "`wiro watch 7`"


@pytest.fixture
def session_of() -> Callable[..., str]:
    from wiro_async.cli._report import Report
    from wiro_async.cli._session import Session

    return lambda proxy: Session(Report(as_json=False), proxy=proxy).command("watch", "7")


@pytest.mark.parametrize("command", ["run", "tasks", "batch", "models", "watch"])
def test_every_command_has_the_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And its help says which variables it stands in for."""
    main([command, "--help"])
    text = capsys.readouterr().out
    assert "--proxy" in text
    assert "HTTPS_PROXY" in text
