"""The house, held by its own source: which rooms there are, who may import what, what is public.

The package is parsed once, into one :class:`Module` for each file. A rule is a function that returns the
faults of one module, and a test that states it. Imports count wherever they stand, at the top, inside a
function or under ``if TYPE_CHECKING``, because a reader has to follow all three.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import pytest

import wiro_async
from tests.public_names import STUB, stub

ROOT = Path(wiro_async.__file__).parent

FLOORS = (
    ("_errors", "_version"),
    ("_types",),
    ("_config",),
    ("_protocol", "_aio"),
    ("_http",),
    ("_files", "_watch"),
    ("_tasks",),
    ("_journal",),
    ("_jobs",),
    ("_batch",),
    ("_client",),
)
"""The core, from the ground up. A module imports its own room and the floors below, never a neighbour."""

CORE = {room for floor in FLOORS for room in floor}

EXTRAS = {"cli", "inputs", "sandbox"}
"""What is built on the core, and what the core does not know."""

MOST_ENTRIES = 13
"""A reader who opens the package sees no more, beside the extras and the version."""

MOST_FILES = 12
"""The files of one room."""

PURE = {
    "_types", "_errors", "_config", "_version",
    "_protocol.catalogue", "_protocol.checks", "_protocol.envelope", "_protocol.events", "_protocol.matching",
    "_protocol.operations", "_protocol.records", "_protocol.refusals",
    "_http.http11", "_http.retry",
    "_files.naming",
    "_watch.durations", "_watch.schedule",
    "_tasks.ends", "_tasks.history",
    "_journal.journal", "_journal.steps",
    "_jobs.budget", "_jobs.options",
    "_batch.progress",
    "inputs.source",
    "sandbox._camera", "sandbox._catalogue", "sandbox._config", "sandbox._directives", "sandbox._engine",
    "sandbox._messages", "sandbox._refusal", "sandbox._replies",
}  # fmt: skip
"""Modules that take data and the time as arguments and return decisions."""

IMPURE = {
    "anyio", "asyncio", "ftplib", "h11", "http", "httpcore", "httpx", "io", "logging", "multiprocessing",
    "os", "pathlib", "selectors", "shutil", "signal", "sniffio", "socket", "sqlite3", "ssl", "subprocess",
    "sys", "tempfile", "threading", "time", "trio",
}  # fmt: skip
"""Clocks, files, sockets, threads, event loops."""

IMPURE_ALLOWED = {
    "sandbox._engine": {"threading"},  # a lock: it is used from the server's thread and the caller's
    "sandbox._catalogue": {"pathlib"},  # the catalogue comes with the package, as a file
}

HTTP_LIBRARIES = {"httpcore", "httptools", "httpx"}

HTTP_ALLOWED = {
    "_files.download": {"httpx"},  # reads responses as they come, over httpx's interface of a transport
    "_files.upload": {"httpx"},  # a multipart body is a stream of httpx's
}
"""The only modules of the core outside ``_http`` that know an HTTP library."""

PRIVATE_ALLOWED = {
    "_replace": "a NamedTuple's public method",
    "_asdict": "a NamedTuple's public method",
    "os._exit": "how a process ends at once",
    "argparse._ArgumentGroup": "the type of a public method's result",
}
"""Names with an underscore that are public all the same, or have no other."""


# -- the package, parsed once ----------------------------------------------------------------------------


@attrs.frozen
class Import:
    """One name that is imported.

    Attributes:
        line: Where.
        source: The module that it comes from.
        name: The name; empty for ``import x``.
        for_types: Whether only type checkers see it.
    """

    line: int
    source: str
    name: str
    for_types: bool

    def __str__(self) -> str:
        return f"line {self.line}: {self.source} {self.name}".rstrip()

    @property
    def package(self) -> str:
        """The top-level package."""
        return self.source.partition(".")[0]

    @property
    def target(self) -> str:
        """The module of this package that it reaches, by its name below it."""
        full = _below(f"{self.source}.{self.name}")
        return full if full in MODULES else _below(self.source)


@attrs.frozen
class Module:
    """One file of the package.

    Attributes:
        name: Its dotted name below the package; the package itself is ``""``.
        tree: What it says.
        imports: All its imports.
    """

    name: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        """The room, extra or leaf that it belongs to."""
        return self.name.partition(".")[0]

    @property
    def libraries(self) -> set[str]:
        """The other packages that it imports."""
        return {item.package for item in self.imports} - {"wiro_async", "__future__"}

    @property
    def defined(self) -> set[str]:
        """Every name that it gives to something: functions, classes, variables, fields, slots, attributes."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    names.add(node.name)
                case ast.Assign(targets=[ast.Name(id="__slots__")]):
                    names.update(_texts(node.value))
                case ast.Name(ctx=ast.Store()):
                    names.add(node.id)
                case ast.Attribute(ctx=ast.Store()) if _is_own(node.value):
                    names.add(node.attr)
        return names


