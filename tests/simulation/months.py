"""A network that is left running for weeks: what it holds is the same at the end as in the first days.

Guests come every six hours, put a value, provide some content, and go an hour later; now and then a resident is
replaced. So every table, book and store has long met more than it may keep, and what is not cleared away shows.
"""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from py_p2pstack.errors import P2PError
from py_p2pstack.testing import virtual_time
from tests.simulation.crowd import CONFIG, Crowd, Node, newcomer

HOUR = 3600.0
DAY = 24 * HOUR
WARM_UP = 4  # days: what is kept for 48 hours, and cleared away once a day, has been through that
REPLACED = 7  # days, after which a resident is
VALUE = 20_000  # bytes: of those that are not forgotten a day's is a tenth of all that is held
KEPT = b"/v/kept"
CONTENT = b"\x12\x20" + bytes(32)


@dataclass(slots=True)
class Weeks:
    """What was seen."""

    held: list[int] = field(default_factory=list)
    """Bytes, at the end of each day from the fourth on: all that was allocated since the beginning and is still."""
    lost: list[str] = field(default_factory=list)
    """What could not be got that should have been."""

    @property
    def growth(self) -> float:
        """What was held at the end of the last two days, as a multiple of that of the first two."""
        return sum(self.held[-2:]) / sum(self.held[:2])


def run(
    days: int, *, nodes: int = 20, seed: int = 1, backend: str = "asyncio", refresh: float = HOUR, **config: Any
) -> Weeks:
    """Let `nodes` live for so many days, refreshing every `refresh` seconds; `config` goes to their DHTs."""
    tracemalloc.start(1)
    try:
        return virtual_time.run(_live, days, nodes, seed, {"refresh_interval": refresh, **config}, backend=backend)
    finally:
        tracemalloc.stop()


async def _live(days: int, nodes: int, seed: int, settings: dict[str, Any]) -> Weeks:
    seen = Weeks()
    config = replace(CONFIG, low_peers=3, **settings)  # or so few would repair their tables all the time
    async with Crowd(size=nodes, seed=seed, config=config) as crowd, anyio.create_task_group() as tasks:
        for _ in range(nodes):
            await newcomer(crowd, tasks.start_soon)
            await list(crowd.nodes.values())[-1].joined.wait()  # so that the next one finds somebody
        keeper, *_ = crowd.nodes
        await crowd.nodes[keeper].service.put_value(KEPT, b"for long")
        await crowd.nodes[keeper].service.provide(CONTENT)
        for day in range(days):
            for quarter in range(4):
                await _visit(crowd, tasks, f"{day}.{quarter}", seen)
            if day % REPLACED == 1:
                await crowd.crash(crowd.rng.choice([name for name in crowd.nodes if name != keeper]))
                await newcomer(crowd, tasks.start_soon)
            await anyio.sleep(HOUR)
            await _check(crowd, f"day {day}", seen)
            crowd.entries.clear()
            if day + 1 >= WARM_UP:
                gc.collect()
                seen.held.append(tracemalloc.get_traced_memory()[0])
        tasks.cancel_scope.cancel()
    return seen


async def _visit(crowd: Crowd, tasks: anyio.abc.TaskGroup, name: str, seen: Weeks) -> None:
    """A guest comes, leaves something behind, and goes."""
    before = set(crowd.nodes)
    await newcomer(crowd, tasks.start_soon)
    (guest,) = set(crowd.nodes) - before
    node = crowd.nodes[guest]
    await node.joined.wait()
    key, content = f"/v/{name}".encode(), b"\x12\x20" + hashlib.sha256(name.encode()).digest()
    await node.service.put_value(key, bytes(VALUE))
    await node.service.provide(content)
    await anyio.sleep(HOUR)
    await crowd.leave(guest)
    if not await _gets(crowd.anybody(), key):
        seen.lost.append(f"value {name}")
    await anyio.sleep(4.75 * HOUR)


async def _check(crowd: Crowd, when: str, seen: Weeks) -> None:
    """What a resident keeps alive is there, whoever asks."""
    node = crowd.anybody()
    if not await _gets(node, KEPT):
        seen.lost.append(f"kept value, {when}")
    async with node.service.find_providers(CONTENT, count=1) as providers:
        if not [provider async for provider in providers]:
            seen.lost.append(f"provider, {when}")


async def _gets(node: Node, key: bytes) -> bool:
    try:
        await node.service.get_value(key)
    except P2PError:
        return False
    return True
