"""A network of whole messages: what thousands of light hosts share instead of pipes, crypto and muxers.

Each host lies somewhere on a map, and a message travels as long as the distance asks for. All that is under way waits
in one calendar of ticks. Chance comes from one seeded generator and ties are broken by order of sending, so in virtual
time the same seed gives the same run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.event_loop import clock, signals
from py_p2pstack.lifetime import OwnTasks
from py_p2pstack.testing import virtual_time

if TYPE_CHECKING:
    from py_p2pstack.testing.light_host import LightHost

RESOLUTION = 0.001  # seconds; arrivals are rounded up to it, so that one wake-up delivers many
KEEPALIVE = (30.0, 50.0)  # seconds of silence after which a connection is given up: yamux's interval, + its timeout
HOUSEKEEPING = 10.0  # seconds between two looks at the connection managers' watermarks (SwarmConfig.trim_interval)
RETRANSMIT = 1.0  # seconds until a lost packet of a handshake is sent again (RFC 6298's first timeout), doubling


class LightNetwork:
    """Who is there, who reaches whom, and when what arrives. `async with` is its lifetime.

    Messages to hosts out of reach are lost, and so are those that chance picks. Nobody is told: it is for whoever waits
    to give up. (On TCP what is lost is sent again, which takes time. Here a lost message stays lost, which is harder.)
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        nearest: float = 0.005,
        farthest: float = 0.08,
        jitter: float = 0.01,
        loss: float = 0.0,
    ) -> None:
        """Build a network of light hosts.

        Args:
            rng: where jitter and loss come from.
            nearest: seconds one way between hosts at the same place.
            farthest: seconds more between opposite sides of the map (a square, whose edges meet).
            jitter: up to so many seconds more, uniformly; messages of one stream stay in order.
            loss: the probability that a message on a stream never arrives.
        """
        self.loss = loss
        self.hosts: dict[Multiaddr, LightHost] = {}
        """Who listens where."""
        self.refusing: set[Multiaddr] = set()
        """Where somebody has listened and left in good order: dials are refused at once."""
        self.nearest = nearest
        self.delivered = 0
        """Everything that arrived so far."""
        self._rng = rng
        self._slope = farthest / math.hypot(0.5, 0.5)
        self._jitter = jitter
        self._groups: dict[str, int] = {}
        self._cut: set[str] = set()
        self._calendar: dict[int, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {}

    def __repr__(self) -> str:
        flight = sum(map(len, self._calendar.values()))
        return f"<LightNetwork {len(self.hosts)} hosts, {flight} under way>"

    async def __aenter__(self) -> Self:
        self.clock = clock()
        self.signal = signals()
        self._own = OwnTasks()
        tasks = await self._own.__aenter__()
        self._set_alarm = virtual_time.alarm(tasks)
        tasks.start_soon(self._keep_house)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._own.__aexit__(exc_type, exc, traceback)

    # --- who reaches whom -------------------------------------------------------------------------

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Let hosts reach only those of their own group; connections across die of silence."""
        self._groups = {name: index for index, group in enumerate(groups) for name in group}
        for host in list(self.hosts.values()):
            for connection in host.network.conns():
                if not self.reachable(host.name, connection.remote.name):
                    self.post(self._rng.uniform(*KEEPALIVE), connection.fall_silent)

    def cut(self, name: str) -> None:
        """Pull a host's plug for good: nothing comes from it or gets to it, and its peers find out by its silence."""
        self._cut.add(name)
        for address, host in list(self.hosts.items()):
            if host.name == name:
                del self.hosts[address]
                for connection in host.network.conns():
                    self.post(self._rng.uniform(*KEEPALIVE), connection.other.fall_silent)

    def reachable(self, one: str, other: str) -> bool:
        """Whether messages get from one host to the other now."""
        if one in self._cut or other in self._cut:
            return False
        return not self._groups or self._groups.get(one) == self._groups.get(other)

    # --- how long it takes ------------------------------------------------------------------------

    def latency(self, one: LightHost, other: LightHost) -> float:
        """Seconds one way, before jitter."""
        across, down = abs(one.place[0] - other.place[0]), abs(one.place[1] - other.place[1])
        return self.nearest + self._slope * math.hypot(min(across, 1 - across), min(down, 1 - down))

    def draw_delay(self, latency: float) -> float:
        """Seconds this message takes; infinite if it is lost."""
        if self.loss and self._rng.random() < self.loss:
            return math.inf
        return latency + self._rng.random() * self._jitter

    def draw_handshake(self, latency: float) -> float:
        """Seconds for two round trips, in which lost packets are sent again."""
        delay = 4 * latency + self._rng.random() * self._jitter
        for _ in range(4 if self.loss else 0):
            again = RETRANSMIT
            while self._rng.random() < self.loss:
                delay += again
                again *= 2
        return delay

    # --- delivery ---------------------------------------------------------------------------------

    def post(self, delay: float, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function(*arguments)` when `delay` seconds have passed. It must neither block nor raise."""
        self.post_at(self.clock() + delay, function, *arguments)

    def post_at(self, due: float, function: Callable[..., None], *arguments: Any) -> None:
        """The same for a point in time."""
        tick = math.ceil(due / RESOLUTION - 1e-6)
        calls = self._calendar.get(tick)
        if calls is not None:
            calls.append((function, arguments))
            return
        self._calendar[tick] = [(function, arguments)]
        self._set_alarm(tick * RESOLUTION, self._deliver, tick)

    def _deliver(self, tick: int) -> None:
        calls = self._calendar.pop(tick)
        self.delivered += len(calls)
        for function, arguments in calls:
            function(*arguments)

    async def _keep_house(self) -> None:
        """What each swarm does for itself, done for all of them by one task."""
        while True:
            await anyio.sleep(HOUSEKEEPING)
            for host in list(self.hosts.values()):
                host.network.trim()
