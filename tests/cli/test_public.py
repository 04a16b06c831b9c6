"""The command line is a user of the library like any other: it has public names, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wiro_async
import wiro_async.cli
import wiro_async.sandbox

FOLDER = Path(wiro_async.cli.__file__).parent
FACES = {
    "wiro_async": set(wiro_async.__all__),
    "wiro_async.sandbox": set(wiro_async.sandbox.__all__),
    "wiro_async.sandbox.__main__": {"main"},
}
STAND_INS = {"_reader"}
"""Until the library can read journals."""

MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in STAND_INS)


def foreign_names(tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports of the package, outside of the command line, and is not public."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("wiro_async"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wiro_async"):
            home = node.module or ""
            if not home.startswith("wiro_async.cli"):
                yield from (
                    f"{home}.{alias.name}" for alias in node.names if alias.name not in FACES.get(home, ())
                )


def private_attributes(tree: ast.Module) -> Iterator[str]:
    """Yield each private attribute that is not an object's own; ``os._exit`` is documented."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            whole = ast.unparse(node)
            if whole not in (f"self.{node.attr}", "os._exit"):
                yield whole


@pytest.mark.parametrize("name", MODULES)
def test_the_command_line_uses_public_names(name: str) -> None:
    """What it lacks is missing in the library, too."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))
    assert list(foreign_names(tree)) == []
    assert list(private_attributes(tree)) == []
