"""Raw pipes become finished connections; what fails fails alone, in time, and leaves nothing open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import ConnectionInfo, MemoryBudget, MuxedConnection, MuxedStream, MuxerFactory
from py_p2pstack.core.security import RecordLayer, SecurityTransport
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import (
    ConnectionClosed,
    DecryptError,
    HandshakeError,
    NegotiationError,
    OperationTimeout,
    P2PError,
    PeerIdMismatch,
    RemoteProtocolError,
    ResourceLimitExceeded,
)
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.security.noise import NoiseHandshake, NoiseTransport
from py_p2pstack.security.tls import TlsTransport
from py_p2pstack.upgrade.multistream import Proposer, lazy_proposal
from py_p2pstack.upgrade.negotiate import RawPipe, SealedPipe, secure, select
from py_p2pstack.upgrade.upgrader import Upgrader, UpgraderConfig, UpgradingListener, UpgradingTransport
from tests.upgrade.pipes import PipeEnd, raw_pair

pytestmark = pytest.mark.anyio

ALICE = PrivateKey.from_seed(b"alice".ljust(32))
BOB = PrivateKey.from_seed(b"bob".ljust(32))
ALICE_ID, BOB_ID = ALICE.public_key.peer_id(), BOB.public_key.peer_id()
YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"


class Muxed:
    """A muxed connection that keeps what it was built from."""

    def __init__(
        self,
        *,
        raw: RawConnection,
        records: RecordLayer,
        unread: bytes,
        early_plaintext: bytes,
        unsent: bytes,
        info: ConnectionInfo,
    ) -> None:
        self.unsent = unsent[raw.send_nowait(unsent) :] if unsent else b""
        self.raw = raw
        self.records = records
        self.unread = unread
        self.early_plaintext = early_plaintext
        self.info = info
        self.closed = False
        self.close_reason: Exception | None = None
        self.rtt: float | None = None

    async def open_stream(self) -> MuxedStream:
        raise NotImplementedError

    def tick(self, now: float) -> None:
        raise NotImplementedError

    async def serve(self, handler: Callable[[MuxedStream], bool], budget: MemoryBudget | None = None) -> None:
        raise NotImplementedError

    def close(self, code: int = 0) -> None:
        self.closed = True
        self.raw.close()


class LateMuxers(NoiseTransport):
    """Noise without early muxer negotiation."""

    def handshake(self, *, initiator: bool, peer: PeerId | None, muxers: Sequence[str]) -> NoiseHandshake:
        return super().handshake(initiator=initiator, peer=peer, muxers=())


class OtherNoise(NoiseTransport):
    """A security protocol that only some speak."""

    protocol = "/other-noise"


def upgrader(
    key: PrivateKey,
    *,
    securities: Sequence[SecurityTransport] | None = None,
    muxers: Sequence[str] = (YAMUX,),
    timeout: float = 10.0,
    pending: int = 256,
    factory: MuxerFactory = Muxed,
) -> Upgrader:
    return Upgrader(
        local_peer=key.public_key.peer_id(),
        securities=[NoiseTransport(key)] if securities is None else securities,
        muxers=dict.fromkeys(muxers, factory),
        config=UpgraderConfig(handshake_timeout=timeout, max_pending_inbound=pending),
    )


async def outbound(up: Upgrader, raw: RawConnection, peer: PeerId | None = BOB_ID) -> Muxed:
    muxed = await up.upgrade(raw, Direction.OUTBOUND, transport="memory", peer=peer)
    assert isinstance(muxed, Muxed)
    await RawPipe(raw).send(muxed.unsent)
    return muxed


async def inbound(up: Upgrader, raw: RawConnection) -> Muxed:
    muxed = await up.upgrade(raw, Direction.INBOUND, transport="memory")
    assert isinstance(muxed, Muxed)
    await RawPipe(raw).send(muxed.unsent)
    return muxed


async def upgrade_both(
    alice: Upgrader, bob: Upgrader, ends: tuple[PipeEnd, PipeEnd] | None = None
) -> tuple[Muxed, Muxed]:
    raw_alice, raw_bob = ends or raw_pair()
    done: list[Muxed] = []

    async def listen() -> None:
        done.append(await inbound(bob, raw_bob))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        done.insert(0, await outbound(alice, raw_alice))
    return done[0], done[-1]


def seal(records: RecordLayer, plaintext: bytes) -> bytes:
    out = bytearray(len(plaintext) + records.overhead)
    return bytes(out[: records.seal_into(plaintext, memoryview(out))])


# --- what it gives --------------------------------------------------------------------------------


async def test_both_sides_know_all_of_the_connection() -> None:
    alice, bob = await upgrade_both(upgrader(ALICE), upgrader(BOB))
    assert alice.info == ConnectionInfo(
        direction=Direction.OUTBOUND,
        local_peer=ALICE_ID,
        remote_peer=BOB_ID,
        remote_public_key=alice.info.remote_public_key,
        local_address=Multiaddr.parse("/memory/1"),
        remote_address=Multiaddr.parse("/memory/2"),
        transport="memory",
        security="/noise",
        muxer=YAMUX,
    )
    assert bob.info.direction is Direction.INBOUND
    assert bob.info.remote_peer == ALICE_ID
    assert alice.info.remote_public_key.peer_id() == BOB_ID
    assert bob.records.open_records(memoryview(seal(alice.records, b"hi")))[0] == [b"hi"]


@pytest.mark.parametrize(("chunk", "capacity"), [(1, 64), (7, 40), (65536, 30)])
@pytest.mark.parametrize("late", [False, True])
async def test_it_works_over_the_narrowest_pipe(chunk: int, capacity: int, late: bool) -> None:
    kind = LateMuxers if late else NoiseTransport
    alice, bob = await upgrade_both(
        upgrader(ALICE, securities=[kind(ALICE)]),
        upgrader(BOB, securities=[kind(BOB)]),
        raw_pair(chunk=chunk, capacity=capacity),
    )
    assert (alice.info.muxer, bob.info.muxer) == (YAMUX, YAMUX)


async def test_set_up_takes_the_dialer_one_round_trip() -> None:
    raw_alice, raw_bob = raw_pair()
    waits = []

    async def count() -> None:
        waits.append(len(raw_alice.sent))

    raw_alice.on_wait = count
    await upgrade_both(upgrader(ALICE), upgrader(BOB), (raw_alice, raw_bob))
    assert waits == [28 + 34]  # the header, the only proposal, and the first noise message


async def test_set_up_with_tls_takes_the_dialer_one_round_trip_too() -> None:
    raw_alice, raw_bob = raw_pair()
    waits = []

    async def count() -> None:
        waits.append(len(raw_alice.sent))

    raw_alice.on_wait = count
    alice, bob = (
        upgrader(key, securities=[TlsTransport(key, wall_clock=lambda: 1e9), NoiseTransport(key)])
        for key in (ALICE, BOB)
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbound, bob, raw_bob)
        muxed = await alice.upgrade(raw_alice, Direction.OUTBOUND, transport="memory", peer=BOB_ID, optimistic=True)
        assert isinstance(muxed, Muxed)
        raw_alice.send_nowait(muxed.unsent)
    assert len(waits) == 1
    assert muxed.info.muxer == YAMUX


async def test_the_dialers_preference_decides_which_security() -> None:
    alice = upgrader(ALICE, securities=[OtherNoise(ALICE), NoiseTransport(ALICE)])
    one, other = await upgrade_both(alice, upgrader(BOB))
    assert (one.info.security, other.info.security) == ("/noise", "/noise")
    bob = upgrader(BOB, securities=[NoiseTransport(BOB), OtherNoise(BOB)])
    one, other = await upgrade_both(alice, bob)
    assert (one.info.security, other.info.security) == ("/other-noise", "/other-noise")


async def test_without_early_negotiation_the_muxer_is_agreed_on_inside_the_channel() -> None:
    alice = upgrader(ALICE, securities=[LateMuxers(ALICE)], muxers=[MPLEX, YAMUX])
    bob = upgrader(BOB, muxers=[YAMUX])
    one, other = await upgrade_both(alice, bob)
    assert (one.info.muxer, other.info.muxer) == (YAMUX, YAMUX)
    assert other.records.open_records(memoryview(seal(one.records, b"hi")))[0] == [b"hi"]
    assert one.records.open_records(memoryview(seal(other.records, b"ho")))[0] == [b"ho"]


async def test_nothing_the_dialer_sends_early_is_lost() -> None:
    """What rides behind the muxer's negotiation, in its record and in the next, reaches the muxer in order."""
    raw_alice, raw_bob = raw_pair()
    bob = upgrader(BOB)
    done: list[Muxed] = []

    async def listen() -> None:
        done.append(await inbound(bob, raw_bob))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        pipe = RawPipe(raw_alice)
        securities: dict[str, SecurityTransport] = {"/noise": LateMuxers(ALICE)}
        _, secured = await secure(pipe, securities, initiator=True, peer=None, muxers=())
        assert secured.muxer is None
        first = seal(secured.records, lazy_proposal(YAMUX) + b"first")
        await pipe.send(first + (second := seal(secured.records, b"second"))[:10])
    [muxed] = done
    assert muxed.early_plaintext == b"first"
    assert muxed.unread == second[:10]


