"""The standard streams, as a caller may have left them. Loads no rich: ``wiro sandbox`` needs none."""

from __future__ import annotations

import io
import os
import sys

__all__ = ["prepare_streams"]


def prepare_streams() -> None:
    """See to it that words can be written, whatever the caller has left of the standard streams."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed, as by ``>&-``. In its place the next file that is opened would be written to.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Its encoding may be one without arrows and ellipses; that is no reason to fail.
            stream.reconfigure(errors="replace")
