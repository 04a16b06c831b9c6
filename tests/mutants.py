"""Mutation testing: break the code in small ways, and see that the tests notice.

    python -m tests.mutants                      200 mutants, drawn by a seed, two at a time
    python -m tests.mutants --only limiter       those of one module
    python -m tests.mutants --list               name them, run nothing

cosmic-ray makes the mutants; this runs them. Each mutant is put into a copy of the tree, never into the tree
itself, and meets the tests of its own module (``MAP``). At least 95 % must be noticed. Mutants that no test
can notice are named, with the reason, in ``tests/data/equivalent_mutants.toml``; one that is named there and
can no longer be made is reported, and fails the run as well.

Places, not mutants, are drawn: of the many mutants of one comparison at most one is in the sample. A place is
drawn by its own line and function, so that a change of the code draws few others.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
EQUIVALENT = ROOT / "tests" / "data" / "equivalent_mutants.toml"
COPIED = ("wiro_async", "tests", "benchmarks", "docs", "pyproject.toml")

SEED = 13
SAMPLE = 200
WANTED = 0.95
"""The share of the mutants that must be noticed."""

SUBMIT = "tests/jobs/test_submit.py"

MAP: Mapping[str, tuple[str, ...]] = {
    "_config": ("tests/test_config.py", "tests/jobs/test_options.py", "tests/batch/test_options.py"),
    "_files/naming": ("tests/files/test_naming.py",),
    "_http/http11": ("tests/http/test_http11.py",),
    "_http/retry": ("tests/http/test_retry.py",),
    "_http/signing": ("tests/http/test_signing.py",),
    "_jobs/budget": ("tests/jobs/test_budget.py", "tests/jobs/test_late.py", "tests/jobs/test_spending.py"),
    "_jobs/limiter": ("tests/jobs/test_limiter.py", "tests/jobs/test_learned_limit.py", SUBMIT),
    "_jobs/options": ("tests/jobs/test_options.py",),
    "_jobs/pipeline": (
        SUBMIT,
        "tests/jobs/test_pipeline.py",
        "tests/test_client.py",
        "tests/jobs/test_spending.py",
        "tests/jobs/test_late.py",
        "tests/batch/test_coordinator.py",
        "tests/batch/test_moved_journals.py",
        "tests/jobs/test_protections.py",
        "tests/batch/test_batch.py",
        "tests/jobs/test_absence.py",
    ),
    "_jobs/reconcile": (SUBMIT, "tests/jobs/test_window.py", "tests/jobs/test_absence.py"),
    "_jobs/submit": (
        SUBMIT,
        "tests/jobs/test_window.py",
        "tests/jobs/test_protections.py",
        "tests/jobs/test_absence.py",
    ),
    "_journal/steps": ("tests/journal/test_steps.py", "tests/journal/test_store.py", "tests/test_records.py"),
    "_protocol/catalogue": tuple(
        f"tests/protocol/test_{name}.py" for name in ("catalogue", "checks", "pricing")
    ),
    "_protocol/checks": ("tests/protocol/test_checks.py", "tests/protocol/test_catalogue.py"),
    "_protocol/envelope": ("tests/protocol/test_envelope.py", "tests/protocol/test_records.py"),
    "_protocol/events": ("tests/protocol/test_events.py", "tests/test_records.py"),
    "_protocol/matching": ("tests/protocol/test_matching.py", SUBMIT),
    "_protocol/operations": ("tests/protocol/test_operations.py", "tests/protocol/test_slugs.py"),
    "_protocol/records": (
        "tests/protocol/test_records.py",
        "tests/protocol/test_operations.py",
        "tests/tasks/test_ends.py",
        "tests/test_records.py",
    ),
    "_protocol/refusals": ("tests/protocol/test_envelope.py",),
    "_tasks/history": ("tests/tasks/test_history.py",),
    "_watch/durations": ("tests/watch/test_durations.py", "tests/watch/test_schedule.py"),
    "_watch/schedule": ("tests/watch/test_schedule.py", "tests/watch/test_timing.py"),
}
"""Each module that is mutated, with the tests that belong to it, those first that notice most."""

PYTEST = (
    # What runs wild ends at 4 GB and in an error, not at the machine's memory.
    "import resource, sys, pytest; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); "
    "sys.exit(pytest.main(sys.argv[1:]))"
)
OPTIONS = ("-x", "-q", "--timeout=60", "-p", "no:cacheprovider")


class Mutant(NamedTuple):
    """One way to break one place.

    Attributes:
        module: The module, as in ``MAP``.
        line: The line that it begins on.
        scope: The function or class that it is in ("" for the module itself).
        operator: cosmic-ray's name for the kind of break, or ``DropStatement``.
        occurrence: Which of the operator's places in the module it is.
        was: The lines that it replaces, without their indentation.
        becomes: What stands there instead.
    """

    module: str
    line: int
    scope: str
    operator: str
    occurrence: int
    was: str
    becomes: str

    @property
    def file(self) -> str:
        """The path of the module."""
        return f"wiro_async/{self.module}.py"

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line} in {self.scope or 'the module'}\n    - {self.was}\n    + {self.becomes}"
        )


class Outcome(NamedTuple):
    """What became of a mutant: killed, timeout or survived."""

    mutant: Mutant
    verdict: str
    seconds: float


# -- making mutants --------------------------------------------------------------------------------------


def operators() -> dict[str, Any]:
    """Return cosmic-ray's operators that need no arguments, and our own."""
    from cosmic_ray.operators.operator import Operator
    from cosmic_ray.plugins import get_operator, operator_names
    from parso.python.tree import Name

    class DropStatement(Operator):  # type: ignore[misc]
        """Leaves out a statement that is there for its effect: a call, a raise, a del, an addition."""

        def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
            """Yield the place of each such statement."""
            if node.type == "simple_stmt" and _has_effect(node.children[0]):
                yield node.start_pos, node.end_pos

        def mutate(self, node: Any, _index: int) -> Any:
            """Replace the statement."""
            first = node.children[0]
            node.children[0] = Name("pass", first.start_pos, prefix=first.get_first_leaf().prefix)
            return node

        @classmethod
        def examples(cls) -> tuple[()]:
            """Return none."""
            return ()

    made = {"DropStatement": DropStatement()}
    for name in sorted(operator_names()):
        kind = name.removeprefix("core/")
        if not kind.startswith("Variable") and _is_wanted(kind):
            made[kind] = get_operator(name)()
    return made


