"""How a connection that we close waits until the peer has what was sent before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py_p2pstack.transports.quic.machine import QuicMachine
    from py_p2pstack.transports.quic.streams import QuicStreams


class Farewell:
    """The wait of one connection, up to a time."""

    def __init__(self, machine: QuicMachine, streams: QuicStreams, until: float, ask: Callable[[], None]) -> None:
        """`ask` has the peer acknowledge at once what it has."""
        self.until = until
        self._machine = machine
        self._streams = streams
        self._ask = ask
        self._losses = machine.core.loss_total
        if streams:
            ask()

    def is_over(self, now: float) -> bool:
        """Whether the peer has everything, or there is no more time."""
        machine = self._machine
        if now >= self.until or machine.ended or not self._streams:  # a stream is kept until the peer has its end
            return True
        core = machine.core
        if core.loss_total != self._losses:  # what was lost goes out anew, and is to be acknowledged at once
            self._losses = core.loss_total
            self._ask()
        if self._streams.outflow.queued or machine.holds_back:
            return False
        # Those without anything to deliver are probes of the path: whether they arrive is nothing to us now.
        probes = sum(size for _, size, deliveries in core.outstanding_application_packets if not deliveries)
        if core.bytes_in_flight > probes:
            return False
        timer = core.get_timer()
        if timer is None or not timer[0].startswith("ack"):
            return True
        self._ask()  # it tells its next time alone: behind that for an acknowledgement, which goes along, may be others
        return False
