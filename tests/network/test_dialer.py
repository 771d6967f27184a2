"""Dials that nobody waits for any more: how long they were silent decides whether the address rests."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.errors import DialBackoff, DialError
from py_p2pstack.testing.simulation import Simulation, simulate
from tests.simulation.network import Node, node


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("patience", "rests"), [(1.0, False), (4.5, True)])
def test_an_address_that_was_silent_for_long_rests_even_if_the_dial_was_given_up(
    backend: str, patience: float, rests: bool
) -> None:
    async def scenario(simulation: Simulation[Node]) -> None:
        alice, bob = (each.host for each in simulation.nodes.values())
        silent = bob.peer_info
        simulation.partition(["n0000"], ["n0001"])
        with anyio.move_on_after(patience) as scope:
            await alice.connect(silent)
        assert scope.cancelled_caught
        await anyio.sleep(0.1)  # the dial has a task of its own, which ends a little later
        start = anyio.current_time()
        with pytest.raises(DialError) as caught:
            await alice.connect(silent)  # gives up after 5 s
        assert isinstance(caught.value.attempts[0][1], DialBackoff) is rests
        assert (anyio.current_time() == start) is rests

    simulate(scenario, node, nodes=2, seed=1, backend=backend)
