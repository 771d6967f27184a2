"""A siege: attackers of all kinds against one host on TCP while honest peers go about their work.

Everybody shares one process and one event loop, so stalls are those of host and attackers together. They are counted in
CPU time: what else the machine does is not ours to answer for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from py_p2pstack.errors import P2PError
from py_p2pstack.upgrade.multistream import lazy_proposal
from tests.hostile.mallory import PING, RST, SYN, WINDOW, Mallory, World, data, frame, opening, tcp_world
from tests.hosts import ECHO, echo, exchange

ATTACKERS = 8
HONEST = 4
SHARE = 0.99  # of honest operations that must succeed
_WATCH = 0.005  # seconds between two looks at the event loop
MAX_STALL = 0.050  # seconds, at p99.9


@dataclass(slots=True)
class Outcome:
    """What came of a siege."""

    attacks: int = 0
    done: int = 0
    failed: list[str] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    """Seconds of CPU time by which each look at the event loop came late."""

    @property
    def operations(self) -> int:
        """Of honest peers, whatever came of them."""
        return self.done + len(self.failed)

    @property
    def share(self) -> float:
        """Of honest operations that succeeded."""
        return self.done / max(self.operations, 1)

    def stall(self, quantile: float) -> float:
        """Seconds at a quantile."""
        ranked = sorted(self.stalls)
        return ranked[min(int(len(ranked) * quantile), len(ranked) - 1)] if ranked else 0.0

    @property
    def good(self) -> bool:
        """Whether honest peers were served and the event loop kept turning."""
        return self.share >= SHARE and self.stall(0.999) <= MAX_STALL

    def __str__(self) -> str:
        return (
            f"{self.attacks} attacks, {self.share:.2%} of {self.operations} honest operations succeeded, "
            f"stalls p50 {self.stall(0.5) * 1000:.1f} ms, p99.9 {self.stall(0.999) * 1000:.1f} ms, "
            f"longest {self.stall(1) * 1000:.1f} ms"
        )


# --- attacks ----------------------------------------------------------------------------------------


async def _silence(world: World, rng: random.Random) -> None:
    raw = await world.connect()
    try:
        raw.send_nowait(lazy_proposal("/noise")[: rng.randrange(29)])
        await anyio.sleep(rng.random())
    finally:
        raw.close()


async def _nonsense(world: World, rng: random.Random) -> None:
    raw = await world.connect()
    try:
        raw.send_nowait(rng.choice((b"", lazy_proposal("/noise"))) + rng.randbytes(2000))
        await anyio.sleep(0.05)
    finally:
        raw.close()


def _inside(frames: Callable[[random.Random], bytes]) -> Callable[[World, random.Random], Awaitable[None]]:
    async def attack(world: World, rng: random.Random) -> None:
        mallory: Mallory = await world.mallory(rng.randrange(60, 90))
        try:
            with anyio.move_on_after(0.3):
                await mallory.send(frames(rng))
                await mallory.until_hung_up()
        finally:
            mallory.close()

    return attack


ATTACKS: dict[str, Callable[[World, random.Random], Awaitable[None]]] = {
    "silence": _silence,
    "nonsense": _nonsense,
    "frames of nonsense": _inside(lambda rng: rng.randbytes(5000)),
    "pings": _inside(lambda _: b"".join(frame(PING, SYN, 0, number) for number in range(1000))),
    "rapid reset": _inside(
        lambda _: b"".join(frame(WINDOW, SYN, i, 0) + frame(WINDOW, RST, i, 0) for i in range(1, 1001, 2))
    ),
    "mute streams": _inside(lambda _: b"".join(frame(WINDOW, SYN, i, 0) for i in range(1, 40, 2))),
    "nonsense on streams": _inside(lambda _: b"".join(data(i, b"\xff" * 20, SYN) for i in range(1, 201, 2))),
    "questions": _inside(lambda _: b"".join(opening(i, "/ipfs/id/1.0.0") for i in range(1, 41, 2))),
    "crumbs": _inside(lambda _: opening(1, ECHO) + data(1, b"x") * 5000),
    "a flood": _inside(lambda _: opening(1, ECHO) + b"".join(data(1, bytes(8000)) for _ in range(30))),
}


async def besiege(seconds: float, seed: int, *, enough: Callable[[Outcome], bool] = lambda _: False) -> Outcome:
    """Run a siege until its time is over, or `enough` has happened; returns what came of it. Inside an event loop."""
    outcome = Outcome()
    rng = random.Random(f"{seed}/siege")
    async with tcp_world() as world, anyio.create_task_group() as tasks:
        world.alice.set_stream_handler(ECHO, echo)

        async def attack() -> None:
            while True:
                kind = rng.choice(list(ATTACKS))
                try:
                    await ATTACKS[kind](world, rng)
                except (OSError, P2PError):
                    pass  # hung up on: as it should be
                outcome.attacks += 1
                await anyio.sleep(0.01)

        async def watch() -> None:
            while True:
                start = time.thread_time()
                await anyio.sleep(_WATCH)
                outcome.stalls.append(max(0.0, time.thread_time() - start - _WATCH))

        tasks.start_soon(watch)
        for _ in range(ATTACKERS):
            tasks.start_soon(attack)
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as honest:
                for number in range(1, HONEST + 1):
                    honest.start_soon(_live, world, number, outcome)
                while not enough(outcome):
                    await anyio.sleep(_WATCH)
                honest.cancel_scope.cancel()
        tasks.cancel_scope.cancel()
    return outcome


async def _live(world: World, number: int, outcome: Outcome) -> None:
    """Connect, exchange, leave, over and over."""
    async with world.honest(number) as bob:
        while True:
            try:
                with anyio.fail_after(10):
                    await bob.connect(world.alice.peer_info)
                    good = await exchange(bob, world.alice) == b"hello"
                    await bob.network.close_peer(world.alice.id)
            except (P2PError, TimeoutError) as fault:
                outcome.failed.append(f"{type(fault).__name__}: {fault}")
                await anyio.sleep(0.1)
                continue
            if good:
                outcome.done += 1
            else:
                outcome.failed.append("other bytes came back")
            await anyio.sleep(0.02)
