"""The memory network: who reaches whom, and how long it takes, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ListenError
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.contracts import fill, receive, receive_all, receive_exactly, send_all
from py_p2pstack.testing.pairs import raw_pair
from py_p2pstack.transports.memory import MemoryNetwork, MemoryTransport
from py_p2pstack.transports.memory_pipe import MemoryConnection

T = TypeVar("T")

BOB = Multiaddr.parse("/memory/7")
BACKENDS = ("asyncio", "trio")


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs an async function in virtual time."""
    return lambda function: virtual_time.run(function, backend=request.param)


Run = Callable[[Callable[[], Awaitable[Any]]], Any]


async def meet(network: MemoryNetwork) -> tuple[MemoryConnection, MemoryConnection]:
    """Alice dials bob."""
    listener = await MemoryTransport(network, "bob").listen(BOB)
    alice = await MemoryTransport(network, "alice").dial(BOB)
    bob = await listener.accept()
    listener.close()
    return alice, bob


# --- time -------------------------------------------------------------------------------------------


def test_a_dial_takes_a_round_trip_and_bytes_half_of_it(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            alice, bob = await meet(network)
            assert anyio.current_time() == pytest.approx(0.1)
            await send_all(alice, b"hello")
            assert await receive(bob) == b"hello"
            assert anyio.current_time() == pytest.approx(0.15)

    run(main)


def test_latency_may_depend_on_who_talks_to_whom(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=lambda one, other: 0.2 if {one, other} == {"alice", "bob"} else 9) as network:
            await meet(network)
            assert anyio.current_time() == pytest.approx(0.4)

    run(main)


def test_nobody_refuses_after_a_round_trip(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            with pytest.raises(ConnectionRefusedError):
                await MemoryTransport(network, "alice").dial(BOB)
            assert anyio.current_time() == pytest.approx(0.1)

    run(main)


def test_bandwidth_spreads_bytes_over_time(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05, bandwidth=100_000) as network:
            alice, bob = await meet(network)
            start = anyio.current_time()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_all, alice, bytes(200_000))
                await receive_exactly(bob, 200_000)
            assert anyio.current_time() - start == pytest.approx(2.05, abs=0.06)

    run(main)


def test_jitter_and_loss_delay_but_never_reorder(run: Run) -> None:
    async def main() -> float:
        rng = random.Random(3)
        async with MemoryNetwork(rng, latency=0.01, jitter=0.1, loss=0.3) as network:
            alice, bob = await meet(network)
            start = anyio.current_time()
            message = bytes(range(250))
            for byte in message:
                await send_all(alice, bytes([byte]))
                await anyio.sleep(0.003)
            assert await receive_exactly(bob, 250) == message
            return anyio.current_time() - start

    assert 1 < run(main) < 60


def test_the_same_seed_gives_the_same_arrivals(run: Run) -> None:
    def arrivals(seed: int) -> list[tuple[float, bytes]]:
        async def main() -> list[tuple[float, bytes]]:
            seen = []
            async with MemoryNetwork(random.Random(seed), latency=0.01, jitter=0.1, loss=0.1) as network:
                alice, bob = await meet(network)
                for index in range(50):
                    await send_all(alice, b"%d " % index)
                alice.close()
                while piece := await receive(bob):
                    seen.append((anyio.current_time(), piece))
            return seen

        result: list[tuple[float, bytes]] = run(main)
        return result

    assert arrivals(1) == arrivals(1) != arrivals(2)


def test_what_is_sent_at_once_arrives_at_once(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            alice, bob = await meet(network)
            for _ in range(1000):
                alice.send_nowait(b"x")
            assert sum(map(len, network._calendar.values())) == 1
            assert repr(network) == "<MemoryNetwork 0 listeners, 1 in flight>"
            assert await receive(bob) == b"x" * 1000

    run(main)


def test_a_network_with_delays_must_be_entered() -> None:
    async def main() -> None:
        network = MemoryNetwork(latency=1)
        transport = MemoryTransport(network, "alice")
        with pytest.raises(RuntimeError, match="async with"):
            await transport.dial(BOB)
        with pytest.raises(RuntimeError, match="async with"):
            await transport.listen(BOB)

    anyio.run(main)


@pytest.mark.parametrize(
    "options", [{"jitter": 1}, {"loss": 0.5}, {"loss": 1.0}, {"resolution": 0}, {"capacity": 0}, {"backlog": 0}]
)
def test_senseless_figures_are_refused(options: dict[str, float]) -> None:
    rng = None if "jitter" in options or options.get("loss") == 0.5 else random.Random(1)
    with pytest.raises(ValueError):
        MemoryNetwork(rng, **options)  # type: ignore[arg-type]


# --- bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency", [0.0, 0.05])
def test_a_pipe_holds_no_more_than_its_capacity(run: Run, latency: float) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=latency, capacity=1000) as network:
            alice, bob = await meet(network)
            assert fill(alice) == 1000
            assert alice.send_nowait(b"x") == 0
            await anyio.sleep(1)
            assert await receive(bob, 400) == bytes(400)
            assert alice.send_nowait(bytes(500)) == 400

    run(main)


def test_a_backlog_that_is_full_refuses(run: Run) -> None:
    async def main() -> None:
        network = MemoryNetwork(backlog=3)
        listener = await MemoryTransport(network, "bob").listen(BOB)
        alice = MemoryTransport(network, "alice")
        waiting = [await alice.dial(BOB) for _ in range(3)]
        with pytest.raises(ConnectionRefusedError):
            await alice.dial(BOB)
        await listener.accept()
        await alice.dial(BOB)
        # Who was not accepted is told when the listener goes.
        listener.close()
        assert await receive_all(waiting[1]) == b""
        with pytest.raises(ConnectionRefusedError):
            await alice.dial(BOB)

    run(main)


def test_numbers_are_given_out_once() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        transport = MemoryTransport(network, "bob")
        second = await transport.listen(Multiaddr.parse("/memory/2"))
        picked = [str((await transport.listen(Multiaddr.parse("/memory/0"))).address) for _ in range(3)]
        assert picked == ["/memory/1", "/memory/3", "/memory/4"]
        with pytest.raises(ListenError):
            await transport.listen(second.address)
        assert repr(second) == "<MemoryListener /memory/2>"

    anyio.run(main)


def test_two_tasks_may_not_wait_for_the_same(run: Run) -> None:
    async def main() -> None:
        alice, _ = raw_pair(capacity=1)
        fill(alice)
        async with anyio.create_task_group() as tasks:
            for wait in (alice.wait_readable, alice.wait_writable):
                tasks.start_soon(wait)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                with pytest.raises(anyio.BusyResourceError):
                    await wait()
            tasks.cancel_scope.cancel()
        assert repr(alice).startswith("<MemoryConnection /memory/")

    run(main)


def test_a_cancelled_dial_closes_what_was_made(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            listener = await MemoryTransport(network, "bob").listen(BOB)
            with anyio.move_on_after(0.07):  # after the call has arrived, before the answer has
                await MemoryTransport(network, "alice").dial(BOB)
            bob = await listener.accept()
            assert await receive_all(bob) == b""

    run(main)


# --- reach ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency", [0.0, 0.05])
def test_a_partition_holds_bytes_back_until_it_heals(run: Run, latency: float) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=latency) as network:
            alice, bob = await meet(network)
            network.partition([["alice"], ["bob"]])
            await send_all(alice, b"one ")
            await anyio.sleep(10)
            await send_all(alice, b"two ")
            with anyio.move_on_after(10) as scope:
                await receive(bob)
            assert scope.cancelled_caught
            # Another cut across the same pair changes nothing.
            network.partition([["bob"], ["alice", "carol"]])
            await anyio.sleep(1)
            assert bob.receive_nowait(memoryview(bytearray(9))) is None
            network.heal()
            await send_all(alice, b"three")
            alice.close()
            assert await receive_all(bob) == b"one two three"
            assert network._stalled == {}

    run(main)


def test_a_partition_that_comes_back_before_bytes_arrive_holds_them_again(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            alice, bob = await meet(network)
            network.cut("bob")
            await send_all(alice, b"one ")
            await anyio.sleep(1)
            network.mend("bob")
            await anyio.sleep(0.01)
            network.cut("bob")
            await anyio.sleep(1)
            assert bob.receive_nowait(memoryview(bytearray(9))) is None
            network.mend("bob")
            await send_all(alice, b"two")
            assert await receive_exactly(bob, 7) == b"one two"
            await anyio.sleep(1)
            assert bob.receive_nowait(memoryview(bytearray(9))) is None

    run(main)


def test_a_dial_across_a_partition_hangs_until_it_heals(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            listener = await MemoryTransport(network, "bob").listen(BOB)
            network.cut("bob")
            transport = MemoryTransport(network, "alice")
            with anyio.move_on_after(60) as scope:
                await transport.dial(BOB)
            assert scope.cancelled_caught
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(transport.dial, BOB)
                await anyio.sleep(1)
                network.heal()
                await listener.accept()

    run(main)


def test_a_node_that_was_cut_off_says_no_goodbye(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            alice, bob = await meet(network)
            network.cut("alice")
            alice.close()
            with anyio.move_on_after(3600) as scope:
                await receive(bob)
            assert scope.cancelled_caught
            network.mend("alice")
            assert await receive(bob) == b""

    run(main)


def test_without_delays_bytes_to_a_closed_end_behind_a_partition_vanish(run: Run) -> None:
    async def main() -> None:
        network = MemoryNetwork(capacity=10)
        alice, bob = await meet(network)
        network.partition([["alice"], ["bob"]])
        bob.close()  # alice cannot know
        assert fill(alice) == 10
        network.heal()
        with pytest.raises(BrokenPipeError):
            alice.send_nowait(b"x")

    run(main)


def test_in_flight_bytes_to_an_end_that_closed_vanish(run: Run) -> None:
    async def main() -> None:
        async with MemoryNetwork(latency=0.05) as network:
            alice, bob = await meet(network)
            await send_all(alice, b"never seen")
            bob.close()
            await anyio.sleep(1)
            assert await receive(alice) == b""
            with pytest.raises(BrokenPipeError):
                alice.send_nowait(b"x")
            await alice.wait_writable()  # does not hang
            assert alice._out.held == 0

    run(main)
