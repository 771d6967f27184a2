"""A transport that upgrades: it dials and listens for finished connections, and one that fails touches no other."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import ConnectionInfo, MuxedConnection
from py_p2pstack.core.security import RecordLayer
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import DecryptError, HandshakeError, NegotiationError, P2PError, ResourceLimitExceeded
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.tls import TlsTransport
from py_p2pstack.upgrade.negotiate import RawPipe, SealedPipe
from py_p2pstack.upgrade.upgrader import Upgrader, UpgradingListener, UpgradingTransport
from tests.upgrade.pipes import PipeEnd, raw_pair
from tests.upgrade.upgraders import (
    ALICE,
    ALICE_ID,
    BOB,
    BOB_ID,
    MPLEX,
    YAMUX,
    Muxed,
    OtherNoise,
    inbound,
    outbound,
    upgrader,
)

pytestmark = pytest.mark.anyio


class Place:
    """An admission."""

    def __init__(self) -> None:
        self.given_back = 0

    def done(self) -> None:
        self.given_back += 1


class Gate:
    """Admits what it may and keeps what it is handed."""

    def __init__(self, *, refusal: Exception | None = None, fault: Exception | None = None) -> None:
        self.refusal = refusal
        self.fault = fault
        self.places: list[Place] = []
        self.served: list[Muxed] = []
        self.changed = anyio.Event()

    def admit(self, local: Multiaddr, remote: Multiaddr) -> Place:
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        self.places.append(Place())
        return self.places[-1]

    async def serve(self, connection: MuxedConnection, admission: Place) -> None:
        assert isinstance(connection, Muxed)
        self.served.append(connection)
        self.changed.set()
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        await anyio.sleep_forever()


class RawBell:
    """A raw listener that hands out the connections it is given."""

    def __init__(self) -> None:
        self.address = Multiaddr.parse("/memory/2")
        self._send, self._receive = anyio.create_memory_object_stream[PipeEnd](100)
        self.accepts = 0

    def ring(self, **pipe: int) -> PipeEnd:
        """Connect; returns the dialer's end."""
        near, far = raw_pair(**pipe)
        self._send.send_nowait(far)
        return near

    async def accept(self) -> RawConnection:
        self.accepts += 1
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            raise anyio.ClosedResourceError from None

    def close(self) -> None:
        self._send.close()


class BrokenBell(RawBell):
    """One that breaks after its first connection."""

    async def accept(self) -> RawConnection:
        if self.accepts:
            raise OSError("the listener broke")
        return await super().accept()


class BellTransport:
    """A raw transport around one `RawBell`."""

    name = "bell"

    def __init__(self, bell: RawBell) -> None:
        self.bell = bell

    def can_dial(self, address: Multiaddr) -> bool:
        return address == self.bell.address

    def can_listen(self, address: Multiaddr) -> bool:
        return address == self.bell.address

    async def dial(self, address: Multiaddr) -> RawConnection:
        return self.bell.ring()

    async def listen(self, address: Multiaddr) -> RawBell:
        return self.bell


async def wait_until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_a_transport_dials_and_listens_for_finished_connections() -> None:
    bell = RawBell()
    ours, theirs = (UpgradingTransport(BellTransport(bell), upgrader(key)) for key in (ALICE, BOB))
    assert ours.can_dial(bell.address)
    assert not ours.can_listen(Multiaddr.parse("/memory/9"))
    assert "bell" in repr(ours)
    listener = await theirs.listen(bell.address)
    assert listener.address == bell.address
    gate = Gate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, gate)
        connection = await ours.dial(bell.address, BOB_ID)
        await gate.changed.wait()
        assert connection.info.transport == "bell"
        assert gate.served[0].info.remote_peer == ALICE_ID
        assert gate.places[0].given_back == 0  # the gate gives it back when the connection ends
        tasks.cancel_scope.cancel()
    bell.close()
    bell._receive.close()


