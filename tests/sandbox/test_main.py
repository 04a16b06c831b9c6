"""The command line of ``python -m wiro_async.sandbox``, and what is said when the extra is missing."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wiro_async.sandbox
from tests.conftest import KEY, SECRET
from wiro_async.sandbox import SandboxConfig, __main__, _extra


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects what the command would serve: the configuration, the ready file and whether in JSON."""
    calls: list[Any] = []

    def serve(
        config: SandboxConfig, *, ready_file: Path | None, announce: Callable[[str], None], as_json: bool
    ) -> int:
        announce("ready")
        calls.append((config, ready_file, as_json))
        return 0

    monkeypatch.setattr(__main__, "serve", serve)
    return calls


def test_without_options_all_defaults_hold(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The command's defaults are the configuration's."""
    assert __main__.main([]) == 0
    assert served == [(SandboxConfig(), None, False)]
    assert capsys.readouterr().out == "ready\n"


def test_options_reach_the_configuration(served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from the environment where they are not given."""
    monkeypatch.setenv("WIRO_API_KEY", "env-key")
    monkeypatch.setenv("WIRO_API_SECRET", "env-secret")
    words = "--port 8080 --speed 20 --seed 3 --balance 50 --concurrency-limit 2 --price 0.5 --queue-mean 1"
    more = "--run-median 9 --run-sigma 0 --order seeds --strict-nonce --no-render --ready-file ready --json"
    wire = (
        "--socket-format new --tasks-per-socket 3 --callback-shape bare --form-defaults --kill-by-tasktoken "
        "--documented --allow-host sandbox --allow-fetch app:80"
    )
    assert __main__.main([*words.split(), *more.split(), *wire.split()]) == 0
    config, ready_file, as_json = served[0]
    assert (ready_file, as_json) == (Path("ready"), True)
    assert config == SandboxConfig(
        api_key="env-key",
        api_secret="env-secret",
        port=8080,
        speed=20,
        form_defaults=True,
        kill_by_tasktoken=True,
        documented=True,
        allow_host=["sandbox"],
        allow_fetch=["app:80"],
        seed=3,
        balance=50,
        concurrency_limit=2,
        price=0.5,
        queue_mean=1,
        run_median=9,
        run_sigma=0,
        order="seeds",
        strict_nonce=True,
        render=False,
        socket_format="new",
        tasks_per_socket=3,
        callback_shape="bare",
    )
    __main__.main(["--api-key", "k", "--key-only"])
    assert served[1][0] == SandboxConfig(api_key="k", api_secret=None)


def test_the_help_explains_every_option_and_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an example, under the name by which the command was called."""
    monkeypatch.setenv("WIRO_API_KEY", KEY)
    monkeypatch.setenv("WIRO_API_SECRET", SECRET)
    with pytest.raises(SystemExit) as caught:
        __main__.main(["--help"], prog="wiro sandbox")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: wiro sandbox [-h]")
    assert "  wiro sandbox --port 8000 --speed 20\n" in text
    assert KEY not in text
    assert SECRET not in text
    assert all(action.help for action in __main__._parser("x")._actions)


def test_a_reader_who_leaves_does_not_end_the_sandbox() -> None:
    """As with ``| head -1``: what comes later goes nowhere."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output, contextlib.redirect_stdout(output):
        __main__._announce("x" * 100_000)
        __main__._announce("y")


def test_other_machines_are_refused(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit code of a wrong command line."""
    with pytest.raises(SystemExit) as caught:
        __main__.main(["--host", "0.0.0.0"])
    assert caught.value.code == 2
    assert "is not a loopback address" in capsys.readouterr().err
    assert served == []


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """In a line, not in a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert __main__.main(["--no-render", f"--port={port}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"could not start on 127.0.0.1:{port}: " in line
    assert "Address already in use" in line


def test_the_public_names_are_what_is_documented() -> None:
    """Nothing else is offered."""
    assert wiro_async.sandbox.__all__ == ["Engine", "Sandbox", "SandboxConfig", "demo_images", "serve"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"needs 'uvicorn'.*pip install '\.\[sandbox\]'") as caught:
        importlib.reload(_extra)
    assert caught.value.name == "uvicorn"