async def test_records_behind_an_early_muxer_reach_it_sealed() -> None:
    raw_alice, raw_bob = raw_pair()
    done: list[Muxed] = []

    async def dial() -> None:
        done.append(await outbound(upgrader(ALICE), raw_alice))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dial)
        pipe = RawPipe(raw_bob)
        _, secured = await secure(pipe, {"/noise": NoiseTransport(BOB)}, initiator=False, peer=None, muxers=[YAMUX])
    [alice] = done
    assert alice.early_plaintext == b""
    assert alice.unread + secured.unread == b""


# --- what fails -----------------------------------------------------------------------------------


async def fails(up: Upgrader, direction: Direction, error: type[Exception], data: bytes | None, **pipe: int) -> None:
    """`up` meets a peer that says `data` and nothing more (None: not even that it ends)."""
    raw, other = raw_pair(**pipe)
    if data is not None:
        other.send_nowait(data)
        other.end_output()
    with pytest.raises(error):
        await up.upgrade(raw, direction, transport="memory", peer=None)
    assert raw.closed


NO_NOISE = lazy_proposal("/plaintext/2.0.0")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ConnectionClosed),
        (b"GET / HTTP/1.1\r\n\r\n" * 4, NegotiationError),
        (b"\x13/multistream/9.9.9\n", NegotiationError),
        (NO_NOISE, ConnectionClosed),
        (NO_NOISE + b"\x02a\n" * 64, NegotiationError),
        (b"\x03abc", RemoteProtocolError),
        (lazy_proposal("/noise"), ConnectionClosed),
        (lazy_proposal("/noise") + b"\xff\xff", HandshakeError),
        (lazy_proposal("/noise") + b"\x00\x20" + bytes(32), HandshakeError),
    ],
)
async def test_a_dialer_that_talks_nonsense_is_cut_off(data: bytes, error: type[Exception]) -> None:
    await fails(upgrader(BOB), Direction.INBOUND, error, data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ConnectionClosed),
        (b"\x13/multistream/1.0.0\n\x03na\n", NegotiationError),
        (b"SSH-2.0-OpenSSH_9.9\r\n" * 9, NegotiationError),
        (lazy_proposal("/noise") + b"\x00\x60" + bytes(96), HandshakeError),
    ],
)
async def test_a_listener_that_talks_nonsense_is_cut_off(data: bytes, error: type[Exception]) -> None:
    await fails(upgrader(ALICE), Direction.OUTBOUND, error, data)


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_peer_that_says_nothing_costs_no_more_than_the_timeout(direction: Direction) -> None:
    await fails(upgrader(BOB, timeout=0.02), direction, OperationTimeout, None)


