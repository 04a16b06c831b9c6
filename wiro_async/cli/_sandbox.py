"""``wiro sandbox``: on its own, as the rest of the command line takes longer to load than the sandbox."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["serve"]


def serve(options: Sequence[str]) -> int:
    """Serve a sandbox until Ctrl-C.

    Args:
        options: The words behind ``wiro sandbox``.

    Returns:
        The exit code: 0 after Ctrl-C, 1 when the sandbox cannot start, or its extra is missing, 2 for options
        that make no sense.
    """
    try:
        from wiro_async.sandbox.__main__ import main  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        sys.stderr.write(f"wiro: {error}\n")
        return 1
    try:
        return main(options, prog="wiro sandbox")
    except SystemExit as exit_:  # argparse ends so, also after --help
        return int(exit_.code or 0)
