"""The scenario: hosts with a DHT join through a few others, refresh, and find each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from py_p2pstack import Dht, Host, HostConfig, PeerInfo
from py_p2pstack.network.resources import ResourceLimits
from py_p2pstack.testing.factories import simulated_host
from py_p2pstack.testing.simulation import NodeSpec, Record, Simulation, simulate

CONFIG = HostConfig(resources=ResourceLimits.unlimited())


@dataclass(frozen=True)
class Node:
    """A host and its DHT."""

    host: Host
    dht: Dht


@asynccontextmanager
async def node(spec: NodeSpec) -> AsyncIterator[Node]:
    """Build a node of a simulation."""
    async with simulated_host(spec, config=CONFIG) as host, Dht(host, rng=spec.rng) as dht:
        yield Node(host, dht)


async def join_and_find(simulation: Simulation[Node], *, searches: int) -> None:
    """Everybody bootstraps from one or two of the first three, then random pairs look for each other."""
    names = list(simulation.nodes)
    hubs = [PeerInfo(n.host.id, tuple(n.host.addrs)) for n in list(simulation.nodes.values())[:3]]

    async def enter(name: str, start: float) -> None:
        await anyio.sleep(start)
        member = simulation.nodes[name]
        for hub in hubs[: 1 + simulation.rng.randrange(2)]:
            if hub.peer_id != member.host.id:
                await member.host.connect(hub)
        size = await member.dht.bootstrap()
        simulation.log(name, f"bootstrapped: {size}")

    async with anyio.create_task_group() as tasks:
        for index, name in enumerate(names):
            tasks.start_soon(enter, name, index * 0.1)
    for _ in range(searches):
        seeker, sought = simulation.rng.sample(names, 2)
        target = simulation.nodes[sought].host
        found = await simulation.nodes[seeker].dht.find_peer(target.id)
        assert found.peer_id == target.id
        assert set(found.addresses) >= set(target.addrs)
        simulation.log(seeker, f"found {sought}")


def run(nodes: int, seed: int, backend: str, searches: int) -> Record:
    """One whole run."""

    async def scenario(simulation: Simulation[Node]) -> None:
        await join_and_find(simulation, searches=searches)

    return simulate(scenario, node, nodes=nodes, seed=seed, backend=backend, latency=0.02, jitter=0.01)
