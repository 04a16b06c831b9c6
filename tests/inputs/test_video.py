"""The typed inputs of the video models: each makes a Run, and knows what its model takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import KEY, SECRET
from tests.depth import examples
from tests.typed_inputs import video_models
from wiro_async import Client, Director, HailuoSubject, InvalidInput, Job, Model, ModelInput, inputs
from wiro_async._protocol.checks import check_inputs, undocumented
from wiro_async.inputs import CheckedInputs, KlingV26
from wiro_async.inputs.fields import ChoiceRule, Field, FileRule, NumberRule, TextRule, fields_of
from wiro_async.inputs.source import class_names
from wiro_async.sandbox import Sandbox

NAMED: dict[str, Model] = dict(class_names(video_models()))
"""Each class's name, with its model as the catalogue describes it."""

URL = "https://example.org/a.jpg"


def kind_of(name: str) -> type[CheckedInputs]:
    """Return a class by its name."""
    kind: type[CheckedInputs] = getattr(inputs, name)
    return kind


def first(field: Field) -> Any:
    """Return one value that a field takes."""
    match field.rule:
        case FileRule():
            return URL
        case ChoiceRule(options):
            return options[-1]
        case NumberRule(whole, bounds):
            middle = (bounds.low or 0) if bounds.high is None else bounds.high
            return int(middle) if whole else middle
        case _:
            return "waves"


# -- all of them -----------------------------------------------------------------------------------------


def test_there_is_a_class_for_every_video_model() -> None:
    """Called as people call it."""
    assert len(NAMED) == 91
    assert {
        "KlingV26",
        "HailuoV23",
        "Veo31Fast",
        "SeedanceProV15",
        "Director",
        "HailuoSubject",
    } <= NAMED.keys()
    assert kind_of("Director") is Director
    assert kind_of("HailuoSubject") is HailuoSubject
    assert set(inputs.__all__) > NAMED.keys()
    assert set(inputs.__all__) <= set(dir(inputs))


@pytest.mark.parametrize("name", NAMED)
def test_a_class_knows_the_names_of_its_model(name: str) -> None:
    """All of them, and no other; every field is told in a line."""
    kind, model = kind_of(name), NAMED[name]
    wired = {field.wire for field in fields_of(kind)}
    assert kind.model == model.slug
    assert undocumented(model, dict.fromkeys(wired)) == []
    bases = {name.replace("Url", "") for name in wired}
    assert bases == {item.name.replace("Url", "") for item in model.inputs}
    assert all(f"        {field.name}: " in str(kind.__doc__) for field in fields_of(kind))
    assert all(each.metadata["wire"] in wired for each in attrs.fields(kind))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Serve all the Runs."""
    with Sandbox(
        api_key=KEY, api_secret=SECRET, speed=10_000, run_sigma=0, render=False, balance=1e6
    ) as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", NAMED)
async def test_each_makes_a_run_without_naming_its_model(name: str, sandbox: Sandbox) -> None:
    """With what it needs, and with all that it takes."""
    kind, model = kind_of(name), NAMED[name]
    # Those with a default of the service's are filled in by the check, or sent here.
    required = {item.name for item in model.inputs if item.required}
    everything = {field.name: first(field) for field in fields_of(kind)}
    needed = [field.name for field in fields_of(kind) if field.is_required or field.wire in required]
    async with Client(KEY, SECRET, base_url=sandbox.base_url, watch="poll") as client:
        for names in (needed or [*everything][:1], everything):
            typed = kind(**{name: everything[name] for name in names})
            sent = typed.to_inputs()
            assert check_inputs(model, sent) == []
            task = await client.submit(typed)
            kept = (await task.refresh()).parameters
            assert {key: kept[key] for key in sent} == sent
    assert len(sent) == len(everything)
    assert Job(typed).model == model.slug


# -- the rules -------------------------------------------------------------------------------------------


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Return all that a field takes."""
    match field.rule:
        case FileRule(many):
            one = st.sampled_from([URL, "a.jpg", Path("a.jpg"), b"\xff\xd8\xff"])
            return st.one_of(one, st.lists(one, min_size=1, max_size=3)) if many else one
        case ChoiceRule(options):
            return st.sampled_from(options)
        case NumberRule(True, bounds):
            return st.integers(*map(_whole, bounds))
        case NumberRule(False, bounds):
            return st.floats(*bounds, allow_nan=False, allow_infinity=False)
        case TextRule(kinds):
            texts = st.text(min_size=1, max_size=20).filter(str.strip)
            return st.one_of(texts, st.integers(0, 99)) if len(kinds) > 1 else texts
        case _:
            raise AssertionError(field)


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def all_of(kind: type[CheckedInputs]) -> st.SearchStrategy[dict[str, Any]]:
    """Return arguments for a class that are within its rules: what it needs, and any of the rest."""
    fields = fields_of(kind)
    return st.fixed_dictionaries(
        {field.name: values_of(field) for field in fields if field.is_required},
        optional={
            field.name: st.one_of(st.none(), values_of(field)) for field in fields if not field.is_required
        },
    )


