"""How much the tests play, which the environment's DEPTH says.

    make test              quick: a part of each long suite, and of Hypothesis' examples; the default
    make test DEPTH=deep   all of it, as CI does
    make chaos             explore: more examples than deep, drawn anew each time

Quick and deep play the same on each run: a seed is a schedule, and Hypothesis derives its examples from the
test itself. So no change fails by what was drawn for it; ``make chaos`` looks for what nobody has seen.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

DEPTHS = {"quick": 0.25, "deep": 1.0, "explore": 5.0}
"""By name, the part of a test's examples that is played."""

DEPTH = os.environ.get("DEPTH") or "quick"
if DEPTH not in DEPTHS:
    raise ValueError(f"DEPTH is {DEPTH!r} in the environment, and must be one of {', '.join(DEPTHS)}")

DEEP = DEPTH != "quick"
"""Whether all is played, and not a part only."""


def plays(quick: int, deep: int) -> int:
    """Return how many of a long suite's seeds are played: the first *quick* on every run, *deep* for CI."""
    return deep if DEEP else quick


def examples(number: int, **options: Any) -> settings:
    """Return the settings of a Hypothesis test.

    Args:
        number: How many examples the deep run plays.
        options: Other settings, such as *stateful_step_count*.
    """
    return settings(max_examples=max(10, round(number * DEPTHS[DEPTH])), **options)


for name, part in DEPTHS.items():
    settings.register_profile(
        name,
        max_examples=round(100 * part),
        derandomize=name != "explore",
        print_blob=True,
        # A busy machine is slow.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
# Before any test module is imported, whose settings are copies of these.
settings.load_profile(DEPTH)
