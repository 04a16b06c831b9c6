"""The exceptions: one tree, each with its facts, none with a secret."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import traceback
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

import wiro_async
from tests.strategies import TOKEN, sample
from wiro_async import (
    APIError,
    AuthenticationError,
    BatchStopped,
    BudgetExceeded,
    ClientUseError,
    ConcurrencyLimited,
    ConfigurationError,
    ConnectionFailed,
    DownloadError,
    InsufficientBalance,
    InvalidInput,
    InvalidResponse,
    InvalidTaskState,
    JournalError,
    MissingExtra,
    ModelNotFound,
    RateLimited,
    ServiceError,
    SubmissionUnknown,
    Task,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskNotFound,
    TaskStalled,
    TaskTimeout,
    TaskUnclear,
    TermsNotAccepted,
    WiroError,
    _errors,
)
from wiro_async._protocol.records import parse_task


class Handle:
    """Stands for a live handle: nothing that a pickle could carry."""

    def __reduce__(self) -> Any:
        raise TypeError("a live handle cannot be pickled")


def final_task() -> Task:
    """Return a task with a token, outputs and money in it."""
    return parse_task({**sample("kill")["tasklist"][0], "socketaccesstoken": TOKEN})


FACTS: dict[str, Any] = {"code": 1, "http_status": 200, "operation": "Task/Detail", "detail": "its words"}


def samples() -> dict[type[WiroError], WiroError]:
    """Return one of each class, with every fact that it can hold."""
    live: Any = Handle()
    task = final_task()
    errors: list[WiroError] = [
        WiroError("m"),
        ConfigurationError("m"),
        MissingExtra("m"),
        ClientUseError("m"),
        InvalidInput("m", name="inputs.image"),
        BudgetExceeded("m", price=Decimal("0.35"), spent=Decimal("4.80"), limit=Decimal(5), scope="client"),
        APIError("m", **FACTS),
        AuthenticationError("m", **FACTS),
        ModelNotFound("m", **FACTS),
        TaskNotFound("m", **FACTS),
        InvalidTaskState("m", **FACTS),
        ConcurrencyLimited("m", limit=5, **FACTS),
        InsufficientBalance("m", **FACTS),
        TermsNotAccepted("m", **FACTS),
        RateLimited("m", retry_after=1.5, **FACTS),
        ServiceError("m", retry_after=2.5, **FACTS),
        ConnectionFailed("m", sent=True, operation="Run"),
        InvalidResponse("m", http_status=502, operation="Run", excerpt="<html>"),
        SubmissionUnknown(
            "m",
            model="a/b",
            inputs_digest="00ff",
            submitted_at=1.0,
            cause="cut off",
            input_names=("prompt",),
            marker="job-7",
            absent=True,
        ),
        TaskError("m", task_id="2221", task=task),
        TaskFailed("m", reason="no face", task_id="2221", task=task),
        TaskCancelled("m", task_id="2221", task=task),
        TaskTimeout("m", handle=live, waited=3600.0, task_id="2221", task=task),
        TaskStalled("m", handle=live, waited=3600.0, task_id="2221", task=task),
        TaskUnclear("m", handle=live, task_id="2221", task=task),
        DownloadError("m", url="https://cdn1.wiro.ai/x/0.mp4", path="clips/0.mp4", http_status=404),
        JournalError("m", path="run.db", reason="full"),
        BatchStopped("m", reason="balance"),
    ]
    return {type(error): error for error in errors}


KINDS = list(samples())


def every_class(root: type[WiroError] = WiroError) -> set[type[WiroError]]:
    """Return *root* and everything below it that the package defines."""
    below = (kind for kind in root.__subclasses__() if kind.__name__ in wiro_async.__all__)
    return {root}.union(*map(every_class, below))


def is_error(thing: object) -> bool:
    """Tell whether something is one of our exceptions."""
    return isinstance(thing, type) and issubclass(thing, WiroError)


def facts_of(error: WiroError) -> dict[str, Any]:
    """Return what an error knows, but for what a pickle leaves behind: live handles and secrets."""
    facts = {name: value for name, value in vars(error).items() if name not in error._live}
    if isinstance(facts.get("task"), Task):
        facts["task"] = without_secrets(facts["task"])
    return facts


def without_secrets(task: Task) -> Task:
    """Return *task* without its token and access keys."""
    outputs = tuple(attrs.evolve(output, access_key=None) for output in task.outputs)
    return attrs.evolve(task, token=None, outputs=outputs)


# -- the tree --------------------------------------------------------------------------------------------


def drawn_tree() -> dict[str, tuple[str, str]]:
    """Read the tree in the module's docstring: class to parent and second base."""
    assert _errors.__doc__ is not None
    tree: dict[str, tuple[str, str]] = {}
    parents = [""]
    for line in _errors.__doc__.splitlines():
        match = re.match(r"    ((?:[│ ]   )*)([├└]── )?([A-Z]\w+)(?: \(([\w, ]+)\))?(?:  +\S|$)", line)
        if match:
            level = len(match.group(1)) // 4 + bool(match.group(2))
            parents[level + 1 :] = [match.group(3)]
            tree[match.group(3)] = (parents[level], match.group(4) or "")
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    """The module's docstring shows every class under its parent, with what else it also is."""
    real = {}
    for kind in every_class() - {WiroError}:
        parent, *others = [base.__name__ for base in kind.__bases__]
        real[kind.__name__] = (parent, ", ".join(others))
    assert drawn_tree() == {"WiroError": ("", "")} | real


