"""Full hosts in virtual time: they connect, ping, and do it again the same way."""

from __future__ import annotations

import os
import subprocess
import sys

import anyio
import pytest

from py_p2pstack.node import Host
from py_p2pstack.testing.factories import simulated_host
from py_p2pstack.testing.simulation import Record, Simulation, simulate


async def mingle(simulation: Simulation[Host]) -> None:
    """All connect to the first and ping it, then to each other at random; one crashes, one leaves."""
    hosts = simulation.nodes
    names = sorted(hosts)
    first = hosts[names[0]].peer_info

    async def arrive(name: str) -> None:
        await hosts[name].connect(first)
        simulation.log(name, f"ping {await hosts[name].ping(first.peer_id):.6f}")

    async with anyio.create_task_group() as tasks:
        for name in names[1:]:
            tasks.start_soon(arrive, name)
    for _ in range(len(names)):
        one, other = simulation.rng.sample(names, 2)
        await hosts[one].connect(hosts[other].peer_info)
        simulation.log(one, f"connected to {other}")
    await simulation.crash(names[-1])
    await simulation.leave(names[-2])
    await anyio.sleep(300)
    for name, host in hosts.items():
        simulation.log(name, f"{len(host.network.conns())} connections")


def history(backend: str, seed: int = 4) -> Record:
    return simulate(mingle, simulated_host, nodes=8, seed=seed, backend=backend, jitter=0.01, loss=0.01)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_full_hosts_repeat_their_run(backend: str) -> None:
    record = history(backend)
    assert record.entries == history(backend).entries
    assert record.digest != history(backend, seed=5).digest
    pings = [float(entry.what.split()[1]) for entry in record.entries if entry.what.startswith("ping")]
    assert len(pings) == 7
    assert all(0.1 <= ping < 2 for ping in pings)
    # The hub lost the one that left at once, and the one that crashed to its muxer's keepalive.
    hub = [entry.what for entry in record.entries if entry.node == "n0000"][-1]
    assert hub == "5 connections"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_full_hosts_repeat_their_run_in_a_process_with_other_hashes(backend: str) -> None:
    code = "import sys; from tests.testing.test_factories import history; print(history(sys.argv[1]).digest)"
    there = subprocess.run(
        [sys.executable, "-c", code, backend],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert there.stdout.strip() == history(backend).digest
