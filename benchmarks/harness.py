"""Starts the server and the contenders, and knows the machine. Nothing here is measured."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import wiro_async
from benchmarks.contender import Order
from benchmarks.load import Load

__all__ = [
    "Contender", "ContenderFailed", "Server", "certificate", "environ", "environment", "raise_file_limit",
]  # fmt: skip

ROOT = Path(__file__).parent.parent
GRACE = 10.0
"""Seconds that a contender may take to start and to say what it saw, beyond its own limit."""

LIBRARIES = ("httpx", "httpcore", "aiohttp", "anyio", "attrs", "httptools", "uvloop", "uvicorn", "websockets")


class ContenderFailed(Exception):
    """A contender brought no figures; the message is the last line that it wrote."""


class Contender:
    """One baseline, run in a process of its own.

    Args:
        name: What the tables call it.
        module: Its module below ``benchmarks.baselines``, or its file for Node.
        needs: The package that it needs.
        watch: How it learns of ends, where it has a choice.
    """

    def __init__(self, name: str, module: str, needs: str = "", watch: str = "poll") -> None:
        self.name: str = name
        self.watch: str = watch
        self._module: str = module
        self._needs: str = needs

    @property
    def missing(self) -> str:
        """Why it cannot run here ("" if it can)."""
        if self._module.endswith(".mjs"):
            return "" if shutil.which("node") else f"{self.name}: node is not installed; left out"
        if self._needs and importlib.util.find_spec(self._needs) is None:
            return f"{self.name}: {self._needs} is not installed; left out"
        if self._module == "ours" and not _can_watch(self.watch):
            return f"{self.name}: this version of wiro_async cannot; left out"
        return ""

    def run(self, order: Order, authority: Path | None = None) -> dict[str, Any]:
        """Let it follow an order, and return what it saw.

        Raises:
            ContenderFailed: It wrote no figures.
        """
        script = Path(__file__).parent / "baselines" / self._module
        command = (
            ["node", str(script)]
            if script.suffix
            else [sys.executable, "-m", f"benchmarks.baselines.{self._module}"]
        )
        try:
            process = subprocess.run(
                [*command, json.dumps(asdict(order))],
                cwd=ROOT,
                env=environ(authority),
                capture_output=True,
                text=True,
                timeout=order.seconds + GRACE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ContenderFailed(f"{self.name}: not done after {order.seconds + GRACE:g} s") from None
        lines = process.stdout.splitlines()
        if process.returncode or not lines:
            last = (process.stderr.strip() or "wrote nothing").splitlines()[-1]
            raise ContenderFailed(f"{self.name}: {last[:300]}")
        seen: dict[str, Any] = json.loads(lines[-1])
        return seen


def _can_watch(way: str) -> bool:
    """Tell whether this version of wiro_async can learn of ends in this way."""
    if way == "callback":
        return hasattr(wiro_async, "CallbackReceiver")
    return way == "poll" or "watch" in inspect.signature(wiro_async.Client).parameters


def environ(authority: Path | None = None) -> dict[str, str]:
    """Return the environment of a contender: byte code is kept, credentials and proxies are left out."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WIRO_")
        and not name.lower().endswith("_proxy")
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    if authority is not None:
        variables["SSL_CERT_FILE"] = variables["NODE_EXTRA_CA_CERTS"] = str(authority)
    return variables


class Server:
    """The lean server in a process of its own.

    Args:
        pem: A certificate and its key, to serve TLS too.
    """

    def __init__(self, pem: tuple[Path, Path] | None = None) -> None:
        command = [sys.executable, "-m", "benchmarks.server"]
        if pem is not None:
            command += ["--certificate", str(pem[0]), "--key", str(pem[1])]
        self._process: subprocess.Popen[str] = subprocess.Popen(
            command, cwd=ROOT, env=environ(), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        ports = [int(self._process.stdout.readline()) for _ in range(1 if pem is None else 2)]
        self.port: int = ports[0]
        self.tls_port: int | None = ports[1] if pem else None
        self.authority: Path | None = pem[0] if pem else None

    @property
    def base(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def tls_base(self) -> str | None:
        """The API's address over TLS (None: there is no certificate)."""
        return f"https://127.0.0.1:{self.tls_port}/v1" if self.tls_port else None

    def reset(self, load: Load, count: int, output: tuple[str, int] | None = None) -> None:
        """Forget all tasks, and expect *count* Runs of *load*."""
        self._ask("reset", {"load": asdict(load), "count": count, "output": output})

    def end(self) -> None:
        """End all tasks that nobody submitted."""
        self._ask("end", {})

    def usage(self) -> dict[str, Any]:
        """Return its ``requests`` by kind, and the exact ``ends`` of the tasks."""
        return self._ask("usage", {"since": 0.0, "until": 0.0})

    def share(self, began: float, wall: float) -> float:
        """Return the share of its core that it used in the *wall* seconds from the time *began*."""
        return float(self._ask("usage", {"since": began, "until": began + wall})["share"])

    def _ask(self, verb: str, payload: dict[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/control/{verb}"
        with urllib.request.urlopen(url, json.dumps(payload).encode(), timeout=30) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def certificate() -> Iterator[tuple[Path, Path] | None]:
    """Make a certificate for 127.0.0.1 that is its own authority (None: openssl is not installed)."""
    if shutil.which("openssl") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        pem, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
                "-keyout", str(key), "-out", str(pem),
            ],
            capture_output=True,
            check=True,
        )  # fmt: skip
        yield pem, key


def raise_file_limit(wanted: int = 20_000) -> int:
    """Allow this process and its children more open files, and return how many."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most)


def environment() -> dict[str, Any]:
    """Return the facts that a figure depends on; no path, and no name of the machine."""
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "wiro_async": importlib.metadata.version("wiro-async"),
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "load before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
    }
    for name in LIBRARIES:
        if importlib.util.find_spec({"attrs": "attr"}.get(name, name)):
            facts[name] = importlib.metadata.version(name)
    if node := shutil.which("node"):
        facts["Node"] = _first_line([node, "--version"]).lstrip("v")
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _first_line(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
