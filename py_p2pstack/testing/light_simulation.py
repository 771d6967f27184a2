"""Simulations of a thousand nodes and more: light hosts at public addresses, each in an IP group of its own."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.testing.light_host import LightHost
from py_p2pstack.testing.light_network import LightNetwork
from py_p2pstack.testing.simulation import Factory, N, NodeSpec, Simulation

_FIRST_OCTETS = [octet for octet in range(11, 224) if octet not in (100, 127, 169, 172, 192, 198, 203)]  # all public


class LightSimulation(Simulation[N]):
    """A simulation on a `LightNetwork`; the factory makes its nodes on `light_host(spec)`."""

    def __init__(self, factory: Factory[N], *, nodes: int, seed: int, max_log: int = 1_000_000, **network: Any) -> None:
        """`network`: what `LightNetwork` takes."""
        super().__init__(factory, nodes=nodes, seed=seed, max_log=max_log)
        self.light_network = LightNetwork(random.Random(f"{seed}/network"), **network)  # noqa: S311

    def light_host(self, spec: NodeSpec) -> LightHost:
        """A host for the node that `spec` describes."""
        return LightHost(self.light_network, spec.name, spec.identity.public_key, spec.address, spec.rng)

    async def _enter_network(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.light_network)

    def _cut(self, name: str) -> None:
        self.light_network.cut(name)

    def _part(self, groups: list[list[str]]) -> None:
        self.light_network.partition(groups)

    def _specify(self, index: int) -> NodeSpec:
        return replace(super()._specify(index), address=public_address(index))


def public_address(index: int) -> Multiaddr:
    """The address of node `index`; the first 51,000 all lie in IP groups of their own."""
    group, place = index % (len(_FIRST_OCTETS) * 256), index // (len(_FIRST_OCTETS) * 256)
    first, second = _FIRST_OCTETS[group % len(_FIRST_OCTETS)], group // len(_FIRST_OCTETS)
    return Multiaddr.parse(f"/ip4/{first}.{second}.{place // 250}.{1 + place % 250}/tcp/4001")
