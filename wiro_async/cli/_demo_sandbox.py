"""The demo's sandbox: a process of its own, started for the demo and ended with it.

Its stdin is a pipe. When the demo is gone, however it went, that is closed, and the sandbox ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

__all__ = ["SandboxDied", "SandboxProcess"]


class SandboxDied(OSError):
    """The sandbox did not start."""


class SandboxProcess:
    """A sandbox in a process of its own; a context manager.

    Args:
        options: Those of ``python -m wiro_async.sandbox``.
        start_timeout: Seconds that it has for getting ready.
        stop_timeout: Seconds that it has for its end, before it is killed.

    Attributes:
        base_url: Where it is; set once it is ready.
        api_key: Its key, made up for this one.
        api_secret: Its secret, likewise.
    """

    def __init__(
        self, options: Sequence[str], *, start_timeout: float = 30.0, stop_timeout: float = 3.0
    ) -> None:
        self.base_url: str = ""
        self._control_token: str = ""
        self.api_key: str = secrets.token_hex(16)
        self.api_secret: str = secrets.token_hex(16)
        self._options: Sequence[str] = options
        self._start_timeout: float = start_timeout
        self._stop_timeout: float = stop_timeout
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="wiro-demo-")
        try:
            with (self._path / "stderr").open("wb") as stderr:
                self._process = self._start(stderr)
            self.base_url, self._control_token = self._wait_ready(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def socket_url(self) -> str:
        """Where its WebSocket is."""
        return self.base_url.replace("http", "ws", 1)

    def ledger(self) -> dict[str, Any]:
        """Its books: runs, charges and requests as the sandbox itself counted them."""
        # No proxy: the environment's would be asked for a loopback address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        address = f"{self.base_url.removesuffix('/v1')}/sandbox/ledger"
        request = urllib.request.Request(address, headers={"x-sandbox-token": self._control_token})  # noqa: S310
        with opener.open(request, timeout=10) as reply:
            books: dict[str, Any] = json.load(reply)
        return books

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name)

    def _start(self, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        # Keys go through the environment: every user of the machine can read command lines.
        keys = {"WIRO_API_KEY": self.api_key, "WIRO_API_SECRET": self.api_secret}
        ready = ["--port=0", f"--ready-file={self._path / 'ready'}"]
        return subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
            [sys.executable, "-m", "wiro_async.cli._demo_sandbox", *ready, *self._options],
            env={**os.environ, **keys},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            # A terminal sends Ctrl-C to the whole group; the sandbox must outlive its client.
            start_new_session=True,
        )

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> tuple[str, str]:
        """Return its base URL, and the token for its own switches."""
        ready = self._path / "ready"
        deadline = time.monotonic() + self._start_timeout
        while not ready.exists():
            if process.poll() is not None:
                lines = (self._path / "stderr").read_text(errors="replace").split("\n")
                said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
                raise SandboxDied(f"the sandbox ended at once (exit code {process.returncode}): {said}")
            if time.monotonic() > deadline:
                raise SandboxDied(f"the sandbox was not ready after {self._start_timeout:g} s")
            time.sleep(0.02)
        base_url, control_token = ready.read_text().split()
        return base_url, control_token

    def _end(self) -> None:
        """End that process, and no other."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.terminate()
            try:
                self._process.wait(self._stop_timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()


# -- in the process ------------------------------------------------------------------------------------------


def _end_with_parent() -> None:
    """End this process when nobody holds the other end of its stdin any more."""
    # Nothing is ever written there, so this returns at its end. Not sys.stdin: a thread that reads it holds a
    # lock, which the interpreter wants at its own end.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from wiro_async.sandbox.__main__ import main

    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main())
