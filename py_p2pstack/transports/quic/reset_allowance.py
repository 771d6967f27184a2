"""How many streams the peer may open in vain."""

from __future__ import annotations

from py_p2pstack.transports.quic.config import QuicConfig


class ResetAllowance:
    """A burst of `max_resets`, that comes back at `resets_per_second`."""

    def __init__(self, config: QuicConfig) -> None:
        self._config = config
        self._left = float(config.max_resets)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Use one up; returns whether there was one."""
        earned = (now - self._at) * self._config.resets_per_second
        self._left = min(self._config.max_resets, self._left + earned) - 1
        self._at = now
        return self._left >= 0
