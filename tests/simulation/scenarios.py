"""What a network of a thousand nodes is put through, what is measured, and what is expected of it.

Values lie under `/pk/`: a key proves its value, so what a liar makes up is refused. The judge knows every node, has
random honest nodes that have joined ask for values and peers, and counts; a get by a node that goes meanwhile does not.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from statistics import median

import anyio

from py_p2pstack.errors import P2PError
from py_p2pstack.protocols.dht.security_config import SecurityConfig
from py_p2pstack.testing import virtual_time
from tests.simulation.acts import (
    Figures,
    Tally,
    at_random_times,
    get,
    gets_for,
    look_up,
    look_up_all,
    new_thing,
    put,
    put_many,
    values_for,
)
from tests.simulation.crowd import CONFIG, Crowd, closest, newcomer, settle
from tests.simulation.liars import Gang, Liar, Lie
from tests.simulation.sieges import besieged, lied_to


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario; `play` returns its figures."""

    name: str
    play: Callable[[Crowd], Awaitable[Figures]]
    bars: dict[str, float]
    """The least (or, for names with `max`, the most) that figures must be."""
    loss: float = 0.0
    liars: float = 0.0
    """The share of nodes that lie."""
    security: SecurityConfig = field(default_factory=SecurityConfig)
    empty: bool = False
    """Whether it begins without nodes instead of with a settled network."""
    refreshing: bool = False
    """Whether nodes refresh in turn, as if each had come at another time, instead of not within ten minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a scenario."""

    scenario: str
    nodes: int
    seed: int
    figures: Figures
    missed: list[str]
    """Bars that were not reached."""
    digest: str
    virtual_seconds: float


# --- the scenarios --------------------------------------------------------------------------------


