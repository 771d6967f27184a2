"""Optimistic provides in a network where some peers are slow and some dead, in virtual time."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.errors import OperationTimeout
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig
from py_p2pstack.protocols.dht.providers import ProvideResult, Providers
from tests.protocols.dht.nodes import in_virtual_time
from tests.protocols.dht.slow_network import slow_network
from tests.protocols.dht.test_providers import multihash

KEYS = [multihash(number) for number in range(8)]


async def timed(providers: Providers, key: bytes) -> tuple[float, ProvideResult]:
    start = anyio.current_time()
    result = await providers.provide(key, announce=True, timeout=120.0, on_event=None)
    return anyio.current_time() - start, result


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@in_virtual_time
async def test_an_optimistic_provide_returns_much_earlier_and_tells_the_rest_in_the_background() -> None:
    async with slow_network(None) as (_, providers):
        classic = [(await timed(providers, key))[0] for key in KEYS]
    seconds, right = [], 0
    async with slow_network(OptimisticConfig()) as (network, providers):
        for key in KEYS:
            network.told.clear()
            network.connected.clear()
            took, result = await timed(providers, key)
            seconds.append(took)
            assert len(result.told) >= 15
            assert providers.background == len(result.pending)
            await anyio.sleep(60)
            assert providers.background == 0
            assert len(network.told) > 15
            right += len(set(network.told) & set(network.truly_nearest(key)))
    assert median(classic) > 10.0  # a dead peer among the nearest is enough
    assert median(seconds) < 1.0
    assert right >= 0.9 * 20 * len(KEYS)


@in_virtual_time
async def test_when_the_background_is_full_a_provide_waits_for_its_own() -> None:
    async with slow_network(OptimisticConfig(max_background=0)) as (network, providers):
        for key in KEYS[:3]:
            network.told.clear()
            _, result = await timed(providers, key)
            assert result.pending == ()
            assert set(result.told) == set(network.told)
            assert providers.background == 0


@in_virtual_time
async def test_without_an_estimate_of_the_networks_size_a_provide_is_a_classic_one() -> None:
    async with slow_network(OptimisticConfig(), estimate=False) as (network, providers):
        _, result = await timed(providers, KEYS[0])
        assert list(result.told) == network.truly_nearest(KEYS[0])
        assert result.pending == ()


@in_virtual_time
async def test_cancelling_an_optimistic_provide_cancels_what_it_has_begun() -> None:
    async with slow_network(OptimisticConfig()) as (network, providers):
        with pytest.raises(OperationTimeout):
            await providers.provide(KEYS[0], announce=True, timeout=0.5, on_event=None)
        told = len(network.told)
        await anyio.sleep(60)
        assert len(network.told) == told < 20
        assert providers.background == 0


@in_virtual_time
async def test_providers_kept_in_the_background_are_bounded_over_all_provides() -> None:
    async with slow_network(OptimisticConfig(max_background=7), dead=0.2) as (_, providers):
        most = 0

        async def provide(key: bytes) -> None:
            nonlocal most
            await timed(providers, key)
            most = max(most, providers.background)

        async with anyio.create_task_group() as tasks:
            for key in KEYS:
                tasks.start_soon(provide, key)
        assert 0 < most <= 7