def _parse(path: Path) -> Module:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text("utf-8"))
    return Module(name.removesuffix("__init__").removesuffix("."), tree, tuple(_imports(tree)))


def _imports(node: ast.AST, for_types: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import():
                yield from (Import(child.lineno, alias.name, "", for_types) for alias in child.names)
            case ast.ImportFrom(module=str(source)):
                assert child.level == 0, f"line {child.lineno}: imports are absolute"
                yield from (Import(child.lineno, source, alias.name, for_types) for alias in child.names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imports(child, for_types=True)
            case _:
                yield from _imports(child, for_types)


def _below(full: str) -> str:
    return full.removeprefix("wiro_async").strip(".")


def _texts(tree: ast.AST) -> Iterator[str]:
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return (value for value in constants if isinstance(value, str))


def _is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


MODULES: dict[str, Module] = {module.name: module for module in map(_parse, sorted(ROOT.rglob("*.py")))}


def targets(module: Module, run_time_only: bool = False) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = {
        item.target
        for item in module.imports
        if item.package == "wiro_async" and not (run_time_only and item.for_types)
    }
    return found - {module.name}


GRAPH = {name: targets(module) for name, module in MODULES.items()}


def each(names: Iterable[str]) -> pytest.MarkDecorator:
    """Run a test for each of some modules."""
    cases = [pytest.param(MODULES[name], id=name or "__init__") for name in sorted(names)]
    return pytest.mark.parametrize("module", cases)


def within(rooms: Iterable[str]) -> list[str]:
    """Return the names of all modules of some rooms."""
    return [name for name, module in MODULES.items() if module.room in rooms]


# -- the rooms -------------------------------------------------------------------------------------------


def test_the_package_has_the_rooms_that_it_says() -> None:
    """Thirteen rooms and leaves, beside the version and the extras, and nothing between them."""
    paths = [path for path in ROOT.iterdir() if path.suffix == ".py" or list(path.glob("**/*.py"))]
    entries = {path.stem for path in paths if not path.stem.startswith("__")}
    assert entries == CORE | EXTRAS
    assert len(CORE - {"_version"}) <= MOST_ENTRIES


@pytest.mark.parametrize("room", sorted(CORE))
def test_a_room_has_few_files(room: str) -> None:
    """They can be read as one list."""
    assert len(within({room})) <= MOST_FILES + 1  # __init__.py


def test_the_lists_name_what_exists() -> None:
    """A rule about a module that is gone says nothing."""
    assert set(MODULES) >= PURE | HTTP_ALLOWED.keys() | IMPURE_ALLOWED.keys()


# -- who may import what ---------------------------------------------------------------------------------

HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}


def directions(module: Module) -> list[str]:
    """Return the imports that do not go down: to a floor above, to a neighbour, or out of the core."""
    return [
        str(item)
        for item in module.imports
        if item.package == "wiro_async"
        and (room := item.target.partition(".")[0]) != module.room
        and HEIGHT.get(room, len(FLOORS)) >= HEIGHT[module.room]
    ]


@each(within(CORE))
def test_imports_go_down(module: Module) -> None:
    """A module of the core imports its own room and lower floors, for type checkers too."""
    assert directions(module) == []


def cycles(module: Module) -> list[str]:
    """Return the shortest way by imports from a module back to itself."""
    ways = [[module.name]]
    met: set[str] = set()
    for way in ways:
        for target in sorted(GRAPH.get(way[-1], set()) - met):
            if target == module.name:
                return [*way, target]
            met.add(target)
            ways.append([*way, target])
    return []


@each(MODULES)
def test_imports_form_no_cycle(module: Module) -> None:
    """A reader can start at the bottom."""
    assert cycles(module) == []


def purity(module: Module) -> list[str]:
    """Return what a pure module imports, when it runs, of the world and of modules that are not pure."""
    outer = {item.package for item in module.imports if not item.for_types}
    allowed = IMPURE_ALLOWED.get(module.name, set())
    return sorted(outer & IMPURE - allowed | targets(module, run_time_only=True) - PURE)


@each(PURE & MODULES.keys())
def test_pure_modules_touch_nothing(module: Module) -> None:
    """No clock, no file, no socket, no event loop, and only pure modules below."""
    assert purity(module) == []


def test_the_protocol_is_pure() -> None:
    """What the service's words mean can be said without asking it."""
    assert set(within({"_protocol"})) - {"_protocol"} <= PURE


def test_http_libraries_stay_in_their_room() -> None:
    """Only ``_http`` would change with httpx's successor, and what is named above."""
    known = {name: MODULES[name].libraries & HTTP_LIBRARIES for name in within(CORE - {"_http"})}
    assert {name: libraries for name, libraries in known.items() if libraries} == HTTP_ALLOWED


def test_httpcore_is_not_needed() -> None:
    """The core speaks HTTP/1.1 by itself: httptools and httpcore are others' choice."""
    assert [name for name in within(CORE) if "httpcore" in MODULES[name].libraries] == []
    assert not [name for name in within(CORE) if {"httptools", "httpcore"} & MODULES[name].libraries]


def test_the_sandbox_is_an_independent_reading_of_the_protocol() -> None:
    """It shares the names of the statuses and the version with the client, and nothing else."""
    for name in within({"sandbox"}):
        others = {target for target in GRAPH[name] if MODULES[target].room != "sandbox"}
        assert others <= {"_types", "_version"}, name


# -- what is private -------------------------------------------------------------------------------------


def privates(module: Module) -> list[str]:
    """Return the uses of names with an underscore that another module defines.

    A name that this module defines too is taken for its own: the source tells no types.
    """
    own = module.defined
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and not _is_own(node.value):
            name = node.attr
        elif isinstance(node, ast.Call) and (given := _named_in_text(node)):
            name = given
        else:
            continue
        if _is_private(name) and name not in own:
            text = ast.unparse(node)
            if not {name, text} & PRIVATE_ALLOWED.keys():
                found.append(f"line {node.lineno}: {text}")
    return found + [
        str(item)
        for item in module.imports
        if _is_private(item.name) and _below(f"{item.source}.{item.name}") not in MODULES
    ]


def _named_in_text(call: ast.Call) -> str:
    """Return the attribute that ``getattr(x, "_name")`` and its kind reach for."""
    names = {"getattr", "setattr", "delattr", "hasattr", "attrgetter", "methodcaller"}
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    texts = (
        text for argument in call.args if isinstance(argument, ast.Constant) for text in _texts(argument)
    )
    return next(filter(_is_private, texts), "") if function in names else ""


@each(MODULES)
def test_no_module_touches_what_is_private_to_another(module: Module) -> None:
    """A class's underscore means that its own module alone may change it."""
    assert privates(module) == []


def faces(module: Module) -> list[str]:
    """Return the imports from the package that its users could not write."""
    return [
        str(item)
        for item in module.imports
        if item.package == "wiro_async"
        and item.target.partition(".")[0] != module.room
        and not _is_public(item.source, item.name)
    ]


def _is_public(source: str, name: str) -> bool:
    if source == "wiro_async":
        return name in {*wiro_async.__all__, *EXTRAS}
    return not any(_is_private(part) for part in (*source.split("."), name))


@each(within({"cli"}))
def test_the_command_line_stands_on_public_names(module: Module) -> None:
    """A user's program could do the same: it imports names of ``wiro_async`` and the sandbox's face."""
    assert faces(module) == []


# -- what the tests say ----------------------------------------------------------------------------------


def test_every_test_states_its_claim() -> None:
    """A test's docstring says what would be false if it failed."""
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


# -- what the design says --------------------------------------------------------------------------------


DESIGN = Path(__file__).parents[1] / "DESIGN.md"
PAGES = DESIGN.parent / "docs" / "design"


@pytest.mark.parametrize("page", [DESIGN, *sorted(PAGES.glob("*.md"))], ids=lambda page: page.stem)
def test_the_design_names_files_that_exist(page: Path) -> None:
    """Who reads that something is in ``_http/retry`` finds it there."""
    named = re.findall(r"`(_\w+/\w+|tests/\w+(?=\.py))", page.read_text("utf-8"))
    missing = [name for name in named if not (DESIGN.parent / f"{name}.py").is_file()]
    assert [name for name in missing if name.replace("/", ".") not in MODULES] == []


@pytest.mark.parametrize("room", sorted(room for room in CORE if len(within({room})) > 1))
def test_a_page_of_the_design_lists_its_room(room: str) -> None:
    """Each file of a room stands in the list at the head of its page, with what it is for."""
    page = (PAGES / f"{room.strip('_')}.md").read_text("utf-8")
    files = {name.partition(".")[2] for name in within({room})} - {""}
    assert set(re.findall(r"^    (\w+)\.py +\S", page, re.MULTILINE)) == files


# -- what is public --------------------------------------------------------------------------------------


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


@pytest.mark.usefixtures("unmeasured")
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
    # ``wiro sandbox`` begins with this, and needs no more of the command line.
    assert not imported_by("import wiro_async.cli") & {"cyclopts", "rich", "httpx"}
