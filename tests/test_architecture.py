"""The layers, held by the source itself: who may import what, and what is public."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import wiro_async
from tests.public_names import STUB, stub

ROOT = Path(wiro_async.__file__).parent

PURE = {
    "_types", "_errors", "_config", "_version", "_protocol.records", "_protocol.envelope",
    "_protocol.refusals",
    "_protocol.operations", "_protocol.catalogue", "_protocol.matching", "_protocol.events", "_http.retry",
    "_http.http11", "_watch.schedule", "_watch.durations", "_tasks.history", "_jobs.window", "_jobs.budget",
    "_batch.stopping", "_batch.progress", "_journal.steps", "sandbox._engine",
    "sandbox._camera",
    "sandbox._directives", "sandbox._refusal", "sandbox._catalogue", "sandbox._messages", "sandbox._replies",
    "sandbox._config",
}  # fmt: skip
"""Modules that take data and the time as arguments and return decisions."""

IMPURE = {
    "anyio", "asyncio", "ftplib", "h11", "http", "httpcore", "httpx", "io", "logging", "multiprocessing",
    "os", "pathlib", "selectors", "shutil", "signal", "sniffio", "socket", "sqlite3", "ssl", "subprocess",
    "sys", "tempfile", "threading", "time", "trio",
}  # fmt: skip
"""Clocks, files, sockets, threads, event loops."""

LOCKS = {"sandbox._engine": {"threading"}, "sandbox._catalogue": {"pathlib"}}
"""Two exceptions: the engine is used from two threads, and the catalogue comes with the package as a file."""

HTTPX = {"_http.signing", "_http.connections", "_http.transport", "_files.upload", "_files.download"}
"""The only modules of the core that know httpx, so that a successor can take its place."""

HTTPCORE: set[str] = set()
"""The core speaks HTTP/1.1 by itself, over httptools."""

LEAVES = {"_types", "_errors", "_version"}

CORE_EXTRAS = {"cli", "sandbox"}
"""What is built on the core, and what the core must not know."""


def modules() -> dict[str, ast.Module]:
    """Return every module of the package by its dotted name below it."""
    paths = sorted(ROOT.rglob("*.py"))
    return {_name(path): ast.parse(path.read_text("utf-8")) for path in paths}


def _name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__") if name != "__init__" else ""


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk everything but what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        yield node
        yield from runtime_nodes(node)


def imports(tree: ast.Module) -> set[str]:
    """Return the full names of what a module imports when it runs."""
    found: set[str] = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix("wiro_async.") in NAMES
                found.add(full if is_module else node.module or "")
    return found


MODULES = modules()
NAMES = set(MODULES)
IMPORTS = {name: imports(tree) for name, tree in MODULES.items()}


def internal(name: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    below = {full.removeprefix("wiro_async.") for full in IMPORTS[name] if full.startswith("wiro_async.")}
    return {target for target in below if target in MODULES} - {name}


def external(name: str) -> set[str]:
    """Return the top-level packages that a module imports."""
    return {full.partition(".")[0] for full in IMPORTS[name]} - {"wiro_async", "__future__"}


def test_the_pure_modules_exist() -> None:
    """The lists above name real modules."""
    assert MODULES.keys() >= PURE | HTTPX | HTTPCORE


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_touch_nothing(name: str) -> None:
    """No clock, no file, no socket, no event loop, and only pure modules below."""
    assert not external(name) & (IMPURE - LOCKS.get(name, set()))
    assert internal(name) <= PURE


def test_leaves_import_nothing_of_the_package() -> None:
    """Types and errors stand at the bottom."""
    assert {name: internal(name) for name in LEAVES if internal(name)} == {}


def test_httpx_and_httpcore_stay_where_they_belong() -> None:
    """Five modules would change with httpx's successor."""
    core = {name for name in MODULES if name.partition(".")[0] not in CORE_EXTRAS}
    assert {name for name in core if "httpx" in external(name)} == HTTPX
    assert {name for name in core if "httpcore" in external(name)} == HTTPCORE


def test_the_core_does_not_know_what_is_built_on_it() -> None:
    """Neither the sandbox nor the command line is imported from below."""
    for name in MODULES:
        if name.partition(".")[0] not in CORE_EXTRAS | {"__main__"}:
            assert not {target for target in internal(name) if target.partition(".")[0] in CORE_EXTRAS}, name


def test_the_sandbox_is_an_independent_reading_of_the_protocol() -> None:
    """It shares the names of the statuses and the version with the client, and nothing else."""
    for name in MODULES:
        if name.partition(".")[0] == "sandbox":
            others = {target for target in internal(name) if target.partition(".")[0] != "sandbox"}
            assert others <= {"_types", "_version"}, name


CHAINS: dict[str, tuple[str, ...]] = {}


