"""How many files of the core one has to read to follow a job."""

from __future__ import annotations

import pytest

from tests.way import LIMITS, Way, follow, show


@pytest.fixture(scope="module")
def ways() -> list[dict[str, Way]]:
    """Three measurements."""
    return follow(3)


@pytest.mark.parametrize("name", LIMITS[True])
def test_the_way_of_a_job_is_short(name: str, ways: list[dict[str, Way]]) -> None:
    """Each operation meets no more files than a reader can keep in mind."""
    assert max(len(way[name]) for way in ways) <= LIMITS[True][name]


def test_the_way_of_a_job_without_the_check_is_shorter() -> None:
    """Whoever leaves it out meets none of its files."""
    (way,) = follow(check=False)
    assert {name: len(files) <= LIMITS[False][name] for name, files in way.items()} == dict.fromkeys(
        way, True
    )


@pytest.mark.parametrize("name", LIMITS[True])
def test_the_way_does_not_depend_on_chance(name: str, ways: list[dict[str, Way]]) -> None:
    """Each measurement meets the same files."""
    assert len({frozenset(way[name]) for way in ways}) == 1


def test_the_report_names_files_functions_and_limits(ways: list[dict[str, Way]]) -> None:
    """Who runs ``python -m tests.way`` sees where to read, and how far it is."""
    report = "\n".join(show(ways[0]))
    assert "_client.py\n        Client.submit" in report
    assert report.splitlines()[-1].startswith("Files met: submit ")
    assert "sandbox" not in report
