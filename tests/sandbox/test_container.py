"""The sandbox under a name of its own, as in a container, with the client that is told of it."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import anyio
import pytest

import wiro_async
from wiro_async.sandbox import Sandbox, __main__

MODEL = "MiniMax/image-to-video-01-director"
INPUTS = {"inputImageFirstUrl": "https://example.com/a.jpg", "prompt": "she walks"}
CONTAINERFILE = Path(__file__).parent.parent.parent / "examples" / "Containerfile"


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name "sandbox" lead to this machine, as a container network does."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host in {"sandbox", b"sandbox"} else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("told", ["argument", "environment"])
@pytest.mark.parametrize("watch", ["poll", "auto"])
async def test_a_job_runs_on_a_sandbox_in_a_container(
    resolved: None, told: str, watch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls, sockets and downloads, all of them under that name and without TLS."""
    host = "0.0.0.0"
    async with Sandbox(host=host, allow_host=["sandbox"], render=False, speed=200) as sandbox:
        assert sandbox.base_url.startswith("http://sandbox:")
        allow_http = ["sandbox"] if told == "argument" else None
        if told == "environment":
            monkeypatch.setenv("WIRO_ALLOW_HTTP", "sandbox")
        client = wiro_async.Client(
            sandbox.config.api_key,
            sandbox.config.api_secret,
            base_url=sandbox.base_url,
            socket_url=sandbox.socket_url,
            watch=watch,
            allow_http=allow_http,
        )
        async with client:
            result = await client.run(MODEL, INPUTS)
            assert result.outputs[0].url.startswith("http://sandbox:")
            (path,) = await result.save(tmp_path)
        assert await anyio.Path(path).read_bytes()


async def test_outputs_of_other_hosts_stay_refused(resolved: None, tmp_path: Path) -> None:
    """Plain http to the sandbox opens no door to the rest of the network."""
    async with (
        Sandbox(render=False, speed=1000) as sandbox,
        wiro_async.Client(
            sandbox.config.api_key,
            sandbox.config.api_secret,
            base_url=sandbox.base_url,
            allow_http=["sandbox"],
        ) as client,
    ):
        result = await client.run(MODEL, INPUTS)
        output = wiro_async.Output(name="0.mp4", url="http://other:80/0.mp4", store=result.outputs[0]._store)
        with pytest.raises(wiro_async.DownloadError, match="not one of the service's hosts"):
            await output.save(tmp_path)


def test_the_containerfile_starts_a_sandbox_with_options_that_there_are() -> None:
    """Its entry point's words are taken by the command."""
    text = CONTAINERFILE.read_text(encoding="utf-8")
    words = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
    assert words[:3] == ["python", "-m", "wiro_async.sandbox"]
    options = vars(__main__._parser("x").parse_args([*words[3:], "--speed", "20"]))
    assert (options["host"], options["allow_host"]) == ("0.0.0.0", ["sandbox"])
