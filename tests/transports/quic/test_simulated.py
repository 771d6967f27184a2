"""QUIC over a simulated network, in virtual time: round trips are counted, losses made up for, silence ended."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.core.muxer import MuxedStream
from py_p2pstack.errors import ConnectionClosed, OperationTimeout
from py_p2pstack.testing.contracts.muxer_case import echo, read_all
from py_p2pstack.testing.datagrams import SimulatedSocket
from py_p2pstack.transports.quic import QuicConfig
from py_p2pstack.transports.quic.connection import QuicConnection
from tests.transports.quic.pairs import into, served_by
from tests.transports.quic.worlds import BACKENDS, LATENCY, run, world


@BACKENDS
def test_the_first_answer_comes_after_two_round_trips(backend: str) -> None:
    async def test() -> None:
        async with world(latency=LATENCY) as here, anyio.create_task_group() as tasks:
            start = anyio.current_time()
            connection = await here.alice.dial(here.listener.address, None)
            assert anyio.current_time() - start == pytest.approx(2 * LATENCY, abs=0.005)
            tasks.start_soon(connection.serve, lambda stream: False)
            stream = await connection.open_stream()
            await stream.send(b"ping")
            await here.gate.came.wait()
            bob = here.gate.connections[0]
            tasks.start_soon(bob.serve, served_by(tasks, echo))
            assert await stream.receive() == b"ping"
            assert anyio.current_time() - start == pytest.approx(4 * LATENCY, abs=0.005)
            tasks.cancel_scope.cancel()

    run(test, backend)


@BACKENDS
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_on_a_bad_network(seed: int, backend: str) -> None:
    payload = bytes(range(256)) * 1200

    async def test() -> None:
        async with (
            world(latency=LATENCY, jitter=0.01, loss=0.05, seed=seed) as here,
            anyio.create_task_group() as tasks,
        ):
            connection, bob = await here.dial()
            tasks.start_soon(connection.serve, lambda stream: False)
            tasks.start_soon(bob.serve, served_by(tasks, echo))
            for _ in range(3):
                stream = await connection.open_stream()
                async with anyio.create_task_group() as both:

                    async def send(stream: MuxedStream = stream) -> None:
                        await stream.send(payload)
                        await stream.send_eof()

                    both.start_soon(send)
                    assert await read_all(stream) == payload
            assert here.network.lost > 10
            tasks.cancel_scope.cancel()

    run(test, backend)


@BACKENDS
@pytest.mark.parametrize("seed", [3, 9, 19, 23])  # in which what was lost had to wait for its time to go out again
def test_what_was_sent_before_a_close_arrives_though_much_is_lost(seed: int, backend: str) -> None:
    async def test() -> None:
        async with (
            world(QuicConfig(flush_timeout=10.0), latency=0.0001, seed=seed) as here,
            anyio.create_task_group() as tasks,
        ):
            connection, bob = await here.dial()
            arrived: list[MuxedStream] = []
            tasks.start_soon(bob.serve, into(arrived))

            async def send() -> None:
                stream = await connection.open_stream()
                await stream.send(bytes(5))
                while not arrived:
                    await anyio.sleep(0.001)
                here.network.loss = 0.1
                await stream.send(bytes(100_000))
                await stream.send_eof()
                connection.close()

            tasks.start_soon(send)
            start = anyio.current_time()
            await connection.serve(lambda stream: False)
            assert anyio.current_time() - start < 1.0  # and no longer than that takes
            assert len(await read_all(arrived[0])) == 100_005
            assert here.network.lost > 5
            tasks.cancel_scope.cancel()

    run(test, backend)


@BACKENDS
@pytest.mark.parametrize("served", [True, False], ids=["served then", "served by nobody"])
def test_what_was_sent_before_a_close_arrives_though_nobody_served_the_connection_yet(
    served: bool, backend: str
) -> None:
    """Whoever looks after the socket sees to that, and releases the connection."""

    async def test() -> None:
        async with world(latency=LATENCY) as here, anyio.create_task_group() as tasks:
            other, _ = await here.dial()
            connection = await here.alice.dial(here.listener.address, None)
            if not served:  # on the same socket is one that is
                tasks.start_soon(other.serve, lambda stream: False)
            stream = await connection.open_stream()
            await stream.send(bytes(100_000))
            await stream.send_eof()
            connection.close()
            start = anyio.current_time()
            if served:
                tasks.start_soon(connection.serve, lambda stream: False)
            while len(here.gate.connections) < 2:
                await anyio.sleep(0.001)
            arrived: list[MuxedStream] = []
            await here.gate.connections[1].serve(into(arrived))
            assert anyio.current_time() - start < 0.5  # at most a second is waited
            assert await read_all(arrived[0]) == bytes(100_000)
            tasks.cancel_scope.cancel()

    run(test, backend)


@BACKENDS
def test_a_close_of_what_nobody_serves_is_over_in_time(backend: str) -> None:
    async def test() -> None:
        async with world(latency=LATENCY) as here, anyio.create_task_group() as tasks:
            other, _ = await here.dial()
            assert isinstance(other, QuicConnection)
            tasks.start_soon(other.serve, lambda stream: False)
            connection = await here.alice.dial(here.listener.address, None)
            stream = await connection.open_stream()
            await stream.send(b"hello")
            here.network.loss = 1.0
            connection.close()
            assert len(other._endpoint._connections) == 2
            await anyio.sleep(1.1)
            assert list(other._endpoint._connections) == [other]
            with anyio.fail_after(0):
                await connection.serve(lambda stream: False)
            tasks.cancel_scope.cancel()

    run(test, backend)


@BACKENDS
def test_a_peer_gone_silent_is_given_up_after_the_idle_timeout(backend: str) -> None:
    async def test() -> None:
        async with world(QuicConfig(idle_timeout=20.0), latency=LATENCY) as here:
            connection, _ = await here.dial()
            here.network.loss = 1.0
            start = anyio.current_time()
            with anyio.fail_after(100):
                await connection.serve(lambda stream: False)
            assert 15 < anyio.current_time() - start <= 21.5  # far deadlines are kept to the second
            assert isinstance(connection.close_reason, ConnectionClosed)

    run(test, backend)


@BACKENDS
def test_an_idle_connection_is_kept_alive(backend: str) -> None:
    async def test() -> None:
        async with world(latency=LATENCY) as here, anyio.create_task_group() as tasks:
            connection, bob = await here.dial()
            for end in (connection, bob):
                tasks.start_soon(end.serve, lambda stream: False)
            for _ in range(300):
                await anyio.sleep(1)
                connection.tick(anyio.current_time())
            assert not connection.closed
            assert not bob.closed
            assert len(here.network.carried) < 300
            tasks.cancel_scope.cancel()

    run(test, backend)


@BACKENDS
def test_a_dial_to_nobody_ends_with_the_handshake_timeout(backend: str) -> None:
    async def test() -> None:
        async with world(latency=LATENCY, loss=1.0) as here:
            start = anyio.current_time()
            with pytest.raises(OperationTimeout):
                await here.alice.dial(here.listener.address, None)
            assert anyio.current_time() - start == pytest.approx(10.0, abs=0.1)
            assert repr(here.alice) == "<QuicTransport 0 sockets>"

    run(test, backend)


@BACKENDS
def test_a_flood_of_what_belongs_to_nothing_leaves_others_their_turn(backend: str) -> None:
    async def test() -> None:
        async with world(latency=LATENCY) as here:
            socket = here.listener._endpoint.socket
            assert isinstance(socket, SimulatedSocket)
            junk = b"\x40" + bytes(40), here.listener._endpoint.socket.name
            socket.inbox.extend([junk] * 100_000)
            turns = 0
            while socket.inbox:
                await anyio.lowlevel.checkpoint()
                turns += 1
            assert turns > 1000
            assert here.listener._endpoint.dropped == 100_000

    run(test, backend)


@BACKENDS
def test_a_slow_path_is_filled(backend: str) -> None:
    """Windows grow with the reader: 8 MiB take less than twenty round trips, thirty-two such windows as at first."""

    async def test() -> None:
        async with world(latency=0.05, capacity=100_000) as here, anyio.create_task_group() as tasks:
            connection, bob = await here.dial()
            arrived: list[MuxedStream] = []
            tasks.start_soon(connection.serve, lambda stream: False)
            tasks.start_soon(bob.serve, into(arrived))
            stream = await connection.open_stream()
            start = anyio.current_time()

            async def send() -> None:
                for _ in range(128):
                    await stream.send(bytes(65536))
                await stream.send_eof()

            tasks.start_soon(send)
            while not arrived:
                await anyio.sleep(0.01)
            assert len(await read_all(arrived[0])) == 8 << 20
            assert anyio.current_time() - start < 2.0
            tasks.cancel_scope.cancel()

    run(test, backend)