async def test_a_dial_begins_its_first_security_unasked_and_falls_back_on_a_second_connection() -> None:
    bell = RawBell()
    alice = upgrader(ALICE, securities=[OtherNoise(ALICE), NoiseTransport(ALICE)])
    gate = Gate()
    async with anyio.create_task_group() as tasks:
        listener = UpgradingListener(bell, upgrader(BOB), "bell")
        tasks.start_soon(listener.serve, gate)
        connection = await UpgradingTransport(BellTransport(bell), alice).dial(bell.address, BOB_ID)
        assert connection.info.security == "/noise"
        await wait_until(lambda: listener.failed == 1)
        assert listener.accepted == 2
        tasks.cancel_scope.cancel()
    bell.close()
    bell._receive.close()


async def test_the_first_of_two_securities_takes_no_more_round_trips_than_a_single_one() -> None:
    raw_alice, raw_bob = raw_pair()
    waits = []

    async def count() -> None:
        waits.append(len(raw_alice.sent))

    raw_alice.on_wait = count
    alice = upgrader(ALICE, securities=[NoiseTransport(ALICE), OtherNoise(ALICE)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbound, upgrader(BOB), raw_bob)
        await alice.upgrade(raw_alice, Direction.OUTBOUND, transport="memory", peer=BOB_ID, optimistic=True)
    assert waits == [28 + 34]


async def test_a_dial_does_not_fall_back_for_any_other_reason() -> None:
    """A peer that has none of our protocols, or closes, or lies, is not dialled twice."""
    bell = RawBell()
    alice = upgrader(ALICE, securities=[NoiseTransport(ALICE), OtherNoise(ALICE)], muxers=[YAMUX])
    bob = upgrader(BOB, muxers=[MPLEX])
    gate = Gate()
    async with anyio.create_task_group() as tasks:
        listener = UpgradingListener(bell, bob, "bell")
        tasks.start_soon(listener.serve, gate)
        with pytest.raises(NegotiationError):
            await UpgradingTransport(BellTransport(bell), alice).dial(bell.address, BOB_ID)
        await wait_until(lambda: listener.failed == 1)
        assert listener.accepted == 1
        tasks.cancel_scope.cancel()
    bell.close()
    bell._receive.close()


async def test_the_last_word_of_a_failed_handshake_reaches_the_peer() -> None:
    """A listener refuses the dialer's certificate with an alert: the dialer's channel says why."""
    alice = upgrader(ALICE, securities=[TlsTransport(ALICE, wall_clock=lambda: 1e9)])
    bob = upgrader(BOB, securities=[TlsTransport(BOB, wall_clock=lambda: 1e9 - 86400)])  # not valid yet, to him
    raw_alice, raw_bob = raw_pair()
    refused = anyio.Event()

    async def listen() -> None:
        with pytest.raises(HandshakeError, match="not valid before"):
            await inbound(bob, raw_bob)
        refused.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        muxed = await outbound(alice, raw_alice)
        await refused.wait()
    pipe = SealedPipe(RawPipe(raw_alice), muxed.records, muxed.unread)
    with pytest.raises(DecryptError, match="alert"):
        await pipe.receive()


async def serve_and_dial(gate: Gate, spoil: Callable[[RawBell], None], up: Upgrader | None = None) -> UpgradingListener:
    """Whatever `spoil` does to the listener, the next dialer is served."""
    bell = RawBell()
    listener = UpgradingListener(bell, up or upgrader(BOB), "bell")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, gate)
        spoil(bell)
        await outbound(upgrader(ALICE), bell.ring())
        await gate.changed.wait()
        tasks.cancel_scope.cancel()
    bell.close()
    bell._receive.close()
    return listener


async def test_one_failed_handshake_gives_its_place_back_and_touches_no_other() -> None:
    gate = Gate()
    listener = await serve_and_dial(gate, lambda bell: bell.ring().close())
    assert [place.given_back for place in gate.places] == [1, 0]
    assert (listener.accepted, listener.refused, listener.failed) == (2, 0, 1)


@pytest.mark.parametrize(
    "refusal", [ResourceLimitExceeded("connections", 1, 2), ZeroDivisionError("a gater's own fault")], ids=repr
)
async def test_a_refused_connection_is_closed_unheard_and_touches_no_other(refusal: Exception) -> None:
    ends: list[PipeEnd] = []
    listener = await serve_and_dial(Gate(refusal=refusal), lambda bell: ends.append(bell.ring()))
    assert (listener.accepted, listener.refused, listener.failed) == (2, 1, 0)
    assert ends[0].receive_nowait(memoryview(bytearray(1))) == 0


