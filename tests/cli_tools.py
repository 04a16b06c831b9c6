"""What the tests of the command line share: a caller, a terminal, and a service that answers as told."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.servers import wait_until
from wiro_async.cli import main
from wiro_async.sandbox import Sandbox

DIRECTOR = "MiniMax/image-to-video-01-director"
TOKEN = "canary-token-77aa"


@attrs.frozen
class Said:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[Any]:
        """The JSON lines of stdout: every line must be one."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def problem(self) -> str:
        """The one line of stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("wiro: ")
        return line.removeprefix("wiro: ")


@attrs.frozen
class Wiro:
    """Calls the command line in this process, and watches that it tells no secret."""

    capture: pytest.CaptureFixture[str]
    secrets: Callable[[], Sequence[str]]

    def __call__(self, *arguments: str, code: int = 0) -> Said:
        """Run one command line that is to end with *code*."""
        ended = main(arguments)
        captured = self.capture.readouterr()
        for secret in self.secrets():
            assert secret not in captured.out + captured.err
        assert "Traceback" not in captured.err
        assert ended == code, captured.err
        return Said(ended, captured.out, captured.err)


def secrets_of(sandbox: Sandbox) -> list[str]:
    """Return what no command may show: the project's secret and the tasks' tokens."""
    return ["sandbox-key", "sandbox-secret", *sandbox.engine._tokens]


@pytest.fixture
def wiro(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> Wiro:
    """The command line, with the test's sandbox for a service."""
    return Wiro(capsys, lambda: secrets_of(sandbox))


def name_in_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name a sandbox, its credentials, and the package under test for child processes."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("WIRO_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("WIRO_API_KEY", "sandbox-key")
    monkeypatch.setenv("WIRO_API_SECRET", "sandbox-secret")


class Terminal(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def be_a_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int = 80, lines: int = 24, kind: str = "xterm-256color"
) -> Terminal:
    """Put a terminal in the place of stdout."""
    terminal = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": kind, "COLUMNS": str(columns), "LINES": str(lines)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", terminal)
    return terminal


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    """Put a pipe with *data* in the place of stdin."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.encode())))


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no folder be written, not even by root, who may write wherever the modes forbid it."""
    monkeypatch.setattr("os.access", lambda *_: False)


@contextmanager
def interrupt_when(happened: Callable[[], bool], number: int = signal.SIGINT) -> Iterator[None]:
    """Send this process a signal once something has happened."""

    def wait() -> None:
        wait_until(happened)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        thread.join()


Answer = dict[str, Any] | Callable[[], dict[str, Any] | None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that leave are part of the tests."""


class Stub:
    """A service on a real socket that answers each operation as told.

    Args:
        answers: For each operation, replies in turn; the last one repeats. A callable makes a reply when it
            is asked for; None closes the connection without one.
    """

    def __init__(self, **answers: Answer | list[Answer]) -> None:
        self.calls: list[str] = []
        self._answers: dict[str, list[Answer]] = {
            name.replace("_", "/"): list(answer) if isinstance(answer, list) else [answer]
            for name, answer in answers.items()
        }
        # What is not told of is not noted either: all commands that make Runs look their models up.
        self._quiet: bool = "Tool/Detail" not in self._answers
        self._answers.setdefault("Tool/Detail", [ok(tool=[{"slugowner": "a", "slugproject": "b"}])])
        self._server: _Server = _Server(("127.0.0.1", 0), self._handler())
        self.base_url: str = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Stub:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, path: str) -> dict[str, Any] | None:
        name = path.removeprefix("/v1/")
        name = "Run" if name.startswith("Run/") else name
        if not (self._quiet and name == "Tool/Detail"):
            self.calls.append(name)
        answers = self._answers[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer() if callable(answer) else answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                reply = stub._reply(self.path)
                if reply is None:
                    self.close_connection = True
                    return
                body = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any, **__: Any) -> None:
                pass

        return Handler


def ok(**fields: Any) -> dict[str, Any]:
    """Return a successful reply."""
    return {"result": True, "errors": [], **fields}


def no(code: int, message: str) -> dict[str, Any]:
    """Return a refusal."""
    return {"result": False, "errors": [{"code": code, "message": message}]}


def accepted() -> dict[str, Any]:
    """Return the reply to a Run that was accepted."""
    return ok(taskid="2221", socketaccesstoken=TOKEN)


def about(status: str, **fields: Any) -> dict[str, Any]:
    """Return the reply to a look at a task."""
    task = {"id": "2221", "socketaccesstoken": TOKEN, "status": status, "createtime": "1734513807", **fields}
    return ok(total="1", tasklist=[task])
