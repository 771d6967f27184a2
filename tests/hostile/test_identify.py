"""Hostile answers and pushes of identify: the host keeps to what is proven, and to its bounds."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Host, Multiaddr, PeerInfo
from py_p2pstack.core.notifications import PeerIdentified, PeerIdentifyFailed
from py_p2pstack.identity import PeerId, PeerRecord
from py_p2pstack.protocols.identify import codec
from py_p2pstack.upgrade.multistream import lazy_proposal
from py_p2pstack.wire import framing, varint
from py_p2pstack.wire.pb.identify_pb2 import Identify
from tests.hostile.mallory import ACK, FIN, RST, WINDOW, Mallory, Run, World, data, frame, memory_world, opening, settle
from tests.hosts import ECHO, echo, exchange, key

IDENTIFY, PUSH = "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0"
MALLORY = key(66).public_key.peer_id()
VICTIM = key(7).public_key.peer_id()


def record_of(number: int, *addresses: str, signer: int | None = None) -> bytes:
    """A signed peer record of one host, perhaps in another's envelope."""
    encoded = tuple(Multiaddr.parse(address).to_bytes() for address in addresses)
    if signer is None:
        return PeerRecord(key(number).public_key.peer_id(), 1, encoded).seal(key(number)).encode()
    genuine = PeerRecord(key(signer).public_key.peer_id(), 1, encoded).seal(key(signer))
    forged = PeerRecord(key(number).public_key.peer_id(), 1, encoded).seal(key(number))
    return genuine.encode().replace(genuine.payload, forged.payload)


def told(*parts: Identify) -> bytes:
    """A message in parts."""
    return b"".join(framing.encode(part.SerializeToString()) for part in parts)


