"""Where a command's words go: records or text to stdout, one line per problem to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from wiro_async.cli._text import JSON, clean

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Report"]

_PIPE_WIDTH = 500
"""Columns of a table that goes to a file or a pipe, so that nothing is cut: rich would take 80."""


class Report:
    """A command's voice. It writes either JSON or text for people, never both.

    Args:
        as_json: Whether stdout gets JSON records, one a line, and nothing else.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json: bool = as_json
        # Markup and emoji codes stay off: what is printed comes from elsewhere.
        self.console: Console = Console(
            highlight=False,
            markup=False,
            emoji=False,
            width=None if sys.stdout.isatty() else _PIPE_WIDTH,
        )

    @property
    def is_live(self) -> bool:
        """Whether lines may be redrawn: stdout is a capable terminal, and it is for people."""
        return not self.as_json and sys.stdout.isatty() and self.console.is_interactive

    def record(self, record: JSON) -> None:
        """Write one record, if records are wanted."""
        if self.as_json:
            # ASCII: control characters are escaped, and no terminal acts on them.
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()

    def say(self, text: str = "", style: str = "") -> None:
        """Write one line for people, if text is wanted. Long ones are left whole."""
        self.show(Text(clean(text), style), soft_wrap=True)

    def show(self, thing: RenderableType, *, soft_wrap: bool = False) -> None:
        """Write something that rich can lay out, if text is wanted. Its texts must be clean."""
        if not self.as_json:
            self.console.print(thing, soft_wrap=soft_wrap)

    def write(self, text: str) -> None:
        """Write a text as it is, if text is wanted. It must be clean."""
        if not self.as_json:
            sys.stdout.write(text)
            sys.stdout.flush()

    def problem(self, message: str) -> None:
        """Write one line to stderr."""
        sys.stderr.write(f"wiro: {clean(message)}\n")
        sys.stderr.flush()

    def error(self, kind: str, message: str, task_ids: Sequence[str | None] = ()) -> None:
        """Write a problem that ends the command: a line to stderr, and a record if records are wanted."""
        self.problem(message)
        self.record({"type": "error", "error": kind, "message": message, "task_ids": list(task_ids)})

    def close_stdout(self) -> None:
        """Let nothing more be written: who read it is gone, and the flush at exit would fail, too."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
