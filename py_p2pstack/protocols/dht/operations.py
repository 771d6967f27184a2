"""One thing an application asked of the DHT, as it is told to those who listen."""

from __future__ import annotations

from py_p2pstack.event_loop import clock
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import key_of
from py_p2pstack.protocols.dht.events import OnEvent, QueryEvent, tell


class Operation:
    """A put, get, search, provide, lookup…: its number, its key, and its listeners, usually none.

    Ask `listeners` before building what an event is made of: when nobody listens, nothing is.
    """

    __slots__ = ("key", "listeners", "now", "query_id", "start", "target")

    def __init__(self, query_id: int, key: bytes, listeners: list[OnEvent]) -> None:
        self.query_id = query_id
        self.key = key
        self.target = key_of(key)
        """Where the key lies."""
        self.listeners = listeners
        self.now = clock()
        """Tells the time."""
        self.start = self.now()

    def tell(self, kind: type[QueryEvent], **details: object) -> None:
        """Tell of a step."""
        if self.listeners:
            tell(self.listeners, kind(query_id=self.query_id, at=self.now() - self.start, **details))

    def tell_of(self, kind: type[QueryEvent], peer: PeerId, **details: object) -> None:
        """Tell of a step that concerns a peer, and how far from the key it is."""
        if self.listeners:
            self.tell(kind, peer=peer, distance=key_of(peer.to_bytes()) ^ self.target, **details)
