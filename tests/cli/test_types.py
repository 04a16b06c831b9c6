"""``wiro types``: classes of typed inputs from the catalogue as it is now."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_tools import Answer, Stub, Wiro, name_in_environment, no, ok
from tests.cli_tools import wiro as wiro
from wiro_async.inputs import KlingV26
from wiro_async.sandbox import Sandbox


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    """Serve all tests: none of them changes it."""
    with Sandbox(render=False) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The service that the environment names."""
    name_in_environment(served, monkeypatch)
    return served


def made(path: Path) -> dict[str, Any]:
    """Run a module, and return its names."""
    return runpy.run_path(str(path))


def test_a_file_with_the_classes_of_some_models(wiro: Wiro, tmp_path: Path) -> None:
    """Of those that have any of the words in their name, in any case of letters."""
    file = tmp_path / "my_models.py"
    said = wiro("types", "kling-v2.6", "VEO3", "-o", str(file))
    assert said.out == f"6 classes in {file}\n"
    names = made(file)
    assert names["__all__"] == [
        "KlingV26", "KlingV26MotionControl", "Veo3", "Veo3Fast", "Veo31", "Veo31Fast",
    ]  # fmt: skip
    assert names["KlingV26"].model == KlingV26.model
    assert names["KlingV26"].__doc__ == KlingV26.__doc__
    assert names["KlingV26"].__annotations__ == KlingV26.__annotations__


def test_all_models_have_classes(wiro: Wiro) -> None:
    """Without words, to stdout, as the file would be."""
    said = wiro("types")
    assert said.out.count("\nclass ") == 319
    assert said.out.startswith('"""Typed inputs, a class for each model')
    assert "from wiro_async import Director, HailuoSubject\n" in said.out


def test_a_file_is_replaced_only_where_that_is_asked_for(wiro: Wiro, tmp_path: Path) -> None:
    """Before anything is fetched."""
    file = tmp_path / "my_models.py"
    file.write_text("mine")
    said = wiro("types", "kling-v2.6", "-o", str(file), code=2)
    assert said.problem == f"{file} exists; --overwrite replaces it"
    assert file.read_text() == "mine"
    wiro("types", "kling-v2.6", "-o", str(file), "--overwrite")
    assert "class KlingV26(CheckedInputs):" in file.read_text()


def test_a_file_that_comes_into_being_meanwhile_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """While the catalogue is read."""
    monkeypatch.setenv("WIRO_API_KEY", "key")
    file, tool = tmp_path / "m.py", {"slugowner": "a", "slugproject": "b"}

    def written_meanwhile() -> dict[str, Any]:
        file.write_text("mine")
        return ok(tool=[tool])

    with Stub(Tool_List=[ok(tool=[tool]), ok(tool=[])], Tool_Detail=written_meanwhile) as stub:
        said = Wiro(capsys, list)("types", "-o", str(file), "--base-url", stub.base_url, code=1)
    assert "exists" in said.problem
    assert file.read_text() == "mine"


def test_json_is_one_record(wiro: Wiro, tmp_path: Path) -> None:
    """With the source, each class's model, and where it was saved."""
    (record,) = wiro("types", "kling-v2.6", "--json").records
    assert record.pop("source").count("\nclass ") == 2
    assert record == {
        "type": "types",
        "path": "",
        "classes": {
            "KlingV26": "klingai/kling-v2.6",
            "KlingV26MotionControl": "klingai/kling-v2.6-motion-control",
        },
    }
    (record,) = wiro("types", "kling-v2.6", "--json", "-o", str(tmp_path / "m.py")).records
    assert record["path"] == str(tmp_path / "m.py")
    assert record["source"] == (tmp_path / "m.py").read_text()


def test_a_word_that_no_model_has_is_an_error(wiro: Wiro, tmp_path: Path) -> None:
    """An empty module would be of no use."""
    said = wiro("types", "no-such", "thing", "-o", str(tmp_path / "m.py"), code=2)
    assert said.problem == "no model has 'no-such' or 'thing' in its name; `wiro models` lists them"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_an_error(wiro: Wiro, tmp_path: Path) -> None:
    """In the words of the operating system."""
    assert "No such file" in wiro("types", "veo3", "-o", str(tmp_path / "no" / "m.py"), code=1).problem


def test_a_catalogue_without_models_and_one_with_ghosts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one is told; of the other, what the service does not have is left out; else an error is one."""
    monkeypatch.setenv("WIRO_API_KEY", "key")
    one, other = ({"slugowner": "a", "slugproject": name} for name in ("one", "other"))
    listed: list[Answer] = [ok(tool=[one, other]), ok(tool=[])]
    gone = no(1, "slug-owner-project-not-exist")
    caller = Wiro(capsys, list)
    with Stub(Tool_List=ok(tool=[])) as stub:
        said = caller("types", "--base-url", stub.base_url, code=2)
        assert said.problem == "the service lists no models"
    with Stub(Tool_List=listed, Tool_Detail=[ok(tool=[one]), gone]) as stub:
        said = caller("types", "--base-url", stub.base_url)
        assert said.out.count("\nclass ") == 1
        assert "is listed, and the service does not have it; it is left out" in said.problem
    with Stub(Tool_List=listed, Tool_Detail=no(97, "Insufficient balance")) as stub:
        assert "nsufficient" in caller("types", "--base-url", stub.base_url, code=1).problem
