"""Whole hosts for tests and simulations."""

from __future__ import annotations

from py_p2pstack.network.resolver import StaticResolver
from py_p2pstack.node import Host, HostConfig
from py_p2pstack.testing.simulation import NodeSpec


def simulated_host(spec: NodeSpec, *, config: HostConfig | None = None) -> Host:
    """A full host on a simulation's network: the same code as on TCP, with time and chance injected."""
    return Host(
        listen=[spec.address],
        identity=spec.identity,
        transports=[spec.transport],
        resolver=StaticResolver(),
        clock=spec.clock,
        wall_clock=spec.wall_clock,
        config=config,
    )
