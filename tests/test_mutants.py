"""What ``make mutants`` needs to be true of the tree; the mutants themselves are too many for every run."""

from __future__ import annotations

import pytest

from tests.mutants import COPIED, MAP, ROOT, Mutant, read_equivalent
from tests.test_architecture import PURE

NOT_MUTATED = {
    "_version": "one line, which the release sets",
    "_types": "names and statuses",
    "_errors": "classes and their texts",
    "_journal.journal": "an interface, and the null form of a journal",
    "_tasks.ends": "an error for each end",
    "_batch.progress": "rates and remaining times for people",
    "inputs.source": "source text, which its tests compile and compare whole",
}
"""Pure modules of the core that are left out, and why."""


def test_every_pure_module_is_mutated_or_left_out_for_a_reason() -> None:
    """A new one finds its way into the map."""
    mutated = {module.replace("/", ".") for module in MAP}
    core = {name for name in PURE if not name.startswith("sandbox.")}
    assert core - mutated == NOT_MUTATED.keys()


@pytest.mark.parametrize("module", MAP)
def test_every_mutated_module_has_its_tests(module: str) -> None:
    """A file that was renamed would leave its mutants without tests."""
    assert (ROOT / "wiro_async" / f"{module}.py").is_file()
    for test in MAP[module]:
        assert (ROOT / test).is_file()
        assert test.partition("/")[0] in COPIED


def test_equivalent_mutants_have_a_reason() -> None:
    """Each names the module, the line, what it becomes, and why nobody can tell."""
    for each in read_equivalent():
        assert each.keys() == {"file", "was", "becomes", "why"}
        assert each["file"].removeprefix("wiro_async/").removesuffix(".py") in MAP
        assert len(each["why"]) > 20
    assert Mutant("_config", 1, "", "x", 0, "a", "b").file == "wiro_async/_config.py"
