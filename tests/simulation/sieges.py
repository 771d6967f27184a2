"""The scenarios in which some of the nodes lie, or surround a key."""

from __future__ import annotations

import math

import anyio

from py_p2pstack.errors import P2PError
from py_p2pstack.identity import PrivateKey
from py_p2pstack.kademlia import common_prefix_length, key_of
from py_p2pstack.testing.light_host import LightHost
from tests.simulation.acts import Figures, Tally, at_random_times, get, gets_for, new_thing, put, put_many, values_for
from tests.simulation.crowd import Crowd, closest
from tests.simulation.liars import Gang, Liar, Lie

SYBILS = 45


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