def test_the_tree_is_complete_and_shallow() -> None:
    """Everything public is under one root, at most four levels deep, and has a sample in this file."""
    public = {name for name in wiro_async.__all__ if is_error(getattr(wiro_async, name))}
    assert {kind.__name__ for kind in every_class()} == public > set(_errors.__all__)
    assert _errors.__all__ == sorted(_errors.__all__)
    assert set(KINDS) == every_class()
    assert max(sum(issubclass(base, WiroError) for base in kind.__mro__) for kind in KINDS) <= 4


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ConfigurationError, ValueError),
        (ConfigurationError, TypeError),
        (MissingExtra, ImportError),
        (ClientUseError, RuntimeError),
        (InvalidInput, ValueError),
        (TaskTimeout, TimeoutError),
    ],
)
def test_an_error_is_also_what_python_calls_it(kind: type[WiroError], builtin: type[Exception]) -> None:
    """``except TimeoutError`` and the like catch ours too."""
    with pytest.raises(builtin):
        raise samples()[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_and_every_fact_is_documented(kind: type[WiroError]) -> None:
    """A class says what it means, and names each attribute that it adds."""
    assert kind.__doc__
    before = set(vars(samples()[kind.__mro__[1]])) if kind is not WiroError else set()
    for name in set(vars(samples()[kind])) - before:
        assert re.search(rf"^ +{name}: \S", kind.__doc__, re.MULTILINE), name


def test_every_annotation_of_a_fact_is_kept() -> None:
    """Each ``self.x`` in their modules is annotated where it is made, or in its class."""
    bare = {
        target.attr
        for path in {kind.__init__.__code__.co_filename for kind in every_class()}
        for node in ast.walk(ast.parse(Path(path).read_text("utf-8")))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }
    assert bare == {"handle", "task", "task_id"}
    assert "handle" in TaskTimeout.__annotations__
    assert "handle" in TaskUnclear.__annotations__, "the other two are its base's"


# -- the facts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_shows_its_message(kind: type[WiroError]) -> None:
    """The text is the message, whichever built-in is mixed in."""
    error = samples()[kind]
    assert str(error) == error.message == "m"
    assert repr(error) == f"{kind.__name__}('m')"


@pytest.mark.parametrize("kind", KINDS)
def test_facts_are_optional(kind: type[WiroError]) -> None:
    """What is not known needs no mention, but for what a class is about."""
    needed: dict[type[WiroError], dict[str, Any]] = {
        ConnectionFailed: {"sent": False},
        SubmissionUnknown: {"model": "", "inputs_digest": "", "submitted_at": 0.0, "cause": ""},
        JournalError: {"path": "", "reason": ""},
        BatchStopped: {"reason": ""},
        BudgetExceeded: {"price": None, "spent": Decimal(0), "limit": Decimal(0), "scope": "call"},
    }
    error = kind("m", **needed.get(kind, {}))
    assert set(vars(error)) == set(vars(samples()[kind]))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_keeps_every_fact(kind: type[WiroError], protocol: int) -> None:
    """An error that crosses processes arrives whole, notes included, without any secret."""
    error = samples()[kind]
    error.add_note("in job 7")
    pickled = pickle.dumps(error, protocol)
    back = pickle.loads(pickled)
    assert type(back) is kind
    assert back.args == ("m",)
    assert str(back) == "m"
    assert facts_of(back) == facts_of(error)
    assert back.__notes__ == ["in job 7"]
    assert TOKEN.encode() not in pickled
    assert b"dFKlMApaSgMeHKsJyaDeKrefcHahUK" not in pickled, "an output's access key"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_every_fact(duplicate: Any, kind: type[WiroError]) -> None:
    """``copy`` works like pickling."""
    error = samples()[kind]
    assert facts_of(duplicate(error)) == facts_of(error)


def test_a_timeout_loses_its_handle_only() -> None:
    """The live handle stays in its process; the task's id is enough to attach anew."""
    error = samples()[TaskTimeout]
    assert isinstance(error, TaskTimeout)
    assert error.handle is not None
    back: Any = pickle.loads(pickle.dumps(error))
    assert back.handle is None
    assert (back.task_id, back.waited) == ("2221", 3600.0)
    assert back.errno is None


@pytest.mark.parametrize("kind", KINDS)
def test_no_surface_shows_a_token(kind: type[WiroError]) -> None:
    """Neither the repr, nor the text, nor a traceback with its locals."""
    error = samples()[kind]
    try:
        raise error
    except WiroError as caught:
        shown = "".join(traceback.TracebackException.from_exception(caught, capture_locals=True).format())
    assert TOKEN not in shown
    assert TOKEN not in repr(vars(error))


def test_a_users_own_subclass_pickles_too() -> None:
    """A class below ours with other arguments keeps its facts without any help."""
    back = pickle.loads(pickle.dumps(Odd(7)))
    assert (type(back), back.number, back.message) == (Odd, 7, "number 7")


class Odd(WiroError):
    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")
        self.number = number