async def test_a_peer_that_reads_nothing_costs_no_more_than_the_timeout() -> None:
    await fails(upgrader(BOB, timeout=0.02), Direction.OUTBOUND, OperationTimeout, None, capacity=3)


async def test_a_slow_loris_dies_however_steadily_it_drips() -> None:
    raw, other = raw_pair()

    async def drip() -> None:
        for byte in lazy_proposal("/noise") + b"\x10\x00" + bytes(4096):
            if raw.closed:
                return
            other.send_nowait(bytes((byte,)))
            await anyio.sleep(0.002)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drip)
        with pytest.raises(OperationTimeout):
            await inbound(upgrader(BOB, timeout=0.05), raw)
    assert raw.closed


async def test_a_sockets_own_timeout_is_not_told_as_ours() -> None:
    raw, _ = raw_pair()

    async def fail() -> None:
        raise TimeoutError("the network gave up")  # ETIMEDOUT

    raw.on_wait = fail
    with pytest.raises(TimeoutError, match="gave up"):
        await inbound(upgrader(BOB), raw)
    assert raw.closed


async def test_another_peer_than_the_one_dialled_is_refused_on_both_sides() -> None:
    raw_alice, raw_bob = raw_pair()

    async def listen() -> None:
        with pytest.raises(ConnectionClosed):
            await inbound(upgrader(BOB), raw_bob)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        with pytest.raises(PeerIdMismatch):
            await outbound(upgrader(ALICE), raw_alice, peer=ALICE_ID)
    assert raw_alice.closed
    assert raw_bob.closed


