"""Faults of our own side: handlers, notifiees, gaters and matches that raise, a session that breaks.

Each costs the stream, dial or connection it happened in; the host, its books and everybody else go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from py_p2pstack import Connection, Multiaddr, NegotiationError, PeerInfo, Stream, StreamReset
from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.errors import ConnectionClosed, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.muxers.session import Session
from py_p2pstack.network.gater import AllowAll
from tests.hostile.mallory import Run, World, memory_world, opening, settle
from tests.hosts import ECHO, echo, exchange, key


class FaultyGater(AllowAll):
    """Raises in one of its calls, whenever mallory is concerned."""

    def __init__(self, where: str) -> None:
        self.where = where

    def _fail(self, where: str, peer: PeerId | None) -> None:
        if where == self.where and peer in (None, MALLORY):
            raise ZeroDivisionError(where)

    def intercept_peer_dial(self, peer: PeerId) -> bool:
        self._fail("peer_dial", peer)
        return True

    def intercept_addr_dial(self, peer: PeerId, address: Multiaddr) -> bool:
        self._fail("addr_dial", peer)
        return True

    def intercept_accept(self, local: Multiaddr, remote: Multiaddr) -> bool:
        self._fail("accept", None)
        return True

    def intercept_secured(self, info: ConnectionInfo) -> bool:
        self._fail("secured", info.remote_peer)
        return True

    def intercept_upgraded(self, info: ConnectionInfo) -> bool:
        self._fail("upgraded", info.remote_peer)
        return True


MALLORY = key(66).public_key.peer_id()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The faults below are logged where they are contained, and meant to be."""
    with caplog.at_level(logging.CRITICAL, logger="py_p2pstack"):
        yield


async def all_is_well(world: World) -> None:
    """Somebody honest connects and is served, and the books hold nothing else."""
    alice = world.alice
    await settle()
    assert world.held() == (0, 0, 0)
    assert alice.network.resources.stats().system.connections_outbound == 0
    alice.set_stream_handler(ECHO, echo)
    async with world.honest(1) as bob:
        await bob.connect(alice.peer_info)
        assert await exchange(bob, alice) == b"hello"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("where", ["accept", "secured", "upgraded"])
def test_a_gater_that_raises_over_an_inbound_connection_costs_that_connection_and_no_place(
    run: Run, where: str
) -> None:
    async def main() -> None:
        gater = FaultyGater(where)
        async with memory_world(gater=gater) as world:
            for _ in range(3):
                with pytest.raises((OSError, P2PError)):
                    mallory = await world.mallory()
                    await mallory.send(b"")
                    await mallory.receive()
                    raise ConnectionClosed  # it said goodbye first
            gater.where = ""
            await all_is_well(world)

    run(main)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("where", ["peer_dial", "addr_dial", "secured", "upgraded"])
def test_a_gater_that_raises_over_a_dial_is_told_to_who_dialled(run: Run, where: str) -> None:
    async def main() -> None:
        async with memory_world(gater=FaultyGater(where)) as world, world.honest(66) as other:
            await other.network.listen(Multiaddr.parse("/memory/66"))
            for _ in range(3):
                with pytest.raises(ZeroDivisionError):
                    await world.alice.connect(PeerInfo(MALLORY, tuple(other.addrs)))
            await all_is_well(world)

    run(main)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("dials", [False, True])
def test_a_fault_in_a_session_ends_its_connection_alone(run: Run, monkeypatch: pytest.MonkeyPatch, dials: bool) -> None:
    read = Session._read

    async def break_down(session: Session) -> Exception:
        if session.info.remote_peer == MALLORY:
            raise ZeroDivisionError
        return await read(session)

    async def main() -> None:
        async with memory_world() as world, world.honest(66) as mallory:
            await mallory.network.listen(Multiaddr.parse("/memory/66"))
            monkeypatch.setattr(Session, "_read", break_down)
            dialler, other = (world.alice, mallory) if dials else (mallory, world.alice)
            with pytest.raises(P2PError):
                await dialler.connect(other.peer_info)
                await exchange(dialler, other)
            await settle()
            assert not world.alice.network.conns()
            await all_is_well(world)

    run(main)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("fault", [ZeroDivisionError, KeyError, RuntimeError, OSError, RecursionError])
def test_a_handler_that_raises_costs_its_stream(run: Run, fault: type[Exception]) -> None:
    async def broken(stream: Stream) -> None:
        await stream.receive()
        raise fault("mallory made me")

    async def main() -> None:
        async with memory_world() as world:
            alice = world.alice
            alice.set_stream_handler("/broken/1.0.0", broken)
            alice.set_stream_handler(ECHO, echo)
            async with world.honest(66) as mallory:
                await mallory.connect(alice.peer_info)
                for _ in range(20):
                    stream = await mallory.new_stream(alice.id, "/broken/1.0.0")
                    await stream.send(b"x")
                    with pytest.raises(StreamReset):
                        await stream.receive()
                assert await exchange(mallory, alice) == b"hello"
                assert len(alice.network.conns()) == 1
            await all_is_well(world)

    run(main)


@pytest.mark.usefixtures("quiet")
def test_a_match_that_raises_costs_its_stream(run: Run) -> None:
    def broken(protocol: str) -> bool:
        raise ZeroDivisionError

    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler(ECHO, echo)
            world.alice.set_stream_handler_match("/broken/1.0.0", broken, echo)
            async with world.honest(66) as mallory:
                await mallory.connect(world.alice.peer_info)
                with pytest.raises((StreamReset, NegotiationError)):
                    await mallory.new_stream(world.alice.id, "/unheard-of/1.0.0")
                assert await exchange(mallory, world.alice) == b"hello"
            await all_is_well(world)

    run(main)


class BrokenNotifiee:
    """Raises whatever it is told."""

    def connected(self, connection: Connection) -> None:
        raise ZeroDivisionError

    def disconnected(self, connection: Connection) -> None:
        raise ZeroDivisionError

    def listening(self, address: Multiaddr) -> None:
        raise ZeroDivisionError

    def listen_closed(self, address: Multiaddr) -> None:
        raise ZeroDivisionError


@pytest.mark.usefixtures("quiet")
def test_a_notifiee_that_raises_keeps_nobody_from_connecting_or_leaving(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            world.alice.network.notify(BrokenNotifiee())
            await world.alice.network.listen(Multiaddr.parse("/memory/7"))
            for _ in range(5):
                mallory = await world.mallory()
                await mallory.send(opening(1, "/ipfs/id/1.0.0"))
                assert await mallory.until(lambda frame: frame.stream == 1 and bool(frame.body))
                mallory.close()
                await settle()
            await all_is_well(world)

    run(main)