NUMBERS = {"range", "number", "float"}


def ruled(name: str) -> list[ModelInput]:
    """Return the inputs of a model for which the catalogue has a rule."""
    return [item for item in NAMED[name].inputs if item.options or item.type in NUMBERS]


def wrong_for(item: ModelInput) -> st.SearchStrategy[Any]:
    """Return what an input does not take, by the catalogue."""
    if item.type in NUMBERS:
        below = st.nothing() if item.min is None else st.floats(max_value=item.min, exclude_max=True)
        above = st.nothing() if item.max is None else st.floats(min_value=item.max, exclude_min=True)
        return st.one_of(below, above, st.text(), st.booleans(), st.just(float("nan")))
    others = st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.text()))
    return others.filter(lambda value: str(value) not in item.options)


@examples(20)
@pytest.mark.parametrize("name", NAMED)
@given(data=st.data())
def test_what_is_within_the_rules_is_taken(name: str, data: st.DataObject) -> None:
    """And passes the check of the catalogue, which is another reading of the same facts."""
    kind, model = kind_of(name), NAMED[name]
    typed = kind(**data.draw(all_of(kind)))
    missing = {item.name for item in model.inputs if item.required} - typed.to_inputs().keys()
    complaints = check_inputs(model, typed.to_inputs())
    # A text may look like the name of a file: that is no rule of a class.
    assert [told for told in complaints if not any(repr(name) in told for name in missing)] == []
    assert kind(**{field.name: getattr(typed, field.name) for field in fields_of(kind)}) == typed


@examples(40)
@pytest.mark.parametrize("name", [name for name in NAMED if ruled(name)])
@given(data=st.data())
def test_what_is_outside_of_the_rules_is_refused(name: str, data: st.DataObject) -> None:
    """Whatever else is given, by the name of the field."""
    kind = kind_of(name)
    item = data.draw(st.sampled_from(ruled(name)))
    field = next(field.name for field in fields_of(kind) if field.wire == item.name)
    with pytest.raises(InvalidInput) as caught:
        kind(**{**data.draw(all_of(kind)), field: data.draw(wrong_for(item))})
    assert caught.value.name == field


@pytest.mark.parametrize("name", NAMED)
def test_annotations_say_what_the_catalogue_says(name: str) -> None:
    """Every choice, and no other; yes and no are a bool."""
    hints = get_type_hints(kind_of(name), include_extras=True)
    items = {item.name: item for item in NAMED[name].inputs}
    for field in fields_of(kind_of(name)):
        options = {option for option in items[field.wire].options if option}
        choices = [
            hint for hint in (hints[field.name], *get_args(hints[field.name])) if get_origin(hint) is Literal
        ]
        if choices:
            assert {str(option) for option in get_args(choices[0])} == options
        else:
            assert options <= {"true", "false"}
            assert bool(options) == (bool in get_args(hints[field.name]))


