"""``python -m wiro_async.sandbox``: the sandbox as a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wiro_async.sandbox import SandboxConfig, serve

__all__ = ["main"]

_EPILOG = """\
for example:
  {prog} --port 8000 --speed 20
  {prog} --json --no-render > sandbox.jsonl &

Ctrl-C ends it. With --json, the first line of the output says where it is, once
it can be reached, and the last one what has happened there. A prompt can ask for
a fate: [sandbox:fail reason], [sandbox:queue], [sandbox:error text],
[sandbox:after=requeue] (or end, or stay: what follows the error), [sandbox:hang],
[sandbox:short], [sandbox:run=SECONDS]; [sandbox:late=SECONDS] (its charge is
recorded late), [sandbox:bare=SECONDS] (its end has no exit code yet),
[sandbox:nofiles=SECONDS] (its end has no outputs yet),
[sandbox:log=BYTES] (of ordinary lines in its log).
"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m wiro_async.sandbox") -> int:
    """Run the command.

    Args:
        arguments: The command line's words; None takes the process's own.
        prog: What the command is called in its help.

    Returns:
        The exit code: 0 after SIGINT or SIGTERM, 1 when the port is taken.
    """
    parser = _parser(prog)
    options = vars(parser.parse_args(arguments))
    ready_file, as_json = options.pop("ready_file"), options.pop("json")
    if options.pop("key_only"):
        options["api_secret"] = None
    try:
        config = SandboxConfig(**options)
    except ValueError as error:
        parser.error(str(error))
    try:
        return serve(config, ready_file=ready_file, announce=_announce, as_json=as_json)
    except OSError as error:
        sys.stderr.write(f"The sandbox could not start on {config.host}:{config.port}: {error}\n")
        return 1


def _announce(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read this has left, and the sandbox goes on for others
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A local service that imitates the Wiro API.",
        epilog=_EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = SandboxConfig()
    _add_address(parser.add_argument_group("where it is"), defaults)
    _add_account(parser.add_argument_group("the account"), defaults)
    _add_tasks(parser.add_argument_group("the tasks"), defaults)
    _add_wire(parser.add_argument_group("sockets and callbacks"), defaults)
    return parser


def _add_address(group: argparse._ArgumentGroup, defaults: SandboxConfig) -> None:
    add = group.add_argument
    add("--host", default=defaults.host, help="the address to listen on (default %(default)s)")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which it is reached, beside localhost; a --host beyond this machine needs one",
    )
    add(
        "--allow-fetch",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="where images may be read and callbacks sent, such as localhost:8000 (default: nowhere)",
    )
    add("--port", type=int, default=defaults.port, help="0 takes a free one (default)")
    add(
        "--ready-file",
        type=Path,
        help="gets the base URL and the control token, a line each, once the sandbox accepts connections",
    )
    add("--json", action="store_true", help="tell programs where it is, in a line of JSON")


def _add_account(group: argparse._ArgumentGroup, defaults: SandboxConfig) -> None:
    add, environment = group.add_argument, os.environ
    # Defaults that come from the environment are not shown.
    add(
        "--api-key",
        default=environment.get("WIRO_API_KEY") or defaults.api_key,
        help=f"the project's key (default: WIRO_API_KEY, or {defaults.api_key})",
    )
    add(
        "--api-secret",
        default=environment.get("WIRO_API_SECRET") or defaults.api_secret,
        help=f"its secret (default: WIRO_API_SECRET, or {defaults.api_secret})",
    )
    add("--key-only", action="store_true", help="a project without signatures")
    add("--form-defaults", action="store_true", help="a required input that is missing has its default")
    add(
        "--kill-by-tasktoken",
        action="store_true",
        help="Task/Kill takes tasktoken, as it once was documented",
    )
    add("--strict-nonce", action="store_true", help="refuse a nonce that was used before")
    add("--balance", type=float, default=defaults.balance, help="USD on the account (default %(default)s)")
    add("--price", type=float, help="USD per run, for all models (default: the sandbox's own price list)")
    add("--concurrency-limit", type=int, help="tasks at the same time (default: from the balance)")


def _add_tasks(group: argparse._ArgumentGroup, defaults: SandboxConfig) -> None:
    add = group.add_argument
    add("--speed", type=float, default=defaults.speed, help="how much faster they live (default %(default)s)")
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        help="where all randomness comes from (default %(default)s)",
    )
    add(
        "--queue-mean",
        type=float,
        default=defaults.queue_mean,
        help="mean seconds in the queue, before --speed (default %(default)s)",
    )
    add("--run-median", type=float, help="median seconds of a run, before --speed (default: by model)")
    add(
        "--run-sigma",
        type=float,
        default=defaults.run_sigma,
        help="spread of the log-normal run (default %(default)s)",
    )
    add(
        "--order",
        choices=["docs", "seeds"],
        default=defaults.order,
        help="of preprocessing and assignment (default %(default)s)",
    )
    add(
        "--documented",
        action="store_true",
        help="begin with the tasks that the service's documents print: 2221, 534574 and 634574",
    )
    add(
        "--charge-delay",
        type=float,
        default=defaults.charge_delay,
        help="seconds after its end until a task's charge is recorded, before --speed (default %(default)s)",
    )
    add(
        "--after-error",
        choices=["stay", "end", "requeue"],
        default=defaults.after_error,
        help="what becomes of a task in task_error (default %(default)s)",
    )
    add("--no-render", dest="render", action="store_false", help="stand-in files instead of clips")


def _add_wire(group: argparse._ArgumentGroup, defaults: SandboxConfig) -> None:
    add = group.add_argument
    add(
        "--socket-format",
        choices=["old", "new"],
        default=defaults.socket_format,
        help="how the WebSocket's messages look (default %(default)s)",
    )
    add("--tasks-per-socket", type=int, help="tasks on one WebSocket (default: any number)")
    add(
        "--callback-shape",
        choices=["tasklist", "bare"],
        default=defaults.callback_shape,
        help="what is sent to callback URLs (default %(default)s)",
    )


if __name__ == "__main__":
    sys.exit(main())