def _has_effect(statement: Any) -> bool:
    if statement.type == "expr_stmt":
        return statement.children[1].type == "operator" and statement.children[1].value not in ("=", ":")
    return statement.type in ("raise_stmt", "del_stmt", "await_expr") or (
        statement.type in ("atom_expr", "power") and statement.get_last_leaf().value == ")"
    )


def _is_wanted(kind: str) -> bool:
    """Leave out what changes nothing here, or breaks every line: sets and types are all that ``|`` joins."""
    if "Is" in kind:
        return kind in ("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is")
    return "BinaryOperator_BitOr" not in kind


def mutants_of(
    module: str, made: Mapping[str, Any], wanted: Sequence[str] = ()
) -> Iterator[tuple[str, Mutant]]:
    """Yield a module's mutants, each with the name of its place.

    Args:
        module: The module, as in ``MAP``.
        made: The operators.
        wanted: Only those that replace one of these lines (none: all of them).
    """
    from cosmic_ray.ast import ast_nodes, get_ast

    source = (ROOT / "wiro_async" / f"{module}.py").read_text()
    lines, scopes, skipped = source.splitlines(), _scopes(source), _skipped(source)
    nodes = list(ast_nodes(get_ast(source)))
    for kind, operator in made.items():
        occurrence, starts = -1, dict[str, dict[tuple[int, int], int]]()
        for node in nodes:
            for start, end in operator.mutation_positions(node):
                occurrence += 1
                row, column = start
                if any(first <= (row, column) < last for first, last in skipped):
                    continue
                was = _joined(lines[row - 1 : end[0]])
                if wanted and was not in wanted:
                    continue
                family = kind.partition("_")[0]
                place = f"{module} {scopes.get(row, '')} {was} {family}"
                known = starts.setdefault(place, {})
                where = f"{place} {known.setdefault(start, len(known))}"
                yield where, Mutant(module, row, scopes.get(row, ""), kind, occurrence, was, "")


