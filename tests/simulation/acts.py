"""What is done over and over in a simulated network, and how it is counted."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median

import anyio

from py_p2pstack.errors import P2PError
from py_p2pstack.identity import PrivateKey
from tests.simulation.crowd import Crowd, Node, closest

Figures = dict[str, float]


@dataclass(slots=True)
class Tally:
    """Successes out of tries, and how long they took."""

    good: int = 0
    tries: int = 0
    seconds: list[float] = field(default_factory=list)

    def count(self, good: bool, seconds: float) -> None:
        """Count one try."""
        self.tries += 1
        self.good += good
        self.seconds.append(seconds)

    @property
    def percent(self) -> float:
        """The share of successes."""
        return 100 * self.good / self.tries if self.tries else math.nan

    def figures(self, name: str) -> Figures:
        """As they are written down."""
        seconds = sorted(self.seconds) or [math.nan]
        return {
            f"{name}_percent": round(self.percent, 3),
            f"{name}_tries": self.tries,
            f"{name}_seconds_median": round(median(seconds), 3),
            f"{name}_seconds_p95": round(seconds[int(0.95 * (len(seconds) - 1))], 3),
        }


@dataclass(frozen=True, slots=True)
class Thing:
    """A value and its key."""

    key: bytes
    value: bytes


def new_thing(rng: Random) -> Thing:
    """A value that its key proves."""
    public_key = PrivateKey.from_seed(rng.randbytes(32)).public_key
    return Thing(b"/pk/" + public_key.peer_id().to_bytes(), public_key.encode())


async def put(crowd: Crowd, node: Node, thing: Thing) -> bool:
    """Put a value; whether it was acknowledged by anybody."""
    with node.call():
        try:
            result = await node.service.put_value(thing.key, thing.value)
        except P2PError as fault:
            crowd.log(node.name, f"put failed: {type(fault).__name__}")
        else:
            crowd.log(node.name, f"put {len(result.replicas)} replicas")
            return True
    return False


async def put_many(crowd: Crowd, count: int) -> list[Thing]:
    """Put values at random nodes, a few at a time; returns those acknowledged."""
    things: list[Thing] = []

    async def one(thing: Thing) -> None:
        if await put(crowd, crowd.anybody(), thing):
            things.append(thing)

    for _ in range(-(-count // 20)):
        async with anyio.create_task_group() as tasks:
            for _ in range(min(20, count)):
                tasks.start_soon(one, new_thing(crowd.rng))
        count -= 20
    return things


async def get(crowd: Crowd, node: Node, thing: Thing, tally: Tally) -> None:
    """Get a value and count it, unless the node goes meanwhile."""
    start = crowd.now()
    with node.call():
        try:
            found = await node.service.get_value(thing.key) == thing.value
            fault = ""
        except P2PError as caught:
            found, fault = False, f": {type(caught).__name__}"
        tally.count(found, crowd.now() - start)
        crowd.log(node.name, f"get {'succeeded' if found else 'failed'}{fault}")


async def look_up(
    crowd: Crowd, node: Node, others: Sequence[Node], tally: Tally, hops: list[int] | None = None
) -> None:
    """Look up a random key and compare with who truly is nearest."""
    key = crowd.rng.randbytes(32)
    start = crowd.now()
    try:
        result = await node.service.look_up(key)
        good = list(result.peers) == closest(others, key, seen_by=node)
        if hops is not None:
            hops.append(result.hops)
    except P2PError:
        good = False
    tally.count(good, crowd.now() - start)
    crowd.log(node.name, f"looked up: {'true' if good else 'not true'}")


async def look_up_all(crowd: Crowd, nodes: Sequence[Node], others: Sequence[Node], tally: Tally) -> None:
    """Have each of some nodes look up a random key, all at once."""
    async with anyio.create_task_group() as tasks:
        for node in nodes:
            tasks.start_soon(look_up, crowd, node, others, tally)


async def at_random_times(crowd: Crowd, count: int, duration: float, act: Callable[[], Awaitable[None]]) -> None:
    """Do something `count` times, spread over `duration` seconds."""

    async def later(delay: float) -> None:
        await anyio.sleep(delay)
        await act()

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(later, crowd.rng.uniform(0, duration))


def gets_for(size: int) -> int:
    """How many gets tell enough: a thousand of a thousand nodes."""
    return max(20, size)


def values_for(size: int) -> int:
    """How many values are put: a hundred among a thousand nodes."""
    return max(10, size // 10)
