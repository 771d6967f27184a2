"""A network of nodes that are routing tables and nothing else: lookups among hundreds run in a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random

from py_p2pstack.kademlia import DisjointLookup, Lookup, LookupConfig, LookupResult, RoutingTable, key_of

Peer = int


def key(peer: Peer) -> int:
    """The key of a peer, which is a number here."""
    return key_of(peer.to_bytes(8, "big"))


def drive(
    lookup: Lookup[Peer] | DisjointLookup[Peer],
    ask: Callable[[Peer], Iterable[Peer] | None],
    rng: Random,
    *,
    watch: Callable[[Collection[Peer]], None] = lambda flying: None,
) -> LookupResult[Peer]:
    """Run a lookup to its end, answers coming in any order. `ask` returns the closer peers, None for no answer."""
    flying: list[Peer] = []
    while True:
        flying += lookup.next_queries()
        watch(flying)
        if lookup.ended is not None:
            return lookup.result()
        assert flying, "nothing to wait for and not ended"
        peer = flying.pop(rng.randrange(len(flying)))
        closer = ask(peer)
        if closer is None:
            lookup.failed(peer)
        else:
            lookup.answered(peer, closer)


class Network:
    """Nodes that know each other as far as their buckets go."""

    def __init__(self, size: int, seed: int, *, config: LookupConfig | None = None) -> None:
        self.rng = Random(seed)
        self.config = config or LookupConfig()
        self.peers = list(range(size))
        self.dead: set[Peer] = set()
        self.tables = {peer: RoutingTable(key(peer), key, bucket_size=self.config.k) for peer in self.peers}

    def introduce_everybody(self) -> None:
        """Offer every node to every other, in an order of its own."""
        for peer, table in self.tables.items():
            for other in self.rng.sample(self.peers, len(self.peers)):
                if other != peer:
                    table.add(other, 0.0)

    def answer(self, peer: Peer, target: int) -> list[Peer] | None:
        """FIND_NODE."""
        return None if peer in self.dead else self.tables[peer].nearest(target, self.config.k)

    def lookup(self, origin: Peer, target: int) -> LookupResult[Peer]:
        """Look `target` up from one node; what it learns on the way enters its table, as in life."""
        table = self.tables[origin]
        lookup = Lookup(target, table.nearest(target, self.config.k), key, config=self.config, exclude=[origin])

        def ask(peer: Peer) -> list[Peer] | None:
            closer = self.answer(peer, target)
            if closer is None:
                table.remove(peer)
            else:
                table.add(peer, 0.0)
                self.tables[peer].add(origin, 0.0)
            return closer

        return drive(lookup, ask, self.rng)

    def truly_nearest(self, origin: Peer, target: int) -> list[Peer]:
        """The k living nodes nearest to `target`, the asking one left out."""
        others = (peer for peer in self.peers if peer != origin and peer not in self.dead)
        return sorted(others, key=lambda peer: key(peer) ^ target)[: self.config.k]
