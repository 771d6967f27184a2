"""The iterative lookup as a machine: whom to ask next on the way to a key, and when it is over.

Each peer goes one way, never back:

    heard ──asked──▶ waiting ──answered──▶ queried
                        └─────failed─────▶ unreachable

After each answer: the caller's stop function says so → STOPPED; nobody heard or waiting → STARVED; the β nearest that
are not unreachable have all answered → it has converged. Then comes the follow-up: whoever of the k nearest was not yet
asked is asked too. Unlike go-libp2p's, ours takes in what those answers tell, as the Kademlia paper wants it ("until it
has queried and got responses from the k closest nodes it has seen"): so the result is true and not only likely.
Source: libp2p/specs kad-dht, "Peer routing"; go-libp2p-kad-dht query.go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Generic, TypeVar

from py_p2pstack.errors import LocalProtocolError

P = TypeVar("P", bound=Hashable)


class PeerState(Enum):
    """Where a peer stands in one lookup."""

    HEARD = "heard"
    WAITING = "waiting"
    QUERIED = "queried"
    UNREACHABLE = "unreachable"


class EndReason(Enum):
    """Why a lookup ended."""

    COMPLETED = "completed"
    STARVED = "starved"
    """Everybody known was asked: how a lookup in a small network succeeds."""
    STOPPED = "stopped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupConfig:
    """The parameters of a lookup."""

    k: int = 20
    """How many nearest peers are wanted."""
    alpha: int = 10
    """How many are asked at once."""
    beta: int = 3
    """How many nearest must have answered before the follow-up."""
    max_peers: int = 1024
    """How many peers one lookup keeps, asked or not: a peer that tells of ever nearer ones cannot lead on for ever."""
    follow_up: bool = True
    """Whether all of the k nearest are asked at the end."""

    def __post_init__(self) -> None:
        if not (0 < self.beta <= self.k <= self.max_peers and self.alpha > 0):
            raise ValueError("a lookup needs 0 < beta <= k <= max_peers and alpha > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupResult(Generic[P]):
    """What a lookup found."""

    target: int
    peers: tuple[P, ...]
    """The k nearest that did not fail, nearest first; after a completed follow-up every one of them has answered."""
    states: tuple[PeerState, ...]
    """How each of `peers` stands."""
    closest: tuple[P, ...]
    """The k nearest of all that were heard of, unreachable ones too."""
    reason: EndReason
    queried: int
    """How many answered."""
    unreachable: int
    """How many failed."""
    hops: int
    """The longest chain of referrals to one of `peers` (a seed is 1)."""

    @property
    def completed(self) -> bool:
        """Whether it came to its natural end."""
        return self.reason in (EndReason.COMPLETED, EndReason.STARVED)


class Candidate(Generic[P]):
    """A peer in one lookup."""

    __slots__ = ("distance", "hops", "peer", "referrer", "state")

    def __init__(self, peer: P, distance: int, referrer: P | None, hops: int) -> None:
        self.peer = peer
        self.distance = distance
        self.referrer = referrer
        self.hops = hops
        self.state = PeerState.HEARD


class Lookup(Generic[P]):
    """One lookup towards `target`. Ask `next_queries`, report each answer or failure, ask again, until `ended`."""

    __slots__ = ("_by_peer", "_config", "_converged", "_distances", "_exclude", "_key_of", "_order", "_stop", "_width",
                 "ended", "heard", "queried", "target", "unreachable", "waiting")  # fmt: skip

    def __init__(
        self,
        target: int,
        seeds: Iterable[P],
        key_of: Callable[[P], int],
        *,
        config: LookupConfig,
        exclude: Collection[P] = (),
        stop: Callable[[], bool] | None = None,
        width: int | None = None,
    ) -> None:
        """Begin at `seeds` (the k nearest of the routing table). Of `exclude` (ourselves, the gone) nobody is taken in.

        With `width`, only so many are asked until one of them fails, all have answered and it goes on all the same, or
        `widen` says that they are not enough.
        """
        self.target = target
        self.ended: EndReason | None = None
        """Why it is over; None while it goes on."""
        self.heard = self.waiting = self.queried = self.unreachable = 0
        self._key_of = key_of
        self._config = config
        self._exclude = exclude
        self._stop = stop
        self._width = config.alpha if width is None else max(1, min(width, config.alpha))
        self._converged = False
        self._order: list[Candidate[P]] = []
        self._distances: list[int] = []
        self._by_peer: dict[P, Candidate[P]] = {}
        for peer in seeds:
            self._take_in(peer, None, 1)

    def __repr__(self) -> str:
        counts = f"{self.heard} heard, {self.waiting} waiting, {self.queried} queried, {self.unreachable} unreachable"
        return f"<Lookup {self.target:064x}"[:18] + f"…: {counts}, {self.ended.value if self.ended else 'going on'}>"

    def __len__(self) -> int:
        """How many peers it keeps."""
        return len(self._order)

    def __contains__(self, peer: object) -> bool:
        return peer in self._by_peer

    def state(self, peer: P) -> PeerState | None:
        """Where a peer stands; None if it was never heard of."""
        candidate = self._by_peer.get(peer)
        return None if candidate is None else candidate.state

    def referrer(self, peer: P) -> P | None:
        """Who first told of the peer; None for a seed."""
        return self._by_peer[peer].referrer

    def distance(self, peer: P) -> int:
        """The XOR distance of a peer to the target."""
        return self._key_of(peer) ^ self.target

    def nearest(self) -> list[P]:
        """The k nearest that have not failed so far, asked or not, nearest first."""
        return [candidate.peer for candidate in islice(self._reachable(), self._config.k)]

    # --- deciding ---------------------------------------------------------------------------------

    def next_queries(self) -> list[P]:
        """Decide: either sets `ended`, or returns the peers to ask now (maybe none), which are waiting from here on.

        At most alpha are waiting at any time, and no peer is returned twice.
        """
        if self.stops():
            return []
        if not self.heard and not self.waiting:
            self.ended = EndReason.STARVED
        elif not self._converged and self._nearest_have_answered(self._config.beta):
            self._converged = True
        if self.ended is None and self._converged:
            goal = self._config.k if self._config.follow_up else 0
            if self._nearest_have_answered(goal):
                self.ended = EndReason.COMPLETED
        if self.ended is not None:
            return []
        candidates: Iterable[Candidate[P]] = self._order
        if self._converged:
            candidates = islice(self._reachable(), self._config.k)
        if self.queried >= self._width:
            self.widen()
        free = self._width - self.waiting - (self.queried if self.narrow else 0)
        chosen = list(islice((each for each in candidates if each.state is PeerState.HEARD), max(free, 0)))
        for candidate in chosen:
            candidate.state = PeerState.WAITING
        self.heard -= len(chosen)
        self.waiting += len(chosen)
        return [candidate.peer for candidate in chosen]

    def stops(self) -> bool:
        """Whether it is over, or the stop function says so now (which ends it). Ask between two answers if you like."""
        if self.ended is None and self._stop is not None and self._stop():
            self.ended = EndReason.STOPPED
        return self.ended is not None

    def answered(self, peer: P, closer: Iterable[P]) -> list[P]:
        """Take in the answer of a waiting peer; returns those of `closer` not heard of before.

        At most 2k of `closer` are looked at: an honest peer tells of k (go-libp2p-kad-dht: queryPeer); none if the stop
        function says that this answer was enough. An answer that comes after the end changes nothing.
        Raises LocalProtocolError for a peer that was not asked.
        """
        candidate = self._waiting_candidate(peer)
        if self.ended is not None:
            return []
        candidate.state = PeerState.QUERIED
        self.waiting -= 1
        self.queried += 1
        if self.stops():
            return []
        hops = candidate.hops + 1
        return [each for each in islice(closer, 2 * self._config.k) if self._take_in(each, peer, hops)]

    def failed(self, peer: P) -> None:
        """Take in that a waiting peer did not answer. Raises LocalProtocolError for a peer that was not asked."""
        candidate = self._waiting_candidate(peer)
        if self.ended is None:
            candidate.state = PeerState.UNREACHABLE
            self.waiting -= 1
            self.unreachable += 1
            self.widen()

    @property
    def narrow(self) -> bool:
        """Whether it has asked its first few only, so far."""
        return self._width < self._config.alpha

    def widen(self) -> None:
        """Ask alpha at once from now on."""
        self._width = self._config.alpha

    def cancel(self) -> None:
        """End it from outside; nothing happens if it is over."""
        if self.ended is None:
            self.ended = EndReason.CANCELLED

    def result(self) -> LookupResult[P]:
        """What was found, once it `ended`."""
        if self.ended is None:
            raise LocalProtocolError("the lookup goes on")
        k = self._config.k
        found = list(islice(self._reachable(), k))
        return LookupResult(
            target=self.target,
            peers=tuple(candidate.peer for candidate in found),
            states=tuple(candidate.state for candidate in found),
            closest=tuple(candidate.peer for candidate in self._order[:k]),
            reason=self.ended,
            queried=self.queried,
            unreachable=self.unreachable,
            hops=max((candidate.hops for candidate in found), default=0),
        )

    # --- the peers --------------------------------------------------------------------------------

    def _reachable(self) -> Iterator[Candidate[P]]:
        return (each for each in self._order if each.state is not PeerState.UNREACHABLE)

    def _nearest_have_answered(self, count: int) -> bool:
        return all(each.state is PeerState.QUERIED for each in islice(self._reachable(), count))

    def _waiting_candidate(self, peer: P) -> Candidate[P]:
        candidate = self._by_peer.get(peer)
        if candidate is None or candidate.state is not PeerState.WAITING:
            raise LocalProtocolError(f"{peer!r} was not asked")
        return candidate

    def _take_in(self, peer: P, referrer: P | None, hops: int) -> bool:
        if peer in self._by_peer or peer in self._exclude:
            return False
        distance = self._key_of(peer) ^ self.target
        if len(self._order) >= self._config.max_peers and not self._make_room(distance):
            return False
        candidate = self._by_peer[peer] = Candidate(peer, distance, referrer, hops)
        index = bisect_right(self._distances, distance)  # of the equally distant, who was heard of first is first
        self._distances.insert(index, distance)
        self._order.insert(index, candidate)
        self.heard += 1
        return True

    def _make_room(self, distance: int) -> bool:
        """Drop the farthest peer that is only heard of, if it is farther than the newcomer."""
        for index in range(len(self._order) - 1, -1, -1):
            candidate = self._order[index]
            if candidate.distance <= distance:
                return False
            if candidate.state is PeerState.HEARD:
                del self._order[index], self._distances[index]
                del self._by_peer[candidate.peer]
                self.heard -= 1
                return True
        return False
