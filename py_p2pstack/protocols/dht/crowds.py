"""The way around a crowd: when the peers nearest to a key are nearer than chance puts them, its region is asked too.

Every answer about the key itself is crowded by the same peers, so other keys of the region are looked up, and then
whoever was found in the region is asked for what the operation is about.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from random import Random

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.errors import P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupResult, NetworkSize, PeerState, Region, crowding, honest_region, random_preimage
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.events import PeerResponse, QueryError, SendingQuery
from py_p2pstack.protocols.dht.local_node import LocalNode
from py_p2pstack.protocols.dht.operations import Operation
from py_p2pstack.protocols.dht.queries import Take
from py_p2pstack.protocols.dht.refresh import PEER_ID_PREFIX, PREIMAGE_BATCH

logger = logging.getLogger(__name__)

MAX_BRANCH = 18  # to find a key in which takes 0.4 s of hashing; deep enough for networks of 100,000


class Crowds:
    """Notices crowded keys, and finds and asks the peers of their regions."""

    def __init__(
        self, node: LocalNode, look_up: Callable[[bytes, Region], Awaitable[LookupResult[PeerId]]], rng: Random
    ) -> None:
        """`look_up` looks up a key that lies in a crowded region."""
        self._node = node
        self._config = node.config.security
        self._look_up = look_up
        self._rng = rng

    def region(self, target: int, peers: Sequence[PeerId], network: NetworkSize | None) -> Region | None:
        """The region to ask if the k nearest are suspiciously near; None if all is well, or nothing can be told."""
        if not self._config.sybil_check or network is None:
            return None
        distances = [self._node.key_of(peer) ^ target for peer in peers]
        if crowding(distances, network) > self._config.sybil_alarm:
            return None
        return honest_region(target, network, self._node.config.lookup.k)

    async def explore(self, region: Region, *, timeout: float) -> list[PeerId]:
        """Find the peers of a region, at most `max_region_peers`, by lookups of some of its keys, all at once.

        Returns those found within `timeout` seconds: hostile peers may answer none of our questions, and take all the
        time they are given for it.
        """
        k = self._node.config.lookup.k
        found: list[Sequence[PeerId]] = []

        async def look_up(key: bytes) -> None:
            try:
                found.append((await self._look_up(key, region)).peers)
            except P2PError as fault:
                logger.debug("a part of a region stays in the dark: %s", fault)

        with anyio.move_on_after(timeout):
            async with anyio.create_task_group() as tasks:
                for branch in region.branches(k):
                    if branch <= MAX_BRANCH:
                        tasks.start_soon(look_up, await self._key_in(region, branch))
        # In turns, lest one part of the region, which may be crowded too, takes the places of the others.
        everybody = dict.fromkeys(peer for peer in chain.from_iterable(zip_longest(*found)) if peer is not None)
        inside = [peer for peer in everybody if self._node.key_of(peer) in region]
        return inside[: self._config.max_region_peers]

    async def _key_in(self, region: Region, branch: int) -> bytes:
        while True:
            key = random_preimage(region.target, branch, self._rng, prefix=PEER_ID_PREFIX, attempts=PREIMAGE_BATCH)
            if key is not None:
                return key
            await checkpoint()

    async def cover(
        self,
        operation: Operation,
        request: Message,
        result: LookupResult[PeerId],
        region: Region,
        *,
        take: Take | None,
        stop: Callable[[], bool] | None,
        timeout: float,
    ) -> LookupResult[PeerId]:
        """Explore a region and send `request` to whoever the lookup did not find there, each within half the time.

        A FIND_NODE is not sent: it was what they were found by. Returns the result with them among its peers. The crowd
        stays in it: who of it is hostile, nobody can tell.
        """
        logger.info("the key %064x is crowded: its region is asked too", result.target)
        known = set(result.peers)
        fresh = [peer for peer in await self.explore(region, timeout=timeout / 2) if peer not in known]
        if request.type is not MessageType.FIND_NODE:
            fresh = await self._ask_all(operation, request, fresh, take, stop, timeout / 2)
        fresh += result.peers
        fresh.sort(key=lambda peer: self._node.key_of(peer) ^ result.target)
        return replace(result, peers=tuple(fresh), states=(PeerState.QUERIED,) * len(fresh))

    async def _ask_all(
        self,
        operation: Operation,
        request: Message,
        peers: Sequence[PeerId],
        take: Take | None,
        stop: Callable[[], bool] | None,
        timeout: float,
    ) -> list[PeerId]:
        """Ask peers, α at once; returns who answered within the time."""
        waiting = list(reversed(peers))
        answered = []

        async def work() -> None:
            while waiting:
                peer = waiting.pop()
                if await self._ask(operation, request, peer, take):
                    answered.append(peer)
                if stop is not None and stop():
                    tasks.cancel_scope.cancel()

        with anyio.move_on_after(timeout):
            async with anyio.create_task_group() as tasks:
                for _ in range(min(self._node.config.lookup.alpha, len(peers))):
                    tasks.start_soon(work)
        return answered

    async def _ask(self, operation: Operation, request: Message, peer: PeerId, take: Take | None) -> bool:
        node = self._node
        try:
            if not node.is_connected(peer):
                await node.dial(peer)
            operation.tell_of(SendingQuery, peer)
            start = anyio.current_time()
            answer = await node.messenger.request(peer, request)
            closer = tuple(each.info for each in answer.closer_peers)
            operation.tell_of(PeerResponse, peer, closer=closer, rtt=anyio.current_time() - start)
            if take is not None:
                take(peer, answer)
        except P2PError as fault:
            operation.tell(QueryError, peer=peer, reason=str(fault) or type(fault).__name__)
            return False
        return True
