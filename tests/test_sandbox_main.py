"""The command line of ``python -m wiro_async.sandbox``, and what is said when the extra is missing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wiro_async.sandbox
from wiro_async.sandbox import SandboxConfig, __main__, _extra


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects what the command would serve."""
    calls: list[Any] = []

    def serve(config: SandboxConfig, *, ready_file: Path | None, announce: Callable[[str], None]) -> int:
        announce("ready")
        calls.append((config, ready_file))
        return 0

    monkeypatch.setattr(__main__, "serve", serve)
    return calls


def test_without_options_all_defaults_hold(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The command's defaults are the configuration's."""
    assert __main__.main([]) == 0
    assert served == [(SandboxConfig(), None)]
    assert capsys.readouterr().out == "ready\n"


def test_options_reach_the_configuration(served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from the environment where they are not given."""
    monkeypatch.setenv("WIRO_API_KEY", "env-key")
    monkeypatch.setenv("WIRO_API_SECRET", "env-secret")
    words = "--port 8080 --speed 20 --seed 3 --balance 50 --concurrency-limit 2 --price 0.5 --queue-mean 1"
    more = "--run-median 9 --run-sigma 0 --order seeds --strict-nonce --no-render --ready-file ready"
    assert __main__.main([*words.split(), *more.split()]) == 0
    config, ready_file = served[0]
    assert ready_file == Path("ready")
    assert config == SandboxConfig(
        api_key="env-key",
        api_secret="env-secret",
        port=8080,
        speed=20,
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
    )
    __main__.main(["--api-key", "k", "--key-only"])
    assert served[1][0] == SandboxConfig(api_key="k", api_secret=None)


def test_other_machines_are_refused(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit code of a wrong command line."""
    with pytest.raises(SystemExit) as caught:
        __main__.main(["--host", "0.0.0.0"])
    assert caught.value.code == 2
    assert "is not a loopback address" in capsys.readouterr().err
    assert served == []


def test_a_port_that_is_taken_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line, not in a traceback."""

    def serve(*args: object, **options: object) -> int:
        raise OSError("Address already in use")

    monkeypatch.setattr(__main__, "serve", serve)
    assert __main__.main(["--port", "8080"]) == 1
    assert "could not start on 127.0.0.1:8080: Address already in use" in capsys.readouterr().err


def test_the_public_names_are_what_is_documented() -> None:
    """Nothing else is offered."""
    assert wiro_async.sandbox.__all__ == ["Engine", "Sandbox", "SandboxConfig", "serve"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"needs 'uvicorn'.*pip install 'wiro-async\[sandbox\]'") as caught:
        importlib.reload(_extra)
    assert caught.value.name == "uvicorn"
