"""A network inside the process: who reaches whom, how long bytes travel, and the one task that delivers them.

Without latency, jitter, bandwidth and loss bytes are handed over at once and no task is needed. With any of
them, what is in flight waits in one calendar of ticks, emptied by one task: a message costs an append, not
a task and not a timer. All chance comes from one seeded generator and ties are broken by order of sending,
so in virtual time the same seed gives the same run.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.lifetime import OwnTasks

if TYPE_CHECKING:
    from py_p2pstack.transports.memory import MemoryListener
    from py_p2pstack.transports.memory_pipe import Pipe

_FIRST_EPHEMERAL = 1 << 32  # numbers of dialling ends, out of the way of those one listens on
_MIN_RETRANSMIT = 0.2  # seconds; Linux's smallest retransmission timeout (RFC 6298 would have it 1)
_MAX_RETRANSMITS = 6  # then it gets through: pipes are reliable

Latency = float | Callable[[str, str], float]
"""Seconds one way: the same for all, or a function of the two nodes' names."""


class MemoryNetwork:
    """The network many `MemoryTransport`s share. With delays it must be entered (`async with`) before use.

    Nodes are known by the names their transports were given; whoever is in no group of a partition is in
    one of its own with all others that are in none.
    """

    def __init__(
        self,
        rng: random.Random | None = None,
        *,
        latency: Latency = 0.0,
        jitter: float = 0.0,
        bandwidth: float | None = None,
        loss: float = 0.0,
        resolution: float = 0.001,
        capacity: int = 128 * 1024,
        backlog: int = 128,
        max_read: int | None = None,
    ) -> None:
        """Build a network; raises ValueError for chance without a generator, or figures that make no sense.

        Args:
            rng: where jitter and loss come from.
            latency: seconds one way.
            jitter: up to so many seconds more, uniformly; never reorders a pipe.
            bandwidth: bytes a second per direction of a connection; None: unlimited.
            loss: the probability that what was sent at once is lost and comes a retransmission timeout later.
            resolution: seconds to which arrivals are rounded up, so that one wake-up delivers many.
            capacity: bytes a direction of a connection holds, in flight and unread, before its writer must
            wait. backlog: connections that may wait to be accepted per listener; more are refused.
            max_read: bytes one `receive_nowait` gives at most, to shake out parsers; None: as many as fit.
        """
        if (jitter or loss) and rng is None:
            raise ValueError("jitter and loss need a random generator")
        if not 0 <= loss < 1 or jitter < 0 or resolution <= 0 or capacity < 1 or backlog < 1:
            raise ValueError("loss must be in [0, 1), jitter ≥ 0, resolution, capacity and backlog > 0")
        self.rng = rng or random.Random(0)  # noqa: S311 - drawn from only if one was given
        self.latency = latency
        self.jitter = jitter
        self.bandwidth = bandwidth
        self.loss = loss
        self.capacity = capacity
        self.backlog = backlog
        self.max_read = max_read
        self.delayed = callable(latency) or bool(latency or jitter or bandwidth or loss)
        """Whether anything takes time here."""
        self.severed = False
        """Whether any two nodes may be out of each other's reach now."""
        self.listeners: dict[int, MemoryListener] = {}
        self._resolution = resolution
        self._next_port = 1
        self._next_ephemeral = _FIRST_EPHEMERAL
        self._groups: dict[str, int] = {}
        self._cut: set[str] = set()
        self._changed: anyio.Event | None = None
        self._stalled: dict[Pipe, None] = {}
        self._calendar: dict[int, list[tuple[Pipe, bytearray | None]]] = {}
        self._ticks: list[int] = []
        self._next_tick: float = math.inf
        self._wake: anyio.Event | None = None
        self._tasks: TaskGroup | None = None

    def __repr__(self) -> str:
        flight = sum(map(len, self._calendar.values()))
        return f"<MemoryNetwork {len(self.listeners)} listeners, {flight} in flight>"

    async def __aenter__(self) -> Self:
        self._own = OwnTasks()
        self._tasks = await self._own.__aenter__()
        if self.delayed:
            self._tasks.start_soon(self._deliver)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tasks = None
        await self._own.__aexit__(exc_type, exc, traceback)

    # --- who reaches whom -------------------------------------------------------------------------

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Let nodes reach only those of their own group.

        What is sent across waits, as TCP would resend it.
        """
        self._groups = {node: index for index, group in enumerate(groups) for node in group}
        self._reach_changed()

    def cut(self, node: str) -> None:
        """Pull a node's plug: nothing comes from it or gets to it, and nobody is told."""
        self._cut.add(node)
        self._reach_changed()

    def mend(self, node: str) -> None:
        """Put the plug back."""
        self._cut.discard(node)
        self._reach_changed()

    def heal(self) -> None:
        """End the partition and all cuts."""
        self._groups = {}
        self._cut.clear()
        self._reach_changed()

    def reachable(self, one: str, other: str) -> bool:
        """Whether bytes get from one node to the other now."""
        if one in self._cut or other in self._cut:
            return False
        return self._groups.get(one) == self._groups.get(other)

    def _reach_changed(self) -> None:
        self.severed = bool(self._cut or self._groups)
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        stalled, self._stalled = self._stalled, {}
        for pipe in stalled:
            if not self.reachable(pipe.source, pipe.target):
                self._stalled[pipe] = None
            elif self.delayed:
                self._schedule(pipe, bytearray(), anyio.current_time() + pipe.latency)
            else:
                pipe.release()

    def stall(self, pipe: Pipe) -> None:
        """Remember a pipe that holds what could not arrive."""
        self._stalled[pipe] = None

    async def wait_reachable(self, one: str, other: str) -> None:
        """Return when bytes get through."""
        while not self.reachable(one, other):
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()

    # --- how long it takes ------------------------------------------------------------------------

    def latency_between(self, one: str, other: str) -> float:
        """Seconds one way, before jitter."""
        return self.latency(one, other) if callable(self.latency) else self.latency

    def draw_delay(self, latency: float) -> float:
        """Seconds that one sending takes, jitter and resending included."""
        delay = latency
        if self.jitter:
            delay += self.rng.random() * self.jitter
        if self.loss:
            timeout = max(_MIN_RETRANSMIT, 2 * latency)
            for _ in range(_MAX_RETRANSMITS):
                if self.rng.random() >= self.loss:
                    break
                delay += timeout
                timeout *= 2
        return delay

    # --- delivery ---------------------------------------------------------------------------------

    def require_running(self) -> None:
        """Raise RuntimeError if nobody would deliver what is sent."""
        if self.delayed and self._tasks is None:
            raise RuntimeError("a MemoryNetwork with delays must be entered with `async with` first")

    def send(self, pipe: Pipe, chunk: bytearray | None) -> None:
        """Put a chunk (None: the end) on its way; it arrives behind all that was sent on the pipe before."""
        now = anyio.current_time()
        if self.bandwidth and chunk:
            pipe.busy_until = max(now, pipe.busy_until) + len(chunk) / self.bandwidth
            due = pipe.busy_until + self.draw_delay(pipe.latency)
        else:
            due = now + self.draw_delay(pipe.latency)
        pipe.last_due = due = max(due, pipe.last_due)
        self._schedule(pipe, chunk, due)

    def _schedule(self, pipe: Pipe, chunk: bytearray | None, due: float) -> None:
        tick = math.ceil(due / self._resolution - 1e-6)  # 50 ms is 50 ticks whatever floats make of it
        arrivals = self._calendar.get(tick)
        if arrivals is None:
            self._calendar[tick] = [(pipe, chunk)]
            heapq.heappush(self._ticks, tick)
            if tick < self._next_tick and self._wake is not None:
                self._wake.set()
        elif chunk and pipe.last_chunk_tick == tick and pipe.last_chunk is not None:
            pipe.last_chunk += chunk
            return
        else:
            arrivals.append((pipe, chunk))
        pipe.last_chunk, pipe.last_chunk_tick = chunk, tick

    async def _deliver(self) -> None:
        ticks = self._ticks
        while True:
            now = anyio.current_time()
            while ticks and ticks[0] * self._resolution <= now + 1e-9:
                for pipe, chunk in self._calendar.pop(heapq.heappop(ticks)):
                    if chunk is pipe.last_chunk:
                        pipe.last_chunk = None
                    pipe.deliver(chunk)
            self._next_tick = ticks[0] if ticks else math.inf
            self._wake = anyio.Event()
            with anyio.CancelScope(deadline=self._next_tick * self._resolution):
                await self._wake.wait()

    # --- numbers ----------------------------------------------------------------------------------

    def free_port(self) -> int:
        """A number nobody listens on."""
        while self._next_port in self.listeners:
            self._next_port += 1
        self._next_port += 1
        return self._next_port - 1

    def ephemeral_port(self) -> int:
        """A number for a dialling end."""
        self._next_ephemeral += 1
        return self._next_ephemeral - 1