@pytest.mark.parametrize("fault", [ValueError("a handler's own fault"), P2PError("refused late")], ids=repr)
async def test_a_fault_of_the_gate_ends_that_connection_alone(fault: Exception) -> None:
    gate = Gate(fault=fault)
    bell = RawBell()
    listener = UpgradingListener(bell, upgrader(BOB), "bell")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, gate)
        first = await outbound(upgrader(ALICE), bell.ring())
        await wait_until(lambda: len(gate.served) == 1)
        await first.raw.wait_readable()
        assert first.raw.receive_nowait(memoryview(bytearray(1))) == 0
        await outbound(upgrader(ALICE), bell.ring())
        await wait_until(lambda: len(gate.served) == 2)
        tasks.cancel_scope.cancel()
    bell.close()
    bell._receive.close()


async def test_a_fault_of_ours_in_the_upgrade_ends_that_connection_alone() -> None:
    broken = [True]

    def factory(
        *,
        raw: RawConnection,
        records: RecordLayer,
        unread: bytes,
        early_plaintext: bytes,
        unsent: bytes,
        info: ConnectionInfo,
    ) -> MuxedConnection:
        if broken:
            broken.clear()
            raise RuntimeError("a bug")
        return Muxed(raw=raw, records=records, unread=unread, early_plaintext=early_plaintext, unsent=unsent, info=info)

    gate = Gate()
    bell = RawBell()
    listener = UpgradingListener(bell, upgrader(BOB, factory=factory), "bell")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, gate)
        await outbound(upgrader(ALICE), bell.ring())
        await outbound(upgrader(ALICE), bell.ring())
        await wait_until(lambda: len(gate.served) == 1)
        tasks.cancel_scope.cancel()
    assert [place.given_back for place in gate.places] == [1, 0]
    bell.close()
    bell._receive.close()


async def test_handshakes_under_way_are_bounded_and_finished_ones_make_room() -> None:
    gate = Gate()
    bell = RawBell()
    listener = UpgradingListener(bell, upgrader(BOB, pending=2), "bell")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, gate)
        silent = [bell.ring() for _ in range(5)]
        await wait_until(lambda: listener.accepted == 2)
        await anyio.wait_all_tasks_blocked()
        assert (listener.accepted, bell.accepts) == (2, 2)  # the others wait outside
        for end in silent[:4]:
            end.close()
        await wait_until(lambda: listener.failed == 4)
        await outbound(upgrader(ALICE), bell.ring())
        await gate.changed.wait()  # a served connection is not under way any longer
        tasks.cancel_scope.cancel()
    assert [place.given_back for place in gate.places] == [1, 1, 1, 1, 1, 0]
    bell.close()
    bell._receive.close()


async def test_a_closed_listener_accepts_no_more_and_ends_with_its_connections() -> None:
    gate = Gate()
    bell = RawBell()
    listener = UpgradingListener(bell, upgrader(BOB), "bell")
    served = anyio.Event()

    async def serve() -> None:
        await listener.serve(gate)
        served.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await outbound(upgrader(ALICE), bell.ring())
        await gate.changed.wait()
        listener.close()
        await anyio.wait_all_tasks_blocked()
        assert not served.is_set()
        tasks.cancel_scope.cancel()
    bell._receive.close()

    idle = RawBell()
    async with anyio.create_task_group() as tasks:
        other = UpgradingListener(idle, upgrader(BOB), "bell")
        tasks.start_soon(other.serve, gate)
        await anyio.wait_all_tasks_blocked()
        other.close()  # and serve returns
    idle._receive.close()


async def test_a_listener_that_breaks_leaves_its_connections_alone() -> None:
    gate = Gate()
    bell = BrokenBell()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(UpgradingListener(bell, upgrader(BOB), "bell").serve, gate)
        await outbound(upgrader(ALICE), bell.ring())
        await wait_until(lambda: len(gate.served) == 1)
        assert not gate.served[0].closed
        tasks.cancel_scope.cancel()
    bell._receive.close()
