"""The command line, ``wiro``. It needs the ``cli`` extra: cyclopts and rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wiro_async.cli._sandbox import serve
from wiro_async.cli._streams import prepare_streams

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line's words, without the program's name (None: the process's own).

    Returns:
        The exit code, as ``wiro --help`` lists them.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        prepare_streams()
        if words[:1] == ["sandbox"]:
            return serve(words[1:])
        from wiro_async.cli._app import execute  # noqa: PLC0415 - the extra may be missing
    except KeyboardInterrupt:
        # No task was begun; a traceback of the half second of imports would look like a failure.
        sys.stderr.write("wiro: interrupted\n")
        return 130
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("cyclopts", "rich"):
            raise
        sys.stderr.write(
            f"wiro: the command line needs {missing!r}, which is not installed: "
            "install it with its extra, from the clone: pip install '.[cli]'\n"
        )
        return 1
    return execute(words)
