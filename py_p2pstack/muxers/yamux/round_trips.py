"""Pings on their way and what they tell: whether the peer lives, and how long a round trip takes.

A round trip measured under load holds the queues in front of it, so windows go by the best of late: a window that grew
by inflated figures would only lengthen those queues, and everybody else's wait.
"""

from __future__ import annotations

_MAX_U32 = 2**32 - 1
_MEMORY = 60.0  # seconds after which the best is forgotten: paths change


class RoundTrips:
    """The pings of one connection; at most one is on its way."""

    __slots__ = ("_best_at", "begun_at", "best", "last", "measured_at", "opaque", "sent_at")

    def __init__(self) -> None:
        self.last: float | None = None
        """The last round trip, in seconds."""
        self.best: float | None = None
        """The shortest of the last minute."""
        self.measured_at = float("-inf")
        """When the last answer came."""
        self.begun_at = float("-inf")
        """When the last ping was sent."""
        self.sent_at: float | None = None
        """When the ping still on its way was sent."""
        self.opaque = 0
        """The value of the last ping."""
        self._best_at = float("-inf")

    def begin(self, now: float) -> bool:
        """Whether a ping (of value `opaque`) is to be sent: none is on its way."""
        if self.sent_at is not None:
            return False
        self.opaque = (self.opaque + 1) & _MAX_U32
        self.sent_at = self.begun_at = now
        return True

    def answered(self, opaque: int, now: float) -> float | None:
        """Take an answer; returns the round trip, None if it answers nothing."""
        if self.sent_at is None or opaque != self.opaque:
            return None
        self.last = now - self.sent_at
        self.sent_at = None
        self.measured_at = now
        if self.best is None or self.last <= self.best or now - self._best_at > _MEMORY:
            self.best, self._best_at = self.last, now
        return self.last
