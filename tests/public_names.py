"""Writes ``wiro_async/__init__.pyi``, what type checkers read, from the table of public names.

::

    python -m tests.public_names
"""

from __future__ import annotations

from pathlib import Path

import wiro_async

STUB = Path(wiro_async.__file__).with_name("__init__.pyi")


def stub() -> str:
    """Return the stub's text."""
    lines = ["# Written by `python -m tests.public_names` from the table in __init__.py.", ""]
    for module, names in sorted(wiro_async._PUBLIC.items()):
        lines.append(f"from wiro_async.{module} import (")
        lines += [f"    {name} as {name}," for name in sorted(names.split())]
        lines.append(")")
    lines += ["", "_PUBLIC: dict[str, str]", "__version__: str", "__all__ = ["]
    lines += [f'    "{name}",' for name in wiro_async.__all__]
    return "\n".join([*lines, "]", ""])


if __name__ == "__main__":
    STUB.write_text(stub(), "utf-8")
