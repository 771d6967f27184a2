"""How a connection that we close waits until the peer has what was sent before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qh3._hazmat import QuicConnectionCore


class Farewell:
    """The wait of one connection, up to a time."""

    def __init__(self, core: QuicConnectionCore, until: float, ask: Callable[[], None]) -> None:
        """`ask` has the peer acknowledge at once what it has."""
        self.until = until
        self._core = core
        self._ask = ask
        self._losses = core.loss_total
        self._last_word: int | None = None
        ask()

    def is_over(self, queued: int, now: float) -> bool:
        """Whether the peer has everything, or there is no more time; `queued`: bytes not even sent yet."""
        core = self._core
        if now >= self.until:
            return True
        if queued:
            return False
        if core.loss_total != self._losses:  # what was lost goes out anew: wait for what comes behind that
            self._losses = core.loss_total
            self._ask()
            self._last_word = None
        # Those without anything to deliver are probes of the path: whether they arrive is nothing to us now.
        outstanding = [number for number, _, deliveries in core.outstanding_application_packets if deliveries]
        if not outstanding:
            return True
        if self._last_word is None:
            self._last_word = outstanding[-1]
        return outstanding[0] > self._last_word
