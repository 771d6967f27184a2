"""A lookup as a tree, made from its events: who told of whom, how near each is, and how it stands. No I/O.

An operation may make several: one after the other, or one in each of two DHTs. They are one tree, which goes on as long
as any of them does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log2

from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import KEY_BITS, PeerState, key_of
from py_p2pstack.protocols.dht import (
    DialingPeer,
    FinalPeer,
    LookupEnded,
    LookupStarted,
    LookupUpdated,
    PeerResponse,
    Provider,
    QueryError,
    QueryEvent,
    SendingQuery,
    Value,
)

MAX_HOPS = 2048  # peers in one tree; a lookup keeps 1,024


@dataclass(slots=True)
class Hop:
    """A peer in the tree."""

    peer: PeerId
    distance: int
    """XOR distance to the target."""
    state: PeerState = PeerState.HEARD
    rtt: float | None = None
    """Seconds of its answer."""
    dialing: bool = False
    reason: str = ""
    """Why it is unreachable."""
    final: bool = False
    """Whether it is part of the outcome."""
    stored: bool = False
    """Whether it was written to after the lookup."""
    found: str = ""
    """What it told of besides peers."""
    children: list[Hop] = field(default_factory=list)
    """Whom it told of first, in the order they were heard of."""

    @property
    def shared_bits(self) -> int:
        """How many leading bits its key shares with the target."""
        return KEY_BITS - self.distance.bit_length()

    @property
    def nearness(self) -> float:
        """256 - log2 of the distance: one more is half as far."""
        return KEY_BITS - log2(self.distance) if self.distance else float(KEY_BITS)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the drawn tree."""

    hop: Hop | None
    """None: a line that stands for `unasked` peers, which were heard of and not asked."""
    unasked: int
    last: tuple[bool, ...]
    """From the root down: whether this branch is the last one at its parent."""


class LookupTree:
    """Takes in the events of one operation."""

    def __init__(self) -> None:
        self.node: PeerId | None = None
        """Who looks up."""
        self.key = b""
        self.elapsed = 0.0
        """Seconds, up to the last event."""
        self.ended = ""
        """Why the lookup ended; empty while it goes on."""
        self.failure = ""
        """Why the operation failed."""
        self.found_here = ""
        """What we have ourselves."""
        self.hops: dict[PeerId, Hop] = {}
        self.seeds: list[Hop] = []
        self._target = 0
        self._going_on = 0

    def __repr__(self) -> str:
        return f"<LookupTree {len(self.hops)} peers, {self.ended or 'going on'}>"

    def count(self, state: PeerState) -> int:
        """How many peers stand like that."""
        return sum(hop.state is state for hop in self.hops.values())

    @property
    def depth(self) -> int:
        """The longest chain of referrals to a peer that was asked."""
        return max((len(row.last) for row in self.rows() if row.hop is not None), default=0)

    @property
    def target(self) -> int:
        """Where the key lies."""
        return self._target

    def take(self, event: QueryEvent) -> None:
        """Take in the next event."""
        self.elapsed = max(self.elapsed, event.at)
        match event:
            case LookupStarted():
                self.node, self.key = event.node, event.key
                self._target = key_of(event.key)
                self.ended = self.failure = ""
                self._going_on += 1
            case LookupUpdated():
                self._update(event)
            case LookupEnded():
                self._going_on -= 1
                if not self._going_on:
                    self.ended = event.reason.value
            case QueryError(peer=None):
                if self.node is None:
                    self.failure = event.reason
            case QueryError(peer=PeerId() as peer):
                hop = self._hop(peer)
                hop.reason, hop.stored = event.reason, False
            case DialingPeer():
                self._hop(event.peer).dialing = True
            case SendingQuery():
                self._hop(event.peer).dialing = False
            case PeerResponse():
                hop = self._hop(event.peer)
                hop.dialing = False
                if hop.rtt is None:
                    hop.rtt = event.rtt
                if hop.final and not self._going_on:
                    hop.stored = True
            case FinalPeer():
                self._hop(event.peer).final = True
            case Value():
                self._note(event.peer, f"has a value of {len(event.value)} byte{'s' if len(event.value) != 1 else ''}")
            case Provider():
                self._note(
                    event.peer, f"knows {len(event.providers)} provider{'s' if len(event.providers) != 1 else ''}"
                )

    def _note(self, peer: PeerId, found: str) -> None:
        """Remember what a peer told of; what we have ourselves is told before the lookup begins."""
        if peer in self.hops:
            self.hops[peer].found = found
        else:
            self.found_here = found

    def _update(self, event: LookupUpdated) -> None:
        parent = self.hops.get(event.source) if event.source is not None else None
        for state in PeerState:
            for peer in getattr(event, state.value):
                if peer in self.hops:
                    self.hops[peer].state = state
                elif state is PeerState.HEARD and len(self.hops) < MAX_HOPS:
                    self._hop(peer, parent)

    def _hop(self, peer: PeerId, parent: Hop | None = None) -> Hop:
        hop = self.hops.get(peer)
        if hop is None:
            hop = Hop(peer, key_of(peer.to_bytes()) ^ self._target)
            if len(self.hops) < MAX_HOPS:
                self.hops[peer] = hop
                (self.seeds if parent is None else parent.children).append(hop)
        return hop

    def rows(self) -> Iterator[Row]:
        """The lines of the tree, the root's left out: peers asked or final, and how many others each one told of."""
        yield from _rows(self.seeds, ())


def _rows(hops: list[Hop], last: tuple[bool, ...]) -> Iterator[Row]:
    drawn = [hop for hop in hops if hop.state is not PeerState.HEARD or hop.final or hop.children]
    unasked = len(hops) - len(drawn)
    for index, hop in enumerate(drawn):
        branch = (*last, index == len(drawn) - 1 and not unasked)
        yield Row(hop, 0, branch)
        yield from _rows(hop.children, branch)
    if unasked:
        yield Row(None, unasked, (*last, True))
