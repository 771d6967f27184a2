"""How often something may be done: a burst at once, which comes back at a steady rate (a token bucket)."""

from __future__ import annotations


class Allowance:
    """`burst` times at once, `per_second` times in the long run."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Use one up; returns whether there was one. `now` in seconds, never going back."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
