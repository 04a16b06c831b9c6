"""How large the core is, and how deep the tests reach into it.

    python -m tests.counts [ROOT]

Counted are, in the tree at ROOT (by default this one):

- lines of the core: all lines of all modules of ``wiro_async`` outside ``cli``, ``inputs`` and ``sandbox``;
  the core does not know ``inputs``, most of which is generated
- private names: the distinct pairs of module and name that the tests import from a private module or room of
  the core, as in ``from wiro_async._http.retry import backoff``. A name that is public too counts, because a
  test that takes it from there breaks when the module moves; so does a module that is taken from its room
- private modules of the package itself, as in ``from wiro_async import _config``
- patches: calls of ``monkeypatch.setattr`` and of ``mock.patch``, whatever they replace
- patches of internals: those whose target is a private name or module of the core, the command line or the
  sandbox, and assignments to attributes of such modules and classes
- private attributes: the places where a test reads or sets an attribute of another object by a private name

The flat core had 16 752 lines, 296 private names and 144 calls of ``monkeypatch.setattr``.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

import attrs

EXTRAS = ("cli", "inputs", "sandbox")


@attrs.define
class Counts:
    """The figures of one tree; see the module."""

    core_lines: int = 0
    private_names: set[str] = attrs.field(factory=set)
    private_modules: set[str] = attrs.field(factory=set)
    setattr_calls: int = 0
    mock_calls: int = 0
    core_patches: int = 0
    extra_patches: int = 0
    private_attributes: int = 0

    def __str__(self) -> str:
        rows = {
            "lines of the core": self.core_lines,
            "private names of the core that tests import": len(self.private_names),
            "private modules that tests import from the package itself": len(self.private_modules),
            "calls of monkeypatch.setattr": self.setattr_calls,
            "calls of mock.patch": self.mock_calls,
            "patches of internals of the core": self.core_patches,
            "patches of internals of the command line and the sandbox": self.extra_patches,
            "places in tests that reach a private attribute": self.private_attributes,
        }
        return "\n".join(f"{number:7}  {what}" for what, number in rows.items())


def count(root: Path) -> Counts:
    """Count one tree."""
    package = root / "wiro_async"
    found = Counts()
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] not in EXTRAS:
            found.core_lines += len(path.read_text("utf-8").splitlines())
    for path in sorted((root / "tests").rglob("*.py")):
        _count_test(ast.parse(path.read_text("utf-8")), found)
    return found


def _count_test(tree: ast.Module, found: Counts) -> None:
    bound = dict(_imports(tree))
    for full in bound.values():
        source, _, name = full.rpartition(".")
        if _room(source).startswith("_"):
            found.private_names.add(full)
        elif source == "wiro_async" and name.startswith("_") and not name.endswith("__"):
            found.private_modules.add(full)
    for node in ast.walk(tree):
        target = ""
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="monkeypatch"), attr="setattr")):
                found.setattr_calls += 1
                target = _target(node, bound)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="mock"), attr="patch")):
                found.mock_calls += 1
                target = _target(node, bound)
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="patch"), attr="object")):
                found.mock_calls += 1
                target = _target(node, bound)
            case ast.Assign(targets=[ast.Attribute(value=owner)]) if _full(owner, bound) != "self":
                target = _full(owner, bound)
            case ast.Attribute(value=owner) if node.attr.startswith("_") and not node.attr.endswith("__"):
                found.private_attributes += not (isinstance(owner, ast.Name) and owner.id in {"self", "cls"})
        if target.startswith("wiro_async."):
            inner = _room(target) in EXTRAS
            found.extra_patches += inner
            found.core_patches += not inner


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wiro_async"):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _room(full: str) -> str:
    return f"{full}..".split(".")[1]


def _target(call: ast.Call, bound: dict[str, str]) -> str:
    """Return the full name of what a patch replaces, as far as the source tells."""
    match call.args:
        case [ast.Constant(value=str(full)), *_]:
            return full
        case [owner, *_]:
            return _full(owner, bound)
    return ""


def _full(owner: ast.expr, bound: dict[str, str]) -> str:
    head, _, rest = ast.unparse(owner).partition(".")
    return ".".join(part for part in (bound.get(head, head), rest) if part)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Count the core's lines and the tests' grip on its internals."
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1], metavar="ROOT")
    print(count(parser.parse_args().root))  # noqa: T201