async def test_no_muxer_in_common_is_a_negotiation_error() -> None:
    raw_alice, raw_bob = raw_pair()

    async def listen() -> None:
        with pytest.raises(ConnectionClosed):
            await inbound(upgrader(BOB, muxers=[MPLEX]), raw_bob)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        with pytest.raises(NegotiationError, match=YAMUX):
            await outbound(upgrader(ALICE), raw_alice)


async def test_a_forged_record_inside_the_muxers_negotiation_is_refused() -> None:
    raw_alice, raw_bob = raw_pair()

    async def listen() -> None:
        with pytest.raises(DecryptError):
            await inbound(upgrader(BOB), raw_bob)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        pipe = RawPipe(raw_alice)
        await secure(pipe, {"/noise": LateMuxers(ALICE)}, initiator=True, peer=None, muxers=())
        await pipe.send(b"\x00\x20" + bytes(32))
    assert raw_bob.closed


async def test_a_muxer_that_cannot_be_built_closes_the_pipe() -> None:
    def broken(**_: object) -> MuxedConnection:
        raise RuntimeError("no muxer today")

    raw_alice, raw_bob = raw_pair()

    async def listen() -> None:
        with pytest.raises(ConnectionClosed):
            await inbound(upgrader(BOB), raw_bob)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        with pytest.raises(RuntimeError, match="today"):
            await outbound(upgrader(ALICE, factory=broken), raw_alice)
    assert raw_alice.closed


@pytest.mark.parametrize("wait", range(2))
async def test_cancelled_at_any_wait_the_pipe_is_closed(wait: int) -> None:
    raw_alice, raw_bob = raw_pair()
    kinds = (LateMuxers(ALICE),)
    waits = 0

    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            with contextlib.suppress(ConnectionClosed, BrokenPipeError):  # or he is done before alice is
                await inbound(upgrader(BOB), raw_bob)

        tasks.start_soon(listen)
        with anyio.CancelScope() as scope:

            async def count() -> None:
                nonlocal waits
                waits += 1
                if waits > wait:
                    scope.cancel()
                    await anyio.sleep_forever()

            raw_alice.on_wait = count
            await outbound(upgrader(ALICE, securities=kinds), raw_alice)
        assert scope.cancelled_caught
    assert waits == wait + 1
    assert raw_alice.closed


async def test_the_sealed_pipe_keeps_what_is_behind_a_record() -> None:
    raw_alice, raw_bob = raw_pair()
    done: list[Muxed] = []

    async def listen() -> None:
        done.append(await inbound(upgrader(BOB), raw_bob))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        alice = await outbound(upgrader(ALICE), raw_alice)
    [bob] = done
    half = seal(bob.records, lazy_proposal(YAMUX)) + b"\x00\x30half"
    sealed = SealedPipe(RawPipe(raw_alice), alice.records, half)
    assert await select(sealed, Proposer([YAMUX])) == (YAMUX, b"")
    assert sealed.unread == b"\x00\x30half"


# --- listening ------------------------------------------------------------------------------------


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
    with anyio.fail_after(5):
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
