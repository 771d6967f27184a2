"""Many nodes in one process, on a memory network, in virtual time; the same seed gives the same log.

What a node is, the factory says: an async context manager made from a `NodeSpec`. Determinism is kept as
long as nothing that is logged or decided hangs on `os.urandom`, wall clocks or the order of sets (see
`virtual_time`).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import anyio

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.identity import PrivateKey
from py_p2pstack.testing import virtual_time
from py_p2pstack.transports.memory import MemoryNetwork, MemoryTransport

N = TypeVar("N")

EPOCH = 1_700_000_000.0  # seconds; what wall clocks in a simulation show at its start
_MAX_LOG = 1_000_000  # entries


class LogEntry(NamedTuple):
    """Something that happened."""

    time: float
    """Virtual seconds since the start, to the microsecond."""
    node: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """What a factory makes a node of; all of it follows from the simulation's seed and the node's index."""

    name: str
    index: int
    address: Multiaddr
    """Where to listen."""
    transport: MemoryTransport
    identity: PrivateKey
    rng: random.Random
    clock: Callable[[], float]
    """Virtual time, in seconds."""
    wall_clock: Callable[[], float]
    """The same, since `EPOCH`."""


Factory = Callable[[NodeSpec], AbstractAsyncContextManager[N]]


@dataclass(slots=True)
class _Member:
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    joined: anyio.Event = field(default_factory=anyio.Event)
    leaves: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Simulation(Generic[N]):
    """A population of nodes. `async with` is its lifetime: entering lets `nodes` of them join, leaving ends all.

    A node that fails ends the simulation with its exception.
    """

    def __init__(self, factory: Factory[N], *, nodes: int, seed: int, max_log: int = _MAX_LOG, **network: Any) -> None:
        """`network`: what `MemoryNetwork` takes (latency, jitter, bandwidth, loss, …); 50 ms of latency by default."""
        self.seed = seed
        self.rng = random.Random(f"{seed}/scenario")  # noqa: S311 - repeatable on purpose
        self.network = MemoryNetwork(
            random.Random(f"{seed}/network"),  # noqa: S311
            **{"latency": 0.05, **network},
        )
        self.nodes: dict[str, N] = {}
        """Who is there now, by name, in order of joining."""
        self.entries: list[LogEntry] = []
        self._factory = factory
        self._first = nodes
        self._born = 0
        self._max_log = max_log
        self._members: dict[str, _Member] = {}

    def __repr__(self) -> str:
        return f"<Simulation seed {self.seed}: {len(self.nodes)} nodes, {len(self.entries)} log entries>"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._enter_network(stack)
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._start = anyio.current_time()
            await self.join(self._first)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        return await self._stack.__aexit__(exc_type, exc, traceback)

    async def _enter_network(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.network)

    # --- the log ----------------------------------------------------------------------------------

    def log(self, node: str, what: str) -> None:
        """Note that something happened. Raises ResourceLimitExceeded when the log is full."""
        if len(self.entries) >= self._max_log:
            raise ResourceLimitExceeded("simulation log", self._max_log, self._max_log + 1)
        self.entries.append(LogEntry(round(self.now(), 6), node, what))

    def digest(self) -> str:
        """A fingerprint of the log: equal for equal runs."""
        lines = (f"{entry.time:.6f}\t{entry.node}\t{entry.what}\n" for entry in self.entries)
        return sha256("".join(lines).encode()).hexdigest()

    def now(self) -> float:
        """Virtual seconds since the start."""
        return anyio.current_time() - self._start

    # --- who is there -----------------------------------------------------------------------------

    async def join(self, count: int = 1) -> list[str]:
        """Let so many new nodes join, side by side; returns their names when all have been entered."""
        fresh: dict[str, _Member] = {}
        for _ in range(count):
            spec = self._specify(self._born)
            self._born += 1
            fresh[spec.name] = self._members[spec.name] = _Member()
            self._tasks.start_soon(self._live, spec, fresh[spec.name], name=spec.name)
        for member in fresh.values():
            await member.joined.wait()
        return list(fresh)

    async def leave(self, name: str) -> None:
        """Let a node leave in good order; returns when it has."""
        member = self._members[name]
        member.leaves.set()
        await member.ended.wait()

    async def crash(self, name: str) -> None:
        """Pull a node's plug for good: it says no goodbye, and its peers see silence."""
        member = self._members[name]
        self._cut(name)
        self.log(name, "crashed")
        member.scope.cancel()
        await member.ended.wait()

    async def churn(
        self, *, interval: float, duration: float, crashes: float = 0.5, keep: Collection[str] = ()
    ) -> None:
        """Replace a random node by a new one every `interval` seconds on average, for `duration` seconds.

        A share of `crashes` goes without goodbye; those in `keep` stay.
        """
        end = self.now() + duration
        while True:
            pause = self.rng.expovariate(1 / interval)
            if self.now() + pause >= end:
                break
            await anyio.sleep(pause)
            mortal = [name for name in self.nodes if name not in keep]
            if mortal:
                name = self.rng.choice(mortal)
                await (self.crash(name) if self.rng.random() < crashes else self.leave(name))
            await self.join()
        await anyio.sleep(max(0.0, end - self.now()))

    def partition(self, *groups: Iterable[str]) -> None:
        """Let nodes reach only those of their own group."""
        parts = [list(group) for group in groups]
        self._part(parts)
        self.log("network", f"partitioned into {len(parts)}")

    def heal(self) -> None:
        """End the partition; the crashed stay dead."""
        self._part([])
        self.log("network", "healed")

    def _cut(self, name: str) -> None:
        self.network.cut(name)

    def _part(self, groups: list[list[str]]) -> None:
        self.network.partition(groups)

    def _specify(self, index: int) -> NodeSpec:
        name = f"n{index:04}"
        rng = random.Random(f"{self.seed}/{name}")  # noqa: S311
        return NodeSpec(
            name=name,
            index=index,
            address=Multiaddr.parse(f"/memory/{index + 1}"),
            transport=MemoryTransport(self.network, name),
            identity=PrivateKey.from_seed(rng.randbytes(32)),
            rng=rng,
            clock=anyio.current_time,
            wall_clock=lambda: EPOCH + self.now(),
        )

    async def _live(self, spec: NodeSpec, member: _Member) -> None:
        try:
            with member.scope:
                async with self._factory(spec) as node:
                    self.nodes[spec.name] = node
                    self.log(spec.name, "joined")
                    member.joined.set()
                    await member.leaves.wait()
                    del self.nodes[spec.name]
                self.log(spec.name, "left")
        finally:
            self.nodes.pop(spec.name, None)
            del self._members[spec.name]
            member.joined.set()
            member.ended.set()


class Record(NamedTuple):
    """What came of a simulation."""

    entries: tuple[LogEntry, ...]
    digest: str
    duration: float
    """Virtual seconds."""


def simulate(
    scenario: Callable[[Simulation[N]], Awaitable[None]],
    factory: Factory[N],
    *,
    nodes: int,
    seed: int,
    backend: str = "asyncio",
    **network: Any,
) -> Record:
    """Run a scenario with `nodes` nodes in virtual time.

    The log ends with the scenario: how nodes are torn down behind it is not part of it. Raises what the
    scenario or a node raises, and `virtual_time.DeadlockError`.
    """

    async def main() -> Record:
        async with Simulation(factory, nodes=nodes, seed=seed, **network) as simulation:
            await scenario(simulation)
            return Record(tuple(simulation.entries), simulation.digest(), simulation.now())

    return virtual_time.run(main, backend=backend, seed=seed)