def _chain(name: str, above: tuple[str, ...] = ()) -> tuple[str, ...]:
    assert name not in above, f"a cycle: {' -> '.join((*above, name))}"
    if name not in CHAINS:
        longest: tuple[str, ...] = ()
        for target in sorted(internal(name)):
            longest = max(longest, _chain(target, (*above, name)), key=len)
        CHAINS[name] = (name, *longest)
    return CHAINS[name]


def test_imports_form_no_cycle_and_no_long_chain() -> None:
    """A reader can start at the bottom."""
    for name in MODULES:
        limit = 20 if name.partition(".")[0] in CORE_EXTRAS | {"__main__"} else 14
        assert len(_chain(name)) <= limit, _chain(name)


def test_functions_are_short() -> None:
    """Nine of ten functions fit into 30 lines, and none is over 60; docstrings do not count."""
    lengths = [_length(node) for tree in MODULES.values() for node in ast.walk(tree) if _is_function(node)]
    assert statistics.quantiles(lengths, n=10)[-1] <= 30
    assert max(lengths) <= 60


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _length(node: ast.AST) -> int:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    first = node.body[0]
    length = (node.end_lineno or 0) - node.lineno + 1
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        length -= (first.end_lineno or 0) - first.lineno + 1
    return length


def test_every_test_states_its_claim() -> None:
    """A test's docstring says what would be false if it failed."""
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_all_is_what_is_public() -> None:
    """The list is sorted and complete, every name can be had, and tracebacks name the package."""
    assert list(wiro_async.__all__) == sorted(set(wiro_async.__all__))
    assert {name for name in dir(wiro_async) if not name.startswith("_")} | {"__version__"} == set(
        wiro_async.__all__
    )
    for name in wiro_async.__all__:
        thing = getattr(wiro_async, name)
        if isinstance(thing, type):
            assert thing.__module__ == "wiro_async", name
            assert thing.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        wiro_async.Clinet  # type: ignore[attr-defined]  # noqa: B018


def test_a_public_name_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """By those who test their own code."""
    monkeypatch.setattr(wiro_async, "Client", None)
    assert wiro_async.Client is None


def test_type_checkers_see_what_is_imported_late() -> None:
    """Their stub is what the table of public names makes it."""
    assert STUB.read_text("utf-8") == stub(), "run python -m tests.public_names"


@pytest.mark.parametrize("home", wiro_async._PUBLIC)
def test_what_is_public_says_so_however_it_was_imported(home: str) -> None:
    """Its module and its types' names are right before anybody has asked the package for it."""
    code = (
        "import importlib, pickle, sys, typing, wiro_async; "
        f"home = importlib.import_module('wiro_async.{home}'); "
        f"things = [getattr(home, name) for name in wiro_async._PUBLIC[{home!r}].split()]; "
        "kinds = [kind for kind in things if isinstance(kind, type)]; "
        "assert all(kind.__module__ == 'wiro_async' for kind in kinds), kinds; "
        "[typing.get_type_hints(kind) for kind in kinds if not issubclass(kind, Exception)]; "
        "assert all(pickle.loads(pickle.dumps(kind)) is kind for kind in kinds)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr == ""


def test_the_records_types_can_be_read() -> None:
    """By frameworks that make schemas of them, though the classes name another module than their own."""
    for name in wiro_async.__all__:
        thing = getattr(wiro_async, name)
        if isinstance(thing, type) and not issubclass(thing, Exception):
            hints = typing.get_type_hints(thing)
            assert not any(isinstance(hint, str) for hint in hints.values())
    assert typing.get_type_hints(wiro_async.TaskResult)["task"] is wiro_async.Task


def imported_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has after running *code*."""
    script = f"import sys, wiro_async; {code}; print(*sys.modules)"
    # What measures coverage imports a good deal itself.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    return set(run.stdout.split())


def test_importing_the_package_imports_nothing_optional() -> None:
    """Neither extras nor event loops (httpx itself imports rich and trio where they are installed)."""
    names = ", ".join(f"wiro_async.{name}" for name in wiro_async.__all__)
    optional = {
        "av", "cyclopts", "PIL", "starlette", "uvicorn", "websockets", "wiro_async.sandbox", "wiro_async.cli",
        "uvloop",
    }  # fmt: skip
    assert not imported_by(names) & optional


def test_importing_the_package_costs_next_to_nothing() -> None:
    """Each name is imported when it is asked for, and a client neither has batches nor callbacks."""
    assert not imported_by("wiro_async.__version__") & {"httpx", "anyio", "attrs", "asyncio"}
    late = {"sqlite3", "wiro_async._batch.batch", "wiro_async._watch.callbacks", "wiro_async._watch.pool"}
    assert not imported_by("wiro_async.Client, wiro_async.Task, wiro_async.TaskHandle") & late