def raw_field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field, whatever it holds."""
    return varint.encode(number << 3 | 2) + varint.encode(len(value)) + value


OWN_KEY = key(66).public_key.encode()
FAILING = {
    "eleven parts": told(*[Identify(protocols=["/a"])] * 11),
    "empty parts without end": bytes(5000),
    "an oversized part": varint.encode(codec.MAX_RECEIVED_PART + 1) + bytes(codec.MAX_RECEIVED_PART + 1),
    "a part of 4 GiB": varint.encode(2**32) + b"x",
    "a length that never ends": b"\xff" * 12,
    "no protobuf": framing.encode(b"\xff" * 100),
    "half a part": varint.encode(100) + bytes(50),
    "another's key": told(Identify(publicKey=key(7).public_key.encode())),
    "no key at all": told(Identify(publicKey=b"\x08\x01\x12\x01x")),
}
PUT_UP_WITH = {
    "nothing": b"",
    "an empty part": told(Identify()),
    "protocols that are no UTF-8": framing.encode(raw_field(3, b"\xff\xfe") + raw_field(3, ECHO.encode())),
    "a version that is no UTF-8": framing.encode(raw_field(6, b"\xff" * 300) + raw_field(5, b"\xfe")),
    "ten thousand protocols": told(
        *[Identify(protocols=[f"/{i}" for i in range(n * 1000, n * 1000 + 1000)]) for n in range(10)]
    ),
    "four thousand empty protocols a part": told(*[Identify(protocols=[""] * 4000)] * 10),
    "four thousand empty addresses a part": told(*[Identify(listenAddrs=[b""] * 4000)] * 10),
    "addresses that are none": told(Identify(listenAddrs=[b"\xff" * 50, b"\x04", b"\x06\x10"])),
    "an observed address that is none": told(Identify(observedAddr=b"\xff" * 50)),
    "an agent of eight thousand characters": told(Identify(agentVersion="x" * 8000)),
    "a record that is none": told(Identify(signedPeerRecord=b"\xff" * 500)),
    "another's genuine record": told(Identify(signedPeerRecord=record_of(7, "/ip4/6.6.6.6/tcp/1"))),
    "another's record signed by herself": told(
        Identify(signedPeerRecord=record_of(7, "/ip4/6.6.6.6/tcp/1", signer=66))
    ),
    "her own record signed by another": told(Identify(signedPeerRecord=record_of(66, "/ip4/6.6.6.6/tcp/1", signer=7))),
}


async def nothing_stuck(alice: Host, peer: PeerId) -> None:
    """The peerstore is within bounds, and knows nothing of the victim mallory spoke for."""
    store = alice.peerstore
    assert len(store.protocols(peer)) <= 1024
    assert all(isinstance(protocol, str) for protocol in store.protocols(peer))
    assert len(store.addresses(peer)) <= 64
    assert len(str(store.get(peer, "AgentVersion") or "")) <= 256
    assert Multiaddr.parse("/ip4/6.6.6.6/tcp/1") not in store.addresses(peer)  # told in forged records only
    assert store.addresses(VICTIM) == []
    assert store.peer_record(VICTIM) is None
    assert store.public_key(peer) == key(66).public_key


async def served(world: World, mallory: Mallory) -> None:
    """Mallory's connection still serves, and so does everybody else's."""
    alice = world.alice
    await mallory.send(opening(101, ECHO, b"still there"))
    await mallory.until(lambda frame: b"still there" in frame.body)
    mallory.close()
    await settle()
    async with world.honest(1) as bob:
        await bob.connect(alice.peer_info)
        assert await exchange(bob, alice) == b"hello"


@pytest.mark.parametrize("answer", [*FAILING, *PUT_UP_WITH])
def test_a_hostile_answer_fails_or_is_cut_down_and_nobody_suffers(run: Run, answer: str) -> None:
    message = FAILING.get(answer, PUT_UP_WITH.get(answer, b""))

    async def main() -> None:
        async with memory_world() as world:
            alice = world.alice
            alice.set_stream_handler(ECHO, echo)
            with alice.events.subscribe(PeerIdentified, PeerIdentifyFailed) as outcome:
                mallory = await world.mallory()
                asked = await mallory.until(lambda frame: IDENTIFY.encode() in frame.body)
                reply = lazy_proposal(IDENTIFY) + message
                await mallory.send(data(asked.stream, reply, ACK) + frame(WINDOW, FIN, asked.stream, 0))
                with anyio.fail_after(6):
                    event = await outcome.receive()
            assert isinstance(event, PeerIdentifyFailed if answer in FAILING else PeerIdentified), event
            await nothing_stuck(alice, MALLORY)
            await served(world, mallory)

    run(main)


@pytest.mark.parametrize("answer", [*FAILING, *PUT_UP_WITH])
def test_a_hostile_push_is_reset_or_cut_down_and_nobody_suffers(run: Run, answer: str) -> None:
    message = FAILING.get(answer, PUT_UP_WITH.get(answer, b""))

    async def main() -> None:
        async with memory_world() as world:
            alice = world.alice
            alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            await mallory.send(opening(1, PUSH, message) + frame(WINDOW, FIN, 1, 0))
            if answer in FAILING:
                await mallory.until(lambda frame: frame.stream == 1 and bool(frame.flags & RST))
            await settle()
            await nothing_stuck(alice, MALLORY)
            await served(world, mallory)

    run(main)


def test_an_answer_that_never_comes_or_never_ends_is_given_up_after_five_seconds(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            alice = world.alice
            alice.set_stream_handler(ECHO, echo)
            for drips in (False, True):
                with alice.events.subscribe(PeerIdentifyFailed) as failed:
                    mallory = await world.mallory()
                    asked = await mallory.until(lambda frame: IDENTIFY.encode() in frame.body)
                    start = anyio.current_time()
                    await mallory.send(data(asked.stream, lazy_proposal(IDENTIFY) + b"\x80\x20" if drips else b"", ACK))
                    async with anyio.create_task_group() as tasks:

                        async def drip(mallory: Mallory = mallory, stream: int = asked.stream) -> None:
                            for _ in range(100):
                                await mallory.send(data(stream, b"\x00"))
                                await anyio.sleep(0.1)

                        if drips:
                            tasks.start_soon(drip)
                        await failed.receive()
                        tasks.cancel_scope.cancel()
                assert anyio.current_time() - start < 5.1
                await served(world, mallory)

    run(main)


def test_connect_waits_no_longer_than_identify_for_a_peer_that_never_answers(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            world.alice.network.set_stream_handler(lambda _: anyio.sleep(3600))  # every stream is left hanging
            async with world.honest(1) as bob:
                start = anyio.current_time()
                await bob.connect(PeerInfo(world.alice.id, tuple(world.alice.addrs)))
                assert anyio.current_time() - start < 5.1

    run(main)
