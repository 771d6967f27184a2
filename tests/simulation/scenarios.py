"""What a network of a thousand nodes is put through, what is measured, and what is expected of it.

Values lie under `/pk/`: a key proves its value, so what a liar makes up is refused. The judge knows every node, has
random honest nodes that have joined ask for values and peers, and counts; a get by a node that goes meanwhile does not.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from statistics import median

import anyio

from py_p2pstack.errors import P2PError
from py_p2pstack.identity import PrivateKey
from py_p2pstack.kademlia import common_prefix_length, key_of
from py_p2pstack.protocols.dht.security_config import SecurityConfig
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.light_host import LightHost
from tests.simulation.crowd import CONFIG, Crowd, Node, closest, newcomer, settle
from tests.simulation.liars import Gang, Liar, Lie

Figures = dict[str, float]
SYBILS = 45


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


# --- what is done over and over -------------------------------------------------------------------


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
            tasks.start_soon(replace)
            tasks.start_soon(at_random_times, crowd, values_for(crowd.size), duration, put_one)
            tasks.start_soon(at_random_times, crowd, gets_for(crowd.size), duration, get_one)
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


async def lied_to(crowd: Crowd) -> Figures:
    """A fifth of all nodes lies; values are put and got by the others, and lookups compared with the truth."""
    gets, lookups = Tally(), Tally()
    things = await put_many(crowd, values_for(crowd.size))

    async def get_one() -> None:
        await get(crowd, crowd.anybody(), crowd.rng.choice(things), gets)

    await at_random_times(crowd, gets_for(crowd.size) // 2, 100, get_one)
    everybody = crowd.honest()
    for _ in range(max(10, crowd.size // 20)):
        node = crowd.anybody()
        key = crowd.rng.randbytes(32)
        found = set((await node.service.look_up(key)).peers)
        lookups.count(set(closest(everybody, key, seen_by=node, count=10)) <= found, 0.0)
    return {**gets.figures("gets"), "honest_ten_nearest_found_percent": lookups.percent, "values": len(things)}


async def besieged(crowd: Crowd) -> Figures:
    """45 Sybils, each in an IP group of its own, lie nearer to a key than nearly all others, keep nothing that is put,
    and tell of nobody but themselves. Three nodes put the value, ten get it."""
    gets, puts, surrounded = Tally(), Tally(), Tally()
    for _ in range(max(1, crowd.size // 200)):
        thing = new_thing(crowd.rng)
        users = [crowd.anybody() for _ in range(11)]
        async with anyio.create_task_group() as tasks:
            for node in users:  # as every node did when it came: it is how they know how many there are
                tasks.start_soon(node.service.bootstrap)
        await surround(crowd, key_of(thing.key))
        reached = set(closest(list(crowd.nodes.values()), thing.key, seen_by=users[0]))
        surrounded.count(not reached & {node.host.id for node in crowd.honest()}, 0.0)
        puts.count(await put(crowd, users[0], thing), 0.0)
        for node in users[1:] * 2:
            await get(crowd, node, thing, gets)
    return {
        **gets.figures("gets"),
        "puts_percent": puts.percent,
        "keys": puts.tries,
        "keys_with_sybils_alone_among_the_nearest": surrounded.good,
    }


async def surround(crowd: Crowd, target: int) -> None:
    """Let Sybils join around a key, and make themselves known to those near it and to a hundred others."""
    gang, prefix = Gang(), max(1, int(math.log2(crowd.size)) + 1)
    for _ in range(SYBILS):
        while True:
            identity = PrivateKey.from_seed(crowd.rng.randbytes(32))
            if common_prefix_length(key_of(identity.public_key.peer_id().to_bytes()), target) >= prefix:
                break
        crowd.commissioned.append((identity, Liar(gang, Lie.COLLUDERS, crowd.rng)))
    near = sorted(crowd.honest(), key=lambda node: node.key ^ target)
    victims = near[:60] + crowd.rng.sample(near, min(100, len(near)))
    await crowd.join(SYBILS)

    async def introduce(sybil: LightHost) -> None:
        for victim in victims:
            try:
                await sybil.connect(victim.host.peer_info)
            except P2PError:
                continue

    async with anyio.create_task_group() as tasks:
        for sybil in gang.members:
            tasks.start_soon(introduce, sybil)
    await anyio.sleep(5)


def gets_for(size: int) -> int:
    """How many gets tell enough: a thousand of a thousand nodes."""
    return max(20, size)


def values_for(size: int) -> int:
    """How many values are put: a hundred among a thousand nodes."""
    return max(10, size // 10)


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
