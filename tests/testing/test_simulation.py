"""Simulations: nodes join, leave, crash and are parted, and the log comes out the same."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.testing.contracts import receive, send_all
from py_p2pstack.testing.pairs import raw_pair
from py_p2pstack.testing.simulation import EPOCH, LogEntry, NodeSpec, Record, Simulation, simulate
from py_p2pstack.transports.memory import MemoryNetwork

BACKENDS = ("asyncio", "trio")


class Gossip:
    """A node that greets the first node at random times and answers greetings."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.greeted = 0

    async def serve(self) -> None:
        listener = await self.spec.transport.listen(self.spec.address)
        try:
            while True:
                connection = await listener.accept()
                try:
                    with anyio.fail_after(5):
                        await send_all(connection, b"hello " + await receive(connection))
                except (OSError, TimeoutError):
                    pass
                connection.close()
        finally:
            listener.close()

    async def greet(self) -> None:
        while True:
            await anyio.sleep(self.spec.rng.uniform(1, 10))
            try:
                with anyio.fail_after(5):
                    connection = await self.spec.transport.dial(Multiaddr.parse("/memory/1"))
                    try:
                        await send_all(connection, self.spec.name.encode())
                        if await receive(connection) == b"hello " + self.spec.name.encode():
                            self.greeted += 1
                    finally:
                        connection.close()
            except (OSError, TimeoutError):
                continue


@asynccontextmanager
async def gossip(spec: NodeSpec) -> AsyncGenerator[Gossip]:
    node = Gossip(spec)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.serve)
        tasks.start_soon(node.greet)
        yield node
        tasks.cancel_scope.cancel()


async def eventful(simulation: Simulation[Gossip]) -> None:
    """A bit of everything."""
    for round_ in range(5):
        await anyio.sleep(20)
        for name, node in simulation.nodes.items():
            simulation.log(name, f"round {round_}: greeted {node.greeted}")
        if round_ == 1:
            simulation.partition(["n0000", "n0001"], list(simulation.nodes)[2:])
        if round_ == 2:
            simulation.heal()
            await simulation.churn(interval=1, duration=20, keep=["n0000"])


def history(seed: int, backend: str, nodes: int = 12) -> Record:
    return simulate(eventful, gossip, nodes=nodes, seed=seed, backend=backend, jitter=0.02, loss=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_log(backend: str) -> None:
    record = history(1, backend)
    assert record == history(1, backend)
    assert record.digest != history(2, backend).digest
    assert record.duration == pytest.approx(120, abs=5)
    whats = " ".join(entry.what for entry in record.entries)
    for event in ("joined", "left", "crashed", "partitioned into 2", "healed"):
        assert event in whats


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_partition_silences_and_healing_ends_it(backend: str) -> None:
    async def scenario(simulation: Simulation[Gossip]) -> None:
        def greetings(*, of_hub: bool) -> int:
            return sum(node.greeted for name, node in simulation.nodes.items() if (name == "n0000") is of_hub)

        await anyio.sleep(60)
        assert greetings(of_hub=False) > 20
        simulation.partition(["n0000"], ["n0001", "n0002", "n0003", "n0004"])
        before = [greetings(of_hub=of_hub) for of_hub in (True, False)]
        await anyio.sleep(60)
        assert greetings(of_hub=True) > before[0]  # it still greets itself
        assert greetings(of_hub=False) == before[1]
        simulation.heal()
        await anyio.sleep(60)
        assert greetings(of_hub=False) > before[1] + 20

    simulate(scenario, gossip, nodes=5, seed=1, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nodes_join_leave_and_crash_one_by_one(backend: str) -> None:
    async def scenario(simulation: Simulation[Gossip]) -> None:
        assert sorted(simulation.nodes) == ["n0000", "n0001"]
        assert await simulation.join(2) == ["n0002", "n0003"]
        await simulation.leave("n0001")
        await simulation.crash("n0002")
        assert sorted(simulation.nodes) == ["n0000", "n0003"]
        simulation.partition()
        simulation.heal()
        assert not simulation.network.reachable("n0000", "n0002")  # the dead stay dead
        assert repr(simulation) == f"<Simulation seed 1: 2 nodes, {len(simulation.entries)} log entries>"

    record = simulate(scenario, gossip, nodes=2, seed=1, backend=backend)
    assert record.entries[-4:] == (
        LogEntry(0.0, "n0001", "left"),
        LogEntry(0.0, "n0002", "crashed"),
        LogEntry(0.0, "network", "partitioned into 0"),
        LogEntry(0.0, "network", "healed"),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_node_that_fails_ends_the_simulation(backend: str) -> None:
    @asynccontextmanager
    async def broken(spec: NodeSpec) -> AsyncGenerator[None]:
        yield
        raise RuntimeError(f"{spec.name} failed")

    async def scenario(simulation: Simulation[None]) -> None:
        await simulation.leave("n0001")
        await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        simulate(scenario, broken, nodes=2, seed=1, backend=backend)
    fault: BaseException = caught.value
    while isinstance(fault, ExceptionGroup):
        fault = fault.exceptions[0]
    assert str(fault) == "n0001 failed"


def test_a_node_that_cannot_even_join_ends_the_simulation() -> None:
    @asynccontextmanager
    async def broken(spec: NodeSpec) -> AsyncGenerator[None]:
        if spec.index:
            raise RuntimeError("no")
        yield

    async def scenario(simulation: Simulation[None]) -> None:
        raise AssertionError("not reached")

    with pytest.raises(ExceptionGroup):
        simulate(scenario, broken, nodes=2, seed=1)


def test_specs_follow_from_seed_and_index_alone() -> None:
    specs: list[NodeSpec] = []

    @asynccontextmanager
    async def collect(spec: NodeSpec) -> AsyncGenerator[None]:
        assert spec.clock() == 0
        assert spec.wall_clock() == EPOCH
        specs.append(spec)
        yield

    async def scenario(simulation: Simulation[None]) -> None:
        await simulation.join()

    for nodes in (1, 2):
        simulate(scenario, collect, nodes=nodes, seed=9)
    assert [spec.name for spec in specs] == ["n0000", "n0001", "n0000", "n0001", "n0002"]
    assert specs[0].identity.encode() == specs[2].identity.encode() != specs[1].identity.encode()
    assert specs[1].rng.random() == specs[3].rng.random() != specs[0].rng.random()
    assert str(specs[4].address) == "/memory/3"


def test_the_log_is_bounded() -> None:
    async def scenario() -> None:
        async with Simulation(gossip, nodes=1, seed=1, max_log=3) as simulation:
            simulation.log("n0000", "two")
            simulation.log("n0000", "three")
            with pytest.raises(ResourceLimitExceeded):
                simulation.log("n0000", "four")

    from py_p2pstack.testing.virtual_time import run

    run(scenario)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pair_talks_at_once_or_over_a_network(backend: str) -> None:
    from py_p2pstack.testing.virtual_time import run

    async def talk(make: Callable[[], MemoryNetwork | None]) -> float:
        network = make()
        if network is None:
            alice, bob = raw_pair(max_read=2)
            await send_all(alice, b"hello")
            assert await receive(bob) == b"he"
            return anyio.current_time()
        async with network:
            alice, bob = raw_pair(network)
            await send_all(bob, b"hello")
            assert await receive(alice) == b"hello"
            return anyio.current_time()

    assert run(talk, lambda: None, backend=backend) == 0
    delayed = run(talk, lambda: MemoryNetwork(random.Random(1), latency=0.1), backend=backend)
    assert delayed == pytest.approx(0.1)
