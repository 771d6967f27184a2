"""Drives one lookup: at most α requests in flight, every step told to whoever listens.

What is asked of each peer is the caller's affair (FIND_NODE, GET_VALUE, GET_PROVIDERS), and so is what an answer
carries besides closer peers. The machine decides; a task that has its answer asks the machine for its next peer, so a
lookup of fifty requests takes about ten tasks, the caller's own among them. The end of the lookup cancels what is
still in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import PeerInfo, ip_group, is_public
from py_p2pstack.errors import P2PError, ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import DisjointLookup, Lookup, LookupResult, PeerState, crowded_out
from py_p2pstack.network.deadlines import Deadlines
from py_p2pstack.protocols.dht.codec import Message
from py_p2pstack.protocols.dht.events import (
    AddingPeer,
    DialingPeer,
    LookupEnded,
    LookupStarted,
    LookupUpdated,
    PeerResponse,
    QueryError,
    SendingQuery,
)
from py_p2pstack.protocols.dht.operations import Operation

ASKED = (PeerState.WAITING, PeerState.QUERIED)  # the lookup knows such a peer, and where it is

Take: TypeAlias = Callable[[PeerId, Message], None]
"""Takes in the whole answer of a peer, before the lookup decides how to go on."""


class Network(Protocol):
    """What a lookup needs of the node that runs it."""

    @property
    def local_peer(self) -> PeerId: ...

    def is_connected(self, peer: PeerId) -> bool: ...

    async def dial(self, peer: PeerId) -> None:
        """Connect. Raises P2PError."""
        ...

    async def request(self, peer: PeerId, message: Message) -> Message:
        """Ask one peer. Raises P2PError."""
        ...

    def admits(self, peer: PeerInfo) -> bool:
        """Whether a peer may take part in lookups."""
        ...

    def take_addresses(self, peer: PeerInfo) -> bool:
        """Remember where a peer may be; returns whether it can be dialled (or is connected)."""
        ...

    def answered(self, peer: PeerId) -> None:
        """The peer answered a lookup."""
        ...

    def failed(self, peer: PeerId) -> None:
        """The peer did not."""
        ...


class Query:
    """One lookup on its way."""

    __slots__ = ("_listeners", "_max_per_group", "_network", "_operation", "_request", "_take", "_tasks",
                 "_widening", "lookup", "rtts", "seeds")  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        request: Message,
        seeds: Sequence[PeerId],
        lookup: Lookup[PeerId] | DisjointLookup[PeerId],
        network: Network,
        *,
        widening: Deadlines,
        take: Take | None = None,
        max_per_group: int,
    ) -> None:
        """`widening` has those widened whose time is up that ask few at once."""
        self.seeds = tuple(seeds)
        """Where it begins."""
        self.rtts: dict[PeerId, float] = {}
        """How long each peer took to answer."""
        self.lookup = lookup
        """What decides."""
        self._operation = operation
        self._listeners = operation.listeners
        self._request = request
        self._network = network
        self._widening = widening
        self._take = take
        self._max_per_group = max_per_group

    async def run(self) -> LookupResult[PeerId]:
        """Run to the end. Cancelling ends the lookup and everything it has in flight."""
        us = self._network.local_peer
        if self._listeners:
            self._operation.tell(LookupStarted, node=us, key=self._operation.key, seeds=self.seeds)
            self._tell_changed(us, heard=self.seeds)
        patience = self._widening.start(self._widen) if self.lookup.narrow else None
        try:
            async with anyio.create_task_group() as self._tasks:
                first = self._advance(us)
                if first is not None:
                    await self._work(first)
        finally:
            if patience is not None:
                patience.cancel()
            self.lookup.cancel()
            result = self.lookup.result()
            if self._listeners:
                self._operation.tell(LookupEnded, reason=result.reason, peers=result.peers)
        return result

    def _advance(self, cause: PeerId) -> PeerId | None:
        """Let the machine decide: start a task for each peer to ask but the first, which is returned to the caller."""
        peers = self.lookup.next_queries()
        if self.lookup.ended is not None:
            if self.lookup.waiting:
                self._tasks.cancel_scope.cancel()
            return None
        if self._listeners:
            for peer in peers:
                self._operation.tell(LookupUpdated, cause=cause, source=self.lookup.referrer(peer), waiting=(peer,))
        for peer in peers[1:]:
            self._tasks.start_soon(self._work, peer)
        return peers[0] if peers else None

    def _widen(self) -> None:
        """The few that were asked first may be slow, or gone without a word."""
        self.lookup.widen()
        peer = self._advance(self._network.local_peer)
        if peer is not None:
            self._tasks.start_soon(self._work, peer)

    async def _work(self, peer: PeerId) -> None:
        """Ask one peer after another, as long as there are some."""
        next_peer: PeerId | None = peer
        while next_peer is not None:
            peer = next_peer
            try:
                closer = await self._ask(peer)
            except P2PError as fault:
                self._take_failure(peer, fault)
            else:
                self._take_answer(peer, closer)
            next_peer = self._advance(peer)

    async def _ask(self, peer: PeerId) -> Sequence[PeerInfo]:
        network = self._network
        if not network.is_connected(peer):
            if self._listeners:
                self._operation.tell_of(DialingPeer, peer)
            await network.dial(peer)
            if self.lookup.stops():  # this was the peer looked for: no need to ask it anything
                self._tasks.cancel_scope.cancel()
                await checkpoint()
        if self._listeners:
            self._operation.tell_of(SendingQuery, peer)
        now = self._operation.now
        start = now()
        answer = await network.request(peer, self._request)
        rtt = self.rtts[peer] = now() - start
        closer = [each.info for each in answer.closer_peers]
        if self._listeners:
            self._operation.tell_of(PeerResponse, peer, closer=tuple(closer), rtt=rtt)
        if self._take is not None:
            self._take(peer, answer)
        return closer

    def _take_failure(self, peer: PeerId, fault: P2PError) -> None:
        if not isinstance(fault, ResourceLimitExceeded):  # a limit of ours says nothing about the peer
            self._network.failed(peer)
        self.lookup.failed(peer)
        if self._listeners:
            self._operation.tell(QueryError, peer=peer, reason=str(fault) or type(fault).__name__)
            self._tell_changed(peer, unreachable=(peer,))

    def _take_answer(self, peer: PeerId, closer: Sequence[PeerInfo]) -> None:
        self._network.answered(peer)
        heard = self.lookup.answered(peer, self._usable(closer))
        if self._listeners:
            for each in heard:
                self._operation.tell_of(AddingPeer, each)
            self._tell_changed(peer, heard=heard, queried=(peer,))

    def _usable(self, closer: Sequence[PeerInfo]) -> Iterator[PeerId]:
        """Whom to go on to, of those an answer tells of; looked at only as far as the lookup goes on."""
        network, us = self._network, self._network.local_peer
        key, state = self._operation.key, self.lookup.state
        for info in self._diverse(closer):
            peer = info.peer_id
            if (
                state(peer) not in ASKED
                and peer != us
                and (network.admits(info) or peer.to_bytes() == key)
                and network.take_addresses(info)
            ):
                yield peer

    def _diverse(self, closer: Sequence[PeerInfo]) -> list[PeerInfo]:
        """Without the peers of an IP group that fills more than its share of one answer."""
        crowd = crowded_out([ip_groups(info) for info in closer], self._max_per_group)
        return [info for index, info in enumerate(closer) if index not in crowd]

    # --- telling ----------------------------------------------------------------------------------

    def _tell_changed(
        self,
        cause: PeerId,
        *,
        heard: Sequence[PeerId] = (),
        queried: Sequence[PeerId] = (),
        unreachable: Sequence[PeerId] = (),
    ) -> None:
        source = self.lookup.referrer(heard[0]) if heard else cause
        self._operation.tell(
            LookupUpdated,
            cause=cause,
            source=source,
            heard=tuple(heard),
            queried=tuple(queried),
            unreachable=tuple(unreachable),
        )


# The answers of one lookup tell of the same peers over and over; judging an address anew costs 20 µs.
@lru_cache(maxsize=4096)
def ip_groups(info: PeerInfo) -> frozenset[str]:
    """The IP groups of a peer's public addresses; loopback and private ones belong to none."""
    return frozenset(group for each in info.addresses if is_public(each) and (group := ip_group(each)) is not None)
