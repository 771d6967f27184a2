"""What fails fails alone, in time, and leaves nothing open."""

from __future__ import annotations

import contextlib

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.core.muxer import MuxedConnection
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import (
    ConnectionClosed,
    DecryptError,
    HandshakeError,
    NegotiationError,
    OperationTimeout,
    PeerIdMismatch,
    RemoteProtocolError,
)
from py_p2pstack.upgrade.multistream import Proposer, lazy_proposal
from py_p2pstack.upgrade.negotiate import RawPipe, SealedPipe, secure, select
from py_p2pstack.upgrade.upgrader import Upgrader
from tests.upgrade.pipes import raw_pair
from tests.upgrade.upgraders import (
    ALICE,
    ALICE_ID,
    BOB,
    MPLEX,
    YAMUX,
    LateMuxers,
    Muxed,
    inbound,
    outbound,
    seal,
    upgrader,
)

pytestmark = pytest.mark.anyio


async def fails(up: Upgrader, direction: Direction, error: type[Exception], data: bytes | None, **pipe: int) -> None:
    """`up` meets a peer that says `data` and nothing more (None: not even that it ends)."""
    raw, other = raw_pair(**pipe)
    if data is not None:
        other.send_nowait(data)
        other.end_output()
    with pytest.raises(error):
        await up.upgrade(raw, direction, transport="memory", peer=None)
    assert raw.closed


async def in_vain(up: Upgrader, raw: RawConnection, error: type[Exception]) -> None:
    """`up` listens, and ends with `error`."""
    with pytest.raises(error):
        await inbound(up, raw)


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
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_vain, upgrader(BOB), raw_bob, ConnectionClosed)
        with pytest.raises(PeerIdMismatch):
            await outbound(upgrader(ALICE), raw_alice, peer=ALICE_ID)
    assert raw_alice.closed
    assert raw_bob.closed


async def test_no_muxer_in_common_is_a_negotiation_error() -> None:
    raw_alice, raw_bob = raw_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_vain, upgrader(BOB, muxers=[MPLEX]), raw_bob, ConnectionClosed)
        with pytest.raises(NegotiationError, match=YAMUX):
            await outbound(upgrader(ALICE), raw_alice)


async def test_a_forged_record_inside_the_muxers_negotiation_is_refused() -> None:
    raw_alice, raw_bob = raw_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_vain, upgrader(BOB), raw_bob, DecryptError)
        pipe = RawPipe(raw_alice)
        await secure(pipe, {"/noise": LateMuxers(ALICE)}, initiator=True, peer=None, muxers=())
        await pipe.send(b"\x00\x20" + bytes(32))
    assert raw_bob.closed


async def test_a_muxer_that_cannot_be_built_closes_the_pipe() -> None:
    def broken(**_: object) -> MuxedConnection:
        raise RuntimeError("no muxer today")

    raw_alice, raw_bob = raw_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_vain, upgrader(BOB), raw_bob, ConnectionClosed)
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