def mutated(mutant: Mutant, made: Mapping[str, Any]) -> tuple[Mutant, str]:
    """Return the mutant, knowing the lines that it replaces, and the source of the module with it."""
    from cosmic_ray.mutating import mutate_code

    source = (ROOT / mutant.file).read_text()
    code = mutate_code(source, made[mutant.operator], mutant.occurrence)
    assert isinstance(code, str)
    before, after = source.splitlines(), code.splitlines()
    same = next(
        (at for at, (one, two) in enumerate(zip(before, after, strict=False)) if one != two), len(after)
    )
    tail = 0
    while tail < min(len(before), len(after)) - same and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    was, becomes = before[same : len(before) - tail], after[same : len(after) - tail]
    return mutant._replace(line=same + 1, was=_joined(was), becomes=_joined(becomes)), code


def _joined(lines: Sequence[str]) -> str:
    return " ".join(" ".join(line.split()) for line in lines).strip()


def _scopes(source: str) -> dict[int, str]:
    """Return the innermost function or class of each line."""
    found: dict[int, str] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}".lstrip(".")
                first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
                found.update(dict.fromkeys(range(first, (child.end_lineno or first) + 1), inner))
                visit(child, inner)
            else:
                visit(child, name)

    visit(ast.parse(source), "")
    return found


def _skipped(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where nothing is mutated: annotations, which nobody evaluates, and what is only logged."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
        elif (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)) or (
            isinstance(node, ast.Expr) and ast.unparse(node).startswith("logger.")
        ):
            parts.append(node)
        elif isinstance(node, ast.keyword) and node.arg == "init":
            # Whether a private field may be passed: nobody does.
            parts.append(node.value)
        for part in parts:
            if part is not None:
                assert isinstance(part, ast.expr | ast.stmt)
                end = (part.end_lineno or part.lineno, part.end_col_offset or 0)
                found.append(((part.lineno, part.col_offset), end))
    return found


def sample(size: int, seed: int, only: str, made: Mapping[str, Any]) -> list[tuple[Mutant, str]]:
    """Draw places, and one mutant for each; return them with their sources."""

    def rank(text: str) -> bytes:
        return hashlib.sha256(f"{seed} {text}".encode()).digest()

    places: dict[str, list[Mutant]] = {}
    for module in MAP:
        if only in module:
            for place, mutant in mutants_of(module, made):
                places.setdefault(place, []).append(mutant)
    drawn: list[tuple[Mutant, str]] = []
    for place in sorted(places, key=rank):
        if len(drawn) == size:
            break
        first = min(places[place], key=lambda each: rank(f"{place} {each.operator}"))
        mutant, code = mutated(first, made)
        if _is_python(code):
            drawn.append((mutant, code))
    return drawn


