"""When to look at which task. Pure: ages and times in, times out.

One schedule per client paces the looks at all of its tasks.
"""

from __future__ import annotations

import attrs

from wiro_async._config import Polling

__all__ = ["Schedule"]

BURST_SECONDS = 0.25
"""How far looks may run ahead of an even pace, so that a lone task is not slowed by rounding."""


@attrs.define
class Schedule:
    """Decides when a task is due for a look, and holds the client's budget of looks.

    Attributes:
        polling: The policy.
        free_at: When the budget has its next free place, on the caller's clock.
    """

    polling: Polling
    free_at: float = float("-inf")

    def interval(self, age: float, failures: int, chance: float) -> float:
        """Return the seconds from one look at a task to the next.

        Args:
            age: How long ago the task was first known, in seconds.
            failures: How many looks in a row have failed; each doubles the interval, up to the maximum.
            chance: A random number between 0 and 1, for the jitter.
        """
        policy = self.polling
        longest = max(policy.max_interval, policy.min_interval)
        plain = min(max(policy.growth * age, policy.min_interval), longest)
        patient = min(plain * 2.0 ** min(failures, 16), longest)
        return patient * (1.0 + policy.jitter * (2.0 * chance - 1.0))

    def reserve(self, now: float) -> float:
        """Take the next place in the budget and return when it is, at *now* or later.

        The generic cell rate algorithm (ITU-T I.371): places are ``1 / requests_per_second`` apart, first
        come, first served, with a burst of a quarter of a second's worth.
        """
        place = max(self.free_at, now - BURST_SECONDS)
        self.free_at = place + 1.0 / self.polling.requests_per_second
        return max(place, now)