async def quiet(crowd: Crowd) -> Figures:
    """Everybody joins through random members, ten a second at most; then lookups are compared with the truth."""
    size = crowd.size
    async with anyio.create_task_group() as tasks:
        for _ in range(size):
            await newcomer(crowd, tasks.start_soon)
            await anyio.sleep(0.2)
    await anyio.sleep(60)
    everybody = crowd.honest()
    lookups, hops, whole = Tally(), list[int](), 0
    for node in everybody:
        table = node.service.routing_table
        whole += all(peer in table for peer in closest(everybody, node.host.id.to_bytes(), seen_by=node))
    for _ in range(max(20, size // 5)):
        await look_up(crowd, crowd.anybody(), everybody, lookups, hops)
    return {
        **lookups.figures("lookups"),
        "hops_median": median(hops),
        "hops_max": max(hops),
        "hops_median_above_max": median(hops) - math.log2(size) / 2 - 2,
        "tables_with_all_neighbours_percent": round(100 * whole / size, 3),
        "table_size_mean": round(sum(len(node.service.routing_table) for node in everybody) / size, 1),
    }


def churning(percent: float) -> Callable[[Crowd], Awaitable[Figures]]:
    """`percent` of the nodes are replaced each minute for five minutes, half of them without goodbye."""

    async def play(crowd: Crowd) -> Figures:
        duration, gets = 300.0, Tally()
        things = await put_many(crowd, values_for(crowd.size))
        end = crowd.now() + duration

        async def replace() -> None:
            while crowd.now() < end:
                await anyio.sleep(crowd.rng.expovariate(crowd.size * percent / 100 / 60))
                victim = crowd.rng.choice(list(crowd.nodes))
                await (crowd.crash(victim) if crowd.rng.random() < 0.5 else crowd.leave(victim))
                await newcomer(crowd, tasks.start_soon)

        async def put_one() -> None:
            node, thing = crowd.anybody(), new_thing(crowd.rng)
            if await put(crowd, node, thing):
                things.append(thing)

        async def get_one() -> None:
            await get(crowd, crowd.anybody(), crowd.rng.choice(things), gets)

        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as measured:
                measured.start_soon(replace)
                measured.start_soon(at_random_times, crowd, values_for(crowd.size), duration, put_one)
                measured.start_soon(at_random_times, crowd, gets_for(crowd.size), duration, get_one)
            tasks.cancel_scope.cancel()  # newcomers that are still looking around have nothing to tell any more
        return {**gets.figures("gets"), "values": len(things)}

    return play


async def lossy(crowd: Crowd) -> Figures:
    """Each request and each answer is lost for good with the probability of the scenario."""
    gets = Tally()
    things = await put_many(crowd, values_for(crowd.size))

    async def get_one() -> None:
        await get(crowd, crowd.anybody(), crowd.rng.choice(things), gets)

    await at_random_times(crowd, gets_for(crowd.size) // 2, 300, get_one)
    return {**gets.figures("gets"), "values": len(things)}


async def parted(crowd: Crowd) -> Figures:
    """The network falls into halves for ten minutes. Both go on: each node refreshes its table, looks up itself and
    another key, and values are put and got. A minute after it healed, the judge looks whether it is one again."""
    everybody = crowd.honest()
    names = [node.name for node in everybody]
    crowd.rng.shuffle(names)
    sides = names[::2], names[1::2]
    parted, whole, gets, during = Tally(), Tally(), Tally(), Tally()
    old = await put_many(crowd, values_for(crowd.size) // 2)
    things = list(old)
    crowd.partition(*sides)
    unasked = list(everybody)

    async def put_one() -> None:
        if await put(crowd, crowd.anybody(), thing := new_thing(crowd.rng)):
            things.append(thing)

    async def get_one() -> None:
        await get(crowd, crowd.anybody(), crowd.rng.choice(old), during)

    async def use_one() -> None:
        node = unasked.pop()
        for key in (node.host.id.to_bytes(), crowd.rng.randbytes(32)):
            try:
                await node.service.look_up(key)
            except P2PError as fault:
                crowd.log(node.name, f"looked up: {type(fault).__name__}")

    start = crowd.now()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(at_random_times, crowd, values_for(crowd.size) // 2, 450, put_one)
        tasks.start_soon(at_random_times, crowd, values_for(crowd.size) // 2, 450, get_one)
        tasks.start_soon(at_random_times, crowd, len(unasked), 450, use_one)
    await anyio.sleep(max(0.0, start + 570 - crowd.now()))
    judges = [crowd.nodes[name] for name in (*sides[0][:50], *sides[1][:50])]
    await look_up_all(crowd, judges[::5], everybody, parted)
    crowd.heal()
    healed = crowd.now()
    await anyio.sleep(60)
    await look_up_all(crowd, judges, everybody, whole)
    judged = crowd.now() - healed
    for thing in things:
        await get(crowd, crowd.anybody(), thing, gets)
    return {
        **whole.figures("lookups"),
        "lookups_while_parted_percent": parted.percent,
        "seconds_after_healing": round(judged, 1),
        **gets.figures("gets"),
        **during.figures("gets_while_parted"),
    }


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="quiet",
            play=quiet,
            bars={"lookups_percent": 100, "hops_median_above_max": 0},
            empty=True,
        ),
        *(
            Scenario(name=f"churn-{percent}", play=churning(percent), bars={"gets_percent": bar})
            for percent, bar in ((1, 99.9), (5, 99.5), (10, 99.0), (20, 95.0))
        ),
        Scenario(name="loss", play=lossy, bars={"gets_percent": 97}, loss=0.1),
        Scenario(name="partition", play=parted, refreshing=True, bars={"lookups_percent": 100, "gets_percent": 100}),
        Scenario(
            name="liars",
            play=lied_to,
            bars={"gets_percent": 99},
            liars=0.2,
            security=SecurityConfig(disjoint_paths=5),
        ),
        Scenario(name="sybils", play=besieged, bars={"gets_percent": 99}),
    )
}


def run(scenario: Scenario, *, nodes: int, seed: int, backend: str = "asyncio") -> Outcome:
    """Play a scenario in virtual time."""
    config = replace(CONFIG, security=scenario.security)
    gang, lies = Gang(), list(Lie)

    def role(rng: Random) -> Liar | None:
        return Liar(gang, rng.choice(lies), rng) if rng.random() < scenario.liars else None

    async def main() -> Outcome:
        async with Crowd(size=nodes, seed=seed, config=config, roles=role, loss=scenario.loss) as crowd:
            if not scenario.empty:
                for count in spread(nodes, 50) if scenario.refreshing else [nodes]:
                    await crowd.join(count)
                    await anyio.sleep(config.refresh_interval / 50 if scenario.refreshing else 0)
                settle(crowd.nodes.values())
            figures = await scenario.play(crowd)
            return Outcome(
                scenario=scenario.name,
                nodes=nodes,
                seed=seed,
                figures=figures,
                missed=[name for name, bar in scenario.bars.items() if not reached(name, figures[name], bar)],
                digest=crowd.digest(),
                virtual_seconds=round(crowd.now(), 3),
            )

    return virtual_time.run(main, backend=backend, seed=seed)


def spread(total: int, parts: int) -> list[int]:
    """Numbers as equal as can be that make `total`."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def reached(name: str, figure: float, bar: float) -> bool:
    """Whether a figure is good enough; those whose names end in `_max` are to be small."""
    return figure <= bar if name.endswith("_max") else figure >= bar
