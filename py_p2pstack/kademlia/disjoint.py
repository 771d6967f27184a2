"""One lookup on several paths that share no peer: a liar leads its own path astray and no other.

Each path is a lookup of its own. It begins at its share of the seeds, and what a peer answers is told to the path that
asked it only. A peer may be heard of on several paths but is asked on one, whichever comes first: so a path cannot
take peers away from the others by hearing of them. For the others such a peer counts as asked (they need not wait for
more than that it answered), but they do not learn what it told. The result is the nearest of all paths.
Source: Baumgart and Mies, "S/Kademlia: A Practicable Approach Towards Secure Key-Based Routing", 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Generic, TypeVar

from py_p2pstack.errors import LocalProtocolError
from py_p2pstack.kademlia.lookup import Candidate, EndReason, Lookup, LookupConfig, LookupResult, PeerState

P = TypeVar("P", bound=Hashable)
_distance = attrgetter("distance")


class _Path(Lookup[P]):
    """One of the paths."""

    __slots__ = ()

    def settle(self, peer: P, state: PeerState) -> None:
        """Take in how a peer stands that another path asked."""
        candidate = self._by_peer.get(peer)
        if candidate is not None:
            self.heard -= candidate.state is PeerState.HEARD
            candidate.state = state

    def candidates(self) -> Iterable[Candidate[P]]:
        return self._order


class DisjointLookup(Generic[P]):
    """A lookup on several paths, used as a `Lookup` is: `next_queries`, `answered` or `failed`, until `ended`."""

    __slots__ = ("_config", "_owner", "_paths", "_stop", "ended", "target")

    def __init__(
        self,
        target: int,
        seeds: Iterable[P],
        key_of: Callable[[P], int],
        *,
        paths: int,
        config: LookupConfig,
        exclude: Collection[P] = (),
        stop: Callable[[], bool] | None = None,
    ) -> None:
        """Deal the seeds out to `paths` paths, nearest first; α is shared among them. Needs 1 <= paths <= α."""
        if not 1 <= paths <= config.alpha:
            raise ValueError(f"{paths} paths cannot share {config.alpha} requests")
        self.target = target
        self.ended: EndReason | None = None
        """Why it is over; None while it goes on."""
        self._config = config
        self._stop = stop
        self._owner: dict[P, _Path[P]] = {}  # who asked, or asks, a peer
        ordered = sorted(dict.fromkeys(seeds), key=lambda peer: key_of(peer) ^ target)
        self._paths = [
            _Path(
                target,
                ordered[index::paths],
                key_of,
                config=replace(
                    config,
                    alpha=config.alpha // paths + (index < config.alpha % paths),
                    max_peers=max(config.max_peers // paths, config.k),
                ),
                exclude=exclude,
            )
            for index in range(paths)
        ]

    def __repr__(self) -> str:
        ended = self.ended.value if self.ended else "going on"
        return f"<DisjointLookup {self.target:064x}"[:26] + f"… on {len(self._paths)} paths: {ended}>"

    def __len__(self) -> int:
        """How many peers it keeps."""
        return len(self._union())

    def __contains__(self, peer: object) -> bool:
        return any(peer in path for path in self._paths)

    @property
    def heard(self) -> int:
        """How many peers are heard of and not asked."""
        return sum(candidate.state is PeerState.HEARD for candidate in self._union().values())

    @property
    def waiting(self) -> int:
        """How many are asked and have not answered: at most α."""
        return sum(path.waiting for path in self._paths)

    @property
    def queried(self) -> int:
        """How many have answered."""
        return sum(path.queried for path in self._paths)

    @property
    def unreachable(self) -> int:
        """How many have failed."""
        return sum(path.unreachable for path in self._paths)

    def state(self, peer: P) -> PeerState | None:
        """Where a peer stands; None if it was never heard of."""
        path = self._path_of(peer)
        return None if path is None else path.state(peer)

    def referrer(self, peer: P) -> P | None:
        """Who first told of the peer, on the path that asks it; None for a seed."""
        path = self._path_of(peer)
        if path is None:
            raise KeyError(peer)
        return path.referrer(peer)

    def distance(self, peer: P) -> int:
        """The XOR distance of a peer to the target."""
        return self._paths[0].distance(peer)

    def nearest(self) -> list[P]:
        """The k nearest that have not failed so far, asked or not, nearest first."""
        return [candidate.peer for candidate in self._reachable()[: self._config.k]]

    # --- deciding ---------------------------------------------------------------------------------

    @property
    def narrow(self) -> bool:
        """Never: each path has its own few requests from the start."""
        return False

    def widen(self) -> None:
        """It is as wide as it will be."""

    def next_queries(self) -> list[P]:
        """Decide: either sets `ended`, or returns the peers to ask now (maybe none), which are waiting from here on."""
        if self.stops():
            return []
        chosen: list[P] = []
        for path in self._paths:
            if path.ended is None:
                for peer in path.next_queries():
                    self._owner[peer] = path
                    self._settle_elsewhere(peer)
                    chosen.append(peer)
        reasons = {path.ended for path in self._paths}
        if None not in reasons:
            self.ended = EndReason.COMPLETED if EndReason.COMPLETED in reasons else EndReason.STARVED
        return chosen

    def stops(self) -> bool:
        """Whether it is over, or the stop function says so now (which ends it)."""
        if self.ended is None and self._stop is not None and self._stop():
            self.ended = EndReason.STOPPED
        return self.ended is not None

    def answered(self, peer: P, closer: Iterable[P]) -> list[P]:
        """Take in the answer of a waiting peer, on its path; returns those of `closer` no path had heard of before.

        Raises LocalProtocolError for a peer that was not asked.
        """
        path = self._owner_of(peer)
        if self.ended is not None:
            return []
        heard = path.answered(peer, closer)
        path.settle(peer, PeerState.QUERIED)  # it may have answered after the end of its path
        self._settle_elsewhere(peer, PeerState.QUERIED)
        for each in heard:
            owner = self._owner.get(each)
            if owner is not None and owner is not path:
                path.settle(each, owner.state(each) or PeerState.HEARD)
        return [each for each in heard if not any(each in other for other in self._paths if other is not path)]

    def failed(self, peer: P) -> None:
        """Take in that a waiting peer did not answer. Raises LocalProtocolError for a peer that was not asked."""
        path = self._owner_of(peer)
        if self.ended is None:
            path.failed(peer)
            path.settle(peer, PeerState.UNREACHABLE)
            self._settle_elsewhere(peer, PeerState.UNREACHABLE)

    def cancel(self) -> None:
        """End it from outside; nothing happens if it is over."""
        if self.ended is None:
            self.ended = EndReason.CANCELLED

    def result(self) -> LookupResult[P]:
        """What was found on all paths, once it `ended`."""
        if self.ended is None:
            raise LocalProtocolError("the lookup goes on")
        k = self._config.k
        found = self._reachable()[:k]
        closest = sorted(self._union().values(), key=_distance)[:k]
        return LookupResult(
            target=self.target,
            peers=tuple(candidate.peer for candidate in found),
            states=tuple(candidate.state for candidate in found),
            closest=tuple(candidate.peer for candidate in closest),
            reason=self.ended,
            queried=self.queried,
            unreachable=self.unreachable,
            hops=max((candidate.hops for candidate in found), default=0),
        )

    # --- the paths --------------------------------------------------------------------------------

    def _path_of(self, peer: P) -> _Path[P] | None:
        return self._owner.get(peer) or next((path for path in self._paths if peer in path), None)

    def _owner_of(self, peer: P) -> _Path[P]:
        path = self._owner.get(peer)
        if path is None or path.state(peer) is not PeerState.WAITING:
            raise LocalProtocolError(f"{peer!r} was not asked")
        return path

    def _settle_elsewhere(self, peer: P, state: PeerState = PeerState.WAITING) -> None:
        owner = self._owner[peer]
        for path in self._paths:
            if path is not owner:
                path.settle(peer, state)

    def _union(self) -> dict[P, Candidate[P]]:
        """Every peer once, as it stands on the path that asked it, if any did."""
        union: dict[P, Candidate[P]] = {}
        for path in self._paths:
            for candidate in path.candidates():
                if self._owner.get(candidate.peer) is path:
                    union[candidate.peer] = candidate
                else:
                    union.setdefault(candidate.peer, candidate)
        return union

    def _reachable(self) -> list[Candidate[P]]:
        reachable = (each for each in self._union().values() if each.state is not PeerState.UNREACHABLE)
        return sorted(reachable, key=_distance)
