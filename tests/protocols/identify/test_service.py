"""Claims about identify between hosts, and with peers that lie."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Host, Multiaddr, PeerIdentified, Stream
from py_p2pstack.core.notifications import PeerIdentifyFailed, PeerProtocolsUpdated
from py_p2pstack.identity import PeerRecord
from py_p2pstack.protocols.identify import codec
from py_p2pstack.protocols.identify.codec import IdentifyMessage
from py_p2pstack.protocols.identify.service import PROTOCOL, PUSH_PROTOCOL
from py_p2pstack.wire import framing
from tests.hosts import key, memory_hosts, until_quiet

pytestmark = pytest.mark.anyio


def lie(host: Host, parts: list[bytes]) -> None:
    """Let a host answer identify with these parts."""

    async def answer(stream: Stream) -> None:
        await stream.send(b"".join(framing.encode(part) for part in parts))

    host.set_stream_handler(PROTOCOL, answer)


async def failure(liar: Host, victim: Host) -> str:
    """Connect the victim to the liar; returns why identify failed."""
    with victim.events.subscribe(PeerIdentifyFailed) as failures:
        await victim.connect(liar.peer_info)
        assert victim.network.conns(), "the connection lives on"
        return (await failures.receive()).reason


async def test_the_key_of_another_is_refused() -> None:
    async with memory_hosts(2) as (mallory, bob):
        lie(mallory, codec.encode(IdentifyMessage(public_key=key(9).public_key.encode(), protocols=("/x",))))
        assert "identify tells the key of" in await failure(mallory, bob)
        assert "/x" not in bob.peerstore.protocols(mallory.id)


async def test_the_record_of_another_is_ignored_and_the_rest_is_kept() -> None:
    async with memory_hosts(2) as (mallory, bob):
        other = key(9)
        record = PeerRecord(other.public_key.peer_id(), 1, (b"\x04\x01\x02\x03\x04\x06\x00\x01",)).seal(other)
        lie(mallory, codec.encode(IdentifyMessage(protocols=("/x",), signed_peer_record=record)))
        await bob.connect(mallory.peer_info)
        assert bob.peerstore.protocols(mallory.id) == {"/x"}
        assert bob.peerstore.addresses(other.public_key.peer_id()) == []
        assert Multiaddr.parse("/ip4/1.2.3.4/tcp/1") not in bob.peerstore.addresses(mallory.id)


async def test_more_parts_than_the_bound_are_refused() -> None:
    async with memory_hosts(2) as (mallory, bob):
        lie(mallory, [b""] * (codec.MAX_PARTS + 1))
        assert "more than 10 parts" in await failure(mallory, bob)


async def test_an_oversize_part_is_refused() -> None:
    async with memory_hosts(2) as (mallory, bob):
        lie(mallory, [bytes(codec.MAX_RECEIVED_PART + 1)])
        assert "the limit is 8192" in await failure(mallory, bob)


async def test_a_peer_without_identify_is_connected_all_the_same() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.remove_stream_handler(PROTOCOL)
        assert "speaks none of" in await failure(alice, bob)


async def test_a_change_is_pushed_once_however_many_there_were() -> None:
    async def nothing(stream: Stream) -> None: ...

    async with memory_hosts(2) as (alice, bob):
        await bob.connect(alice.peer_info)
        await until_quiet()
        with bob.events.subscribe(PeerProtocolsUpdated) as updates:
            for number in range(20):
                alice.set_stream_handler(f"/many/{number}", nothing)
            await until_quiet()
            seen = set((await updates.receive()).added)
            while len(updates):
                seen |= (await updates.receive()).added
        assert seen == {f"/many/{number}" for number in range(20)}


async def test_a_peer_that_takes_no_pushes_gets_none() -> None:
    async with memory_hosts(2) as (alice, bob):
        bob.remove_stream_handler(PUSH_PROTOCOL)
        await bob.connect(alice.peer_info)
        with bob.events.subscribe(PeerIdentified) as identified:
            await alice.network.listen(Multiaddr.parse("/memory/77"))
            await until_quiet()
            assert not len(identified)


async def test_new_addresses_are_pushed_with_a_newer_record() -> None:
    async with memory_hosts(2) as (alice, bob):
        await bob.connect(alice.peer_info)
        before = bob.peerstore.peer_record(alice.id)
        await until_quiet()
        await alice.network.listen(Multiaddr.parse("/memory/77"))
        await until_quiet()
        after = bob.peerstore.peer_record(alice.id)
        assert Multiaddr.parse("/memory/77") in bob.peerstore.addresses(alice.id)
        assert before is not None
        assert after is not None
        assert PeerRecord.open(after).seq > PeerRecord.open(before).seq


async def test_addresses_live_on_for_a_while_after_the_last_connection() -> None:
    async with memory_hosts(2) as (alice, bob):
        await bob.connect(alice.peer_info)
        await bob.network.close_peer(alice.id)
        assert alice.addrs[0] in bob.peerstore.addresses(alice.id)
        with anyio.fail_after(30):
            await bob.network.dial_peer(alice.id)
