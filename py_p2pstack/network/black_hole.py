"""Whether whole kinds of addresses lead nowhere from here: UDP that is swallowed, IPv6 that is not there.

If fewer than 5 of the last 100 attempts at public addresses of a kind worked, the kind is left out of dials,
except for each hundredth request, which probes whether the world has changed; one success then lifts the
block at once, because a black hole is there or is not. An attempt that was cut short because another address
won counts as failed: over a hundred attempts that evens out. Source: go-libp2p swarm/black_hole_detector.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum

from py_p2pstack.addresses import Multiaddr, ip_of, is_public

WINDOW = 100  # go-libp2p: N of both counters
MIN_SUCCESSES = 5  # go-libp2p: MinSuccesses of both counters


class BlackHoleState(Enum):
    """What is known of a kind of addresses."""

    PROBING = "probing"
    ALLOWED = "allowed"
    BLOCKED = "blocked"


class SuccessCounter:
    """The last `window` outcomes of one kind."""

    __slots__ = ("_min_successes", "_requests", "_results", "_successes", "_window", "state")

    def __init__(self, window: int = WINDOW, min_successes: int = MIN_SUCCESSES) -> None:
        self._window = window
        self._min_successes = min_successes
        self._results: deque[bool] = deque()
        self._successes = 0
        self._requests = 0
        self.state = BlackHoleState.PROBING
        """Probing until `window` outcomes are known, then allowed or blocked by them."""

    def record(self, success: bool) -> None:
        """Take in the outcome of an attempt."""
        if success and self.state is BlackHoleState.BLOCKED:
            self._results.clear()
            self._successes = self._requests = 0
            self.state = BlackHoleState.PROBING
            return
        self._results.append(success)
        self._successes += success
        if len(self._results) > self._window:
            self._successes -= self._results.popleft()
        if len(self._results) == self._window:
            enough = self._successes >= self._min_successes
            self.state = BlackHoleState.ALLOWED if enough else BlackHoleState.BLOCKED

    def request(self) -> BlackHoleState:
        """What to do with the addresses of this kind in the dial that begins now."""
        self._requests += 1
        if self.state is BlackHoleState.BLOCKED and self._requests % self._window == 0:
            return BlackHoleState.PROBING
        return self.state


class BlackHoleDetector:
    """Watches UDP and IPv6 apart; private and loopback addresses are never judged."""

    __slots__ = ("ipv6", "udp")

    def __init__(self, *, window: int = WINDOW, min_successes: int = MIN_SUCCESSES) -> None:
        self.udp = SuccessCounter(window, min_successes)
        self.ipv6 = SuccessCounter(window, min_successes)

    def filter(self, addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
        """Leave out the black-holed addresses of one dial. Counts as a request: call it once a dial.

        An address of a kind that is being probed passes even if it is of the other, blocked kind too: else a
        UDP address over IPv6 could never end a block.
        """
        kinds = [(address, self._kinds(address)) for address in addresses]
        verdicts = {
            counter: counter.request() for counter in (self.udp, self.ipv6) if any(counter in own for _, own in kinds)
        }
        passed = []
        for address, own in kinds:
            states = {verdicts[counter] for counter in own}
            if BlackHoleState.PROBING in states or BlackHoleState.BLOCKED not in states:
                passed.append(address)
        return passed

    def record(self, address: Multiaddr, success: bool) -> None:
        """Take in the outcome of an attempt at `address`."""
        for counter in self._kinds(address):
            counter.record(success)

    def _kinds(self, address: Multiaddr) -> Sequence[SuccessCounter]:
        if not is_public(address):
            return ()
        udp = address.raw_value("udp") is not None
        ip = ip_of(address)
        ipv6 = ip is not None and ip.version == 6
        return tuple(counter for counter, is_kind in ((self.udp, udp), (self.ipv6, ipv6)) if is_kind)
