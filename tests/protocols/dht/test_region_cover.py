"""The decisions around a crowded key: when a region is asked, whom, how many, and for how long."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import anyio
import pytest

from py_p2pstack import DhtConfig
from py_p2pstack.errors import DialError, LookupFailure, StreamReset
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import EndReason, LookupConfig, LookupResult, NetworkSize, PeerState, Region, key_of
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.crowds import Crowds
from py_p2pstack.protocols.dht.operations import Operation
from py_p2pstack.protocols.dht.security_config import SecurityConfig
from tests.peer_ids import peer as numbered
from tests.protocols.dht.nodes import in_virtual_time

K = 4
EVERYWHERE = Region(0, (1 << 256) - 1)
NETWORK = NetworkSize(1000.0, 0.1)
KEY = b"/v/x"


class FakeNode:
    """Peers that answer, but for those that fail."""

    def __init__(self, **security: Any) -> None:
        self.config = DhtConfig(lookup=LookupConfig(k=K, alpha=2, beta=1), security=SecurityConfig(**security))
        self.asked: list[PeerId] = []
        self.failing: set[PeerId] = set()
        self.unreachable: set[PeerId] = set()
        self.at_once = self.most_at_once = 0
        self.messenger = self

    @staticmethod
    def key_of(peer: PeerId) -> int:
        return key_of(peer.to_bytes())

    def is_connected(self, peer: PeerId) -> bool:
        return False

    async def dial(self, peer: PeerId) -> None:
        if peer in self.unreachable:
            raise DialError(peer, [])

    async def request(self, peer: PeerId, message: Message) -> Message:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await anyio.sleep(1)
        self.at_once -= 1
        self.asked.append(peer)
        if peer in self.failing:
            raise StreamReset
        return message


def crowds(node: FakeNode, look_up: Callable[[bytes, Region], Awaitable[Any]]) -> Crowds:
    return Crowds(cast(Any, node), look_up, random.Random(1))


def result(peers: Sequence[PeerId], target: int = 0) -> LookupResult[PeerId]:
    states = (PeerState.QUERIED,) * len(peers)
    return LookupResult(
        target=target, peers=tuple(peers), states=states, closest=tuple(peers), reason=EndReason.COMPLETED,
        queried=len(peers), unreachable=0, hops=1,
    )  # fmt: skip


async def nobody(key: bytes, region: Region) -> LookupResult[PeerId]:
    raise LookupFailure


async def cover(
    node: FakeNode, found: Sequence[PeerId], kind: MessageType, **hooks: Any
) -> tuple[LookupResult[PeerId], list[PeerId]]:
    """Cover the whole key space, in which `found` are found, after a lookup that found the first two."""
    took: list[PeerId] = []

    async def look_up(key: bytes, region: Region) -> LookupResult[PeerId]:
        return result(found)

    covered = await crowds(node, look_up).cover(
        Operation(1, KEY, []),
        Message(type=kind, key=KEY),
        result(found[:2]),
        EVERYWHERE,
        take=lambda peer, answer: took.append(peer),
        **{"stop": None, "timeout": 100.0, **hooks},
    )
    return covered, took


PEERS = [numbered(index) for index in range(1, 13)]


def test_a_region_is_asked_only_if_the_nearest_are_nearer_than_chance_puts_them() -> None:
    target = FakeNode.key_of(PEERS[0]) ^ 1
    crowded, far = [PEERS[0]] * K, PEERS[:K]
    here = crowds(FakeNode(), nobody)
    region = here.region(target, crowded, NETWORK)
    assert region is not None
    assert NETWORK.expected(region.radius) == pytest.approx(K)
    assert here.region(target ^ (1 << 255), far, NETWORK) is None
    assert here.region(target, crowded, None) is None
    assert crowds(FakeNode(sybil_check=False), nobody).region(target, crowded, NETWORK) is None
    assert crowds(FakeNode(sybil_alarm=1.0), nobody).region(target ^ (1 << 255), far, NETWORK) is not None


@in_virtual_time
async def test_parts_of_a_region_that_do_not_answer_keep_nobody_from_the_others() -> None:
    answers = iter([result(PEERS[:3]), None, result(PEERS[3:5])])

    async def look_up(key: bytes, region: Region) -> LookupResult[PeerId]:
        answer = next(answers)
        if answer is None:
            raise LookupFailure
        if answer.peers[0] == PEERS[3]:
            await anyio.sleep_forever()
        return answer

    found = await crowds(FakeNode(), look_up).explore(EVERYWHERE, timeout=5.0)
    assert set(found) == set(PEERS[:3])
    assert anyio.current_time() < 10


@in_virtual_time
async def test_the_peers_of_a_region_are_bounded_and_taken_from_its_parts_in_turns() -> None:
    parts = iter([result(PEERS[:6]), result(PEERS[6:9]), result(PEERS[9:])])

    async def look_up(key: bytes, region: Region) -> LookupResult[PeerId]:
        return next(parts)

    found = await crowds(FakeNode(max_region_peers=6), look_up).explore(EVERYWHERE, timeout=5.0)
    assert len(found) == 6
    assert set(found) == {*PEERS[:2], *PEERS[6:8], *PEERS[9:11]}


@in_virtual_time
async def test_peers_outside_of_the_region_are_left_out() -> None:
    async def look_up(key: bytes, region: Region) -> LookupResult[PeerId]:
        return result(PEERS)

    region = Region(0, 1 << 255)
    found = await crowds(FakeNode(), look_up).explore(region, timeout=5.0)
    assert set(found) == {peer for peer in PEERS if FakeNode.key_of(peer) in region}


@in_virtual_time
async def test_whoever_the_lookup_did_not_find_is_asked_alpha_at_once_and_belongs_to_the_result_if_it_answers() -> None:
    node = FakeNode()
    node.failing, node.unreachable = {PEERS[4]}, {PEERS[5]}
    covered, took = await cover(node, PEERS, MessageType.GET_VALUE)
    assert set(node.asked) == set(PEERS[2:]) - node.unreachable
    assert set(took) == set(PEERS[2:]) - node.unreachable - node.failing
    assert set(covered.peers) == {*PEERS[:2], *took}
    assert list(covered.peers) == sorted(covered.peers, key=node.key_of)
    assert len(covered.states) == len(covered.peers)
    assert node.most_at_once == 2


@in_virtual_time
async def test_a_find_node_asks_nobody_again() -> None:
    node = FakeNode()
    covered, _ = await cover(node, PEERS, MessageType.FIND_NODE)
    assert not node.asked
    assert set(covered.peers) == set(PEERS)


@in_virtual_time
async def test_asking_ends_when_it_is_enough_and_when_its_time_is_over() -> None:
    node = FakeNode()
    await cover(node, PEERS, MessageType.GET_VALUE, stop=lambda: len(node.asked) >= 2)
    assert len(node.asked) == 2
    slow = FakeNode()
    covered, _ = await cover(slow, PEERS, MessageType.GET_VALUE, timeout=5.0)
    assert len(slow.asked) == 4
    assert set(covered.peers) == {*PEERS[:2], *slow.asked}
