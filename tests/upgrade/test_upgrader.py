"""Raw pipes become finished connections: what both sides know then, in how many round trips, with no byte lost."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.core.security import SecurityTransport
from py_p2pstack.core.types import Direction
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.tls import TlsTransport
from py_p2pstack.testing.contracts.security_case import open_records
from py_p2pstack.upgrade.multistream import lazy_proposal
from py_p2pstack.upgrade.negotiate import RawPipe, secure
from tests.upgrade.pipes import raw_pair
from tests.upgrade.upgraders import (
    ALICE,
    ALICE_ID,
    BOB,
    BOB_ID,
    MPLEX,
    YAMUX,
    LateMuxers,
    Muxed,
    OtherNoise,
    inbound,
    outbound,
    seal,
    upgrade_both,
    upgrader,
)

pytestmark = pytest.mark.anyio


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
    assert open_records(bob.records, seal(alice.records, b"hi"))[0] == [b"hi"]


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
    assert open_records(other.records, seal(one.records, b"hi"))[0] == [b"hi"]
    assert open_records(one.records, seal(other.records, b"ho"))[0] == [b"ho"]


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