def test_a_refusal_teaches() -> None:
    """The class, the value, the choices, and the nearest of them."""
    with pytest.raises(
        InvalidInput, match=r"^ratio of KlingV26 is '19:6'; it must be one of '16:9', '1:1', '9:16'"
    ):
        KlingV26("photo.jpg", "waves", ratio="19:6")  # type: ignore[arg-type]


# -- when they are loaded --------------------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """Return the modules of the package that a fresh interpreter has after some code."""
    script = f"import sys; {code}; print(*[name for name in sys.modules if name.startswith('wiro_async')])"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=plain
    )
    return set(run.stdout.split())


def test_nobody_waits_for_what_is_not_asked_for() -> None:
    """Neither for any class with the package, nor for ninety with two."""
    assert loaded_by("import wiro_async") == {"wiro_async", "wiro_async._version"}
    assert "wiro_async.inputs.video" not in loaded_by("import wiro_async; wiro_async.Director")
    assert loaded_by("import wiro_async.inputs") == {"wiro_async", "wiro_async._version", "wiro_async.inputs"}
    only_parts = loaded_by(
        "from wiro_async.inputs import CheckedInputs, option; from wiro_async.inputs import source"
    )
    assert "wiro_async.inputs.video" not in only_parts - {"wiro_async.inputs.video"}
    some = loaded_by("from wiro_async.inputs import KlingV26")
    assert "wiro_async.inputs.video" in some
    assert not some & {"wiro_async._client", "wiro_async._protocol.envelope", "wiro_async.inputs.source"}


def test_what_there_is_not_cannot_be_had() -> None:
    """Neither by a name that no model has, nor by a private one, nor what the modules import."""
    for name in ("KlingV27", "_KlingV26", "attrs", "Literal"):
        with pytest.raises(AttributeError, match=f"module 'wiro_async.inputs' has no attribute '{name}'"):
            getattr(inputs, name)


# -- what type checkers say ------------------------------------------------------------------------------

WRONG = """\
from wiro_async import Client, Job
from wiro_async.inputs import Director, KlingV26, KlingV3, LiveAvatar, SeedanceProV15

good = KlingV26("photo.jpg", "waves", duration=5, ratio="16:9", sound="off")
KlingV26(image=[b"x", "b.jpg"], prompt=None)
Job(good, key="1")

async def run(client: Client) -> None:
    await client.run(good)
    await client.submit(SeedanceProV15(prompt="waves", generate_audio=True))

KlingV26("photo.jpg", "waves", durration=5)  # error
KlingV26("photo.jpg", "waves", duration=7)  # error
KlingV26("photo.jpg", "waves", ratio="9:61")  # error
KlingV26("photo.jpg", "waves", 5)  # error
KlingV26("photo.jpg", b"waves")  # error
KlingV3(duration="5")  # error
LiveAvatar("photo.jpg")  # error
SeedanceProV15(generate_audio="true")  # error
Director("photo.jpg")  # error
good.duration = 10  # error
good.durration  # error
"""


@pytest.mark.usefixtures("unmeasured")
def test_pyright_tells_a_wrong_field_and_a_wrong_choice(tmp_path: Path) -> None:
    """On each line that is wrong, and on no other."""
    file = tmp_path / "jobs.py"
    file.write_text(WRONG)
    root = Path(inputs.__file__).parents[2]
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"include": ["jobs.py"], "extraPaths": [str(root)]})
    )
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = json.loads(run.stdout)["generalDiagnostics"]
    wrong = [number for number, line in enumerate(WRONG.splitlines()) if line.endswith("# error")]
    assert sorted({each["range"]["start"]["line"] for each in told}) == wrong, told
