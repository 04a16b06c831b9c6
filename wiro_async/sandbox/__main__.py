"""``python -m wiro_async.sandbox``: the sandbox as a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wiro_async.sandbox import SandboxConfig, serve

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command line's words; None takes the process's own.

    Returns:
        The exit code: 0 after SIGINT or SIGTERM, 1 when the port is taken.
    """
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    ready_file = options.pop("ready_file")
    if options.pop("key_only"):
        options["api_secret"] = None
    try:
        config = SandboxConfig(**options)
    except ValueError as error:
        parser.error(str(error))
    try:
        return serve(config, ready_file=ready_file, announce=_announce)
    except OSError as error:
        sys.stderr.write(f"The sandbox could not start on {config.host}:{config.port}: {error}\n")
        return 1


def _announce(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    defaults = SandboxConfig()
    environment = os.environ
    parser = argparse.ArgumentParser(
        prog="python -m wiro_async.sandbox",
        description="A local service that imitates the Wiro API. Listens on this machine only.",
    )
    add = parser.add_argument
    add("--host", default=defaults.host, help="a loopback address (default %(default)s)")
    add("--port", type=int, default=defaults.port, help="0 takes a free one (default)")
    add("--ready-file", type=Path, help="gets the base URL once the sandbox accepts connections")
    add("--api-key", default=environment.get("WIRO_API_KEY") or defaults.api_key)
    add("--api-secret", default=environment.get("WIRO_API_SECRET") or defaults.api_secret)
    add("--key-only", action="store_true", help="a project without signatures")
    add(
        "--speed", type=float, default=defaults.speed, help="how much faster tasks live (default %(default)s)"
    )
    add(
        "--seed", type=int, default=defaults.seed, help="what all randomness comes from (default %(default)s)"
    )
    add("--balance", type=float, default=defaults.balance, help="USD on the account (default %(default)s)")
    add("--price", type=float, help="USD per run, for all models")
    add("--concurrency-limit", type=int, help="tasks at the same time (default: from the balance)")
    add("--queue-mean", type=float, default=defaults.queue_mean, help="mean seconds in the queue")
    add("--run-median", type=float, help="median seconds of a run")
    add("--run-sigma", type=float, default=defaults.run_sigma, help="spread of the log-normal run")
    add("--order", choices=["docs", "seeds"], default=defaults.order, help="of preprocessing and assignment")
    add("--strict-nonce", action="store_true", help="refuse a nonce that was used before")
    add("--no-render", dest="render", action="store_false", help="stand-in files instead of clips")
    return parser


if __name__ == "__main__":
    sys.exit(main())