def _is_python(code: str) -> bool:
    """Whether it can be compiled: the stars of a signature are operators to cosmic-ray."""
    try:
        compile(code, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


# -- those that nobody can notice ------------------------------------------------------------------------


def read_equivalent(path: Path = EQUIVALENT) -> list[dict[str, str]]:
    """Return the mutants that no test can notice, as the file names them."""
    return list(tomllib.loads(path.read_text())["mutant"])


def stale(named: Sequence[Mapping[str, str]], made: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Return those of the file that can no longer be made: the code has changed."""
    found = set()
    for file in {each["file"] for each in named}:
        module = file.removeprefix("wiro_async/").removesuffix(".py")
        wanted = [each["was"] for each in named if each["file"] == file]
        for _, mutant in mutants_of(module, made) if module in MAP else ():
            if any(mutant.was in was or was in mutant.was for was in wanted):
                known, _ = mutated(mutant, made)
                found.add((known.file, known.was, known.becomes))
    return [each for each in named if (each["file"], each["was"], each["becomes"]) not in found]


# -- running them ----------------------------------------------------------------------------------------


class Runner:
    """Runs tests in one copy of the tree.

    Args:
        folder: Where the copy is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, folder / name)
        # Checked by content: a mutant of the same length, made within the same second, is compiled anew.
        compiling = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
        subprocess.run([*compiling, "wiro_async"], cwd=folder, check=True)

    def run(self, tests: Sequence[str], seconds: float) -> tuple[str, float, str]:
        """Return a verdict, how long it took, and what pytest said."""
        # Hypothesis derives its examples from the tests themselves: each run plays the same. Bytecode is
        # kept, whatever the environment says: else each run would compile all tests anew.
        settings = {"PYTHONPATH": str(self.folder), "DEPTH": "quick", "PYTHONDONTWRITEBYTECODE": ""}
        start = time.monotonic()
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(
                [sys.executable, "-c", PYTEST, *OPTIONS, *tests],
                cwd=self.folder,
                env=os.environ | settings,
                stdout=said,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            try:
                code = child.wait(seconds)
                verdict = "killed" if code else "survived"
            except subprocess.TimeoutExpired:
                verdict = "timeout"
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
            said.seek(0)
            return verdict, time.monotonic() - start, said.read()

    def meet(self, mutant: Mutant, code: str, seconds: float) -> Outcome:
        """Run a mutant against the tests of its module."""
        path = self.folder / mutant.file
        original = path.read_text()
        path.write_text(code)
        try:
            verdict, took, _ = self.run(MAP[mutant.module], seconds)
        finally:
            path.write_text(original)
        return Outcome(mutant, verdict, took)


def run_all(mutants: Sequence[tuple[Mutant, str]], jobs: int) -> list[Outcome]:
    """Run mutants, each given with its source, in as many copies as there are *jobs*, and tell of each.

    Raises:
        SystemExit: The tests fail without any mutant.
    """
    outcomes: list[Outcome] = []
    todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
    lasted: dict[str, float] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        runners = [Runner(Path(folder) / str(number)) for number in range(jobs)]

        def shared(work: Any) -> None:
            threads = [threading.Thread(target=work, args=(runner,), daemon=True) for runner in runners]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        def time_them(runner: Runner) -> None:
            while not todo.empty() and not failed:
                try:
                    test = todo.get_nowait()
                except queue.Empty:
                    return
                verdict, lasted[test], said = runner.run([test], 600.0)
                tell(f"     without   {lasted[test]:5.1f} s  {test}")
                if verdict != "survived":
                    failed.append(f"{test} fails without a mutant:\n{said[-3000:]}")

        def meet_them(runner: Runner) -> None:
            while True:
                try:
                    mutant, code = todo.get_nowait()
                except queue.Empty:
                    return
                outcome = runner.meet(
                    mutant, code, 30.0 + 4.0 * sum(lasted[test] for test in MAP[mutant.module])
                )
                outcomes.append(outcome)
                tell(f"{len(outcomes):4} {outcome.verdict:8} {outcome.seconds:5.1f} s  {mutant}")

        for test in sorted({test for each, _ in mutants for test in MAP[each.module]}):
            todo.put(test)
        shared(time_them)
        if failed:
            raise SystemExit(failed[0])
        for each in mutants:
            todo.put(each)
        shared(meet_them)
    return outcomes


def tell(*lines: object) -> None:
    """Print lines at once, whoever reads them."""
    sys.stdout.write("".join(f"{line}\n" for line in lines or ("",)))
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw mutants, run them, and tell which survived. The result is 0 if at least 95 % did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"how many mutants (default: {SAMPLE})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"which ones (default: {SEED})")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--only", default="", help="only modules whose path holds this text")
    parser.add_argument("--list", action="store_true", help="name the mutants, run nothing")
    options = parser.parse_args(arguments)

    start = time.monotonic()
    made = operators()
    named = read_equivalent()
    equivalent = {(each["file"], each["was"], each["becomes"]) for each in named}
    drawn = sample(options.sample, options.seed, options.only, made)
    mutants = [each for each in drawn if (each[0].file, each[0].was, each[0].becomes) not in equivalent]
    tell(f"{len(drawn)} mutants by seed {options.seed}; {len(drawn) - len(mutants)} are named as equivalent")
    if options.list:
        tell(*(mutant for mutant, _ in mutants))
        return 0

    outcomes = run_all(mutants, options.jobs)
    survivors = [each.mutant for each in outcomes if each.verdict == "survived"]
    old = stale(named, made)
    share = 1.0 - len(survivors) / len(outcomes) if outcomes else 1.0
    tell()
    for mutant in sorted(survivors):
        tell(f"survived {mutant}")
    for each in old:
        tell(f"stale in {EQUIVALENT.name}: {each['file']}\n    - {each['was']}\n    + {each['becomes']}")
    tell(
        f"{len(outcomes) - len(survivors)} of {len(outcomes)} mutants were noticed: {share:.1%} (wanted: "
        f"{WANTED:.0%}), in {(time.monotonic() - start) / 60:.1f} minutes"
    )
    return 1 if share < WANTED or old else 0


if __name__ == "__main__":
    sys.exit(main())
