"""What a DHT operation tells of itself, step by step: query events, correlated by the query's id.

Three ways to listen: `Dht.watch()` for every operation of a node, `on_event=` for one call, and `watching(callback)`
for all calls made inside a block, however deep. When nobody listens no event is built.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.events import EventBus
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import KEY_BITS, EndReason

logger = logging.getLogger(__name__)

MAX_SINKS = 64  # callbacks that one query tells


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryEvent:
    """One step of an operation."""

    query_id: int
    """Which operation; numbers count up for each Dht, and for both of a DualDht together."""
    at: float
    """Seconds since the operation began."""

    def __str__(self) -> str:
        return f"#{self.query_id} {self.at * 1e3:7.1f} ms  {self._text()}"

    def _text(self) -> str:
        return type(self).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class _PeerEvent(QueryEvent):
    peer: PeerId
    distance: int
    """XOR distance of the peer's key to the target."""

    def _text(self) -> str:
        return f"{type(self).__name__} {self.peer} (shares {KEY_BITS - self.distance.bit_length()} bits)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingQuery(_PeerEvent):
    """A request is about to be sent to the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResponse(_PeerEvent):
    """The peer answered."""

    closer: tuple[PeerInfo, ...]
    """Whom it told of, as it told it."""
    rtt: float
    """Seconds from request to answer."""

    def _text(self) -> str:
        return f"{_PeerEvent._text(self)}: {len(self.closer)} closer peers in {self.rtt * 1e3:.1f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalPeer(_PeerEvent):
    """The peer is part of the outcome: the one looked for, or one of the nearest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddingPeer(_PeerEvent):
    """The lookup heard of the peer for the first time, and may ask it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialingPeer(_PeerEvent):
    """We are not connected to the peer and begin to dial it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryError(QueryEvent):
    """A peer failed (the operation goes on), or, without a peer, the operation did."""

    peer: PeerId | None
    reason: str

    def _text(self) -> str:
        return f"QueryError{f' {self.peer}' if self.peer else ''}: {' '.join(self.reason.split())}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value(QueryEvent):
    """A peer returned a valid value."""

    peer: PeerId
    value: bytes

    def _text(self) -> str:
        return f"Value {self.peer}: {len(self.value)} bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider(QueryEvent):
    """A peer told of providers."""

    peer: PeerId
    providers: tuple[PeerInfo, ...]

    def _text(self) -> str:
        return f"Provider {self.peer}: {len(self.providers)} providers"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupEvent(QueryEvent):
    """A change of the lookup's own state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupStarted(LookupEvent):
    """A lookup begins."""

    node: PeerId
    """Who looks up."""
    key: bytes
    """What is looked up; its SHA-256 is the target."""
    seeds: tuple[PeerId, ...]
    """Where it begins: the nearest of the routing table."""

    def _text(self) -> str:
        return f"LookupStarted with {len(self.seeds)} peers"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupUpdated(LookupEvent):
    """Peers changed their state: those now `heard`, `waiting`, `queried`, `unreachable`."""

    cause: PeerId
    """Whose answer or failure brought this about; ourselves at the start."""
    source: PeerId | None
    """Who told of the peers now heard or waiting (the first of them); None for a seed."""
    heard: tuple[PeerId, ...] = ()
    waiting: tuple[PeerId, ...] = ()
    queried: tuple[PeerId, ...] = ()
    unreachable: tuple[PeerId, ...] = ()

    def _text(self) -> str:
        names = ("heard", "waiting", "queried", "unreachable")
        return "LookupUpdated " + ", ".join(f"{len(peers)} {name}" for name in names if (peers := getattr(self, name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupEnded(LookupEvent):
    """The lookup is over."""

    reason: EndReason
    peers: tuple[PeerId, ...]
    """The nearest that did not fail."""

    def _text(self) -> str:
        return f"LookupEnded {self.reason.value} with {len(self.peers)} peers"


EVENT_TYPES: tuple[type[QueryEvent], ...] = (
    SendingQuery, PeerResponse, FinalPeer, QueryError, AddingPeer, DialingPeer, Value, Provider,
    LookupStarted, LookupUpdated, LookupEnded,
)  # fmt: skip

OnEvent: TypeAlias = Callable[[QueryEvent], None]
"""Called synchronously with each event. Must not block; one that raises is logged and called no more."""

_inherited: ContextVar[tuple[OnEvent, ...]] = ContextVar("dht_query_listeners", default=())


@contextmanager
def watching(on_event: OnEvent) -> Iterator[None]:
    """Tell `on_event` of every DHT operation begun inside the block, by this task or those it starts."""
    token = _inherited.set((*_inherited.get(), on_event)[-MAX_SINKS:])
    try:
        yield
    finally:
        _inherited.reset(token)


def listeners(bus: EventBus, on_event: OnEvent | None) -> list[OnEvent]:
    """Everybody who wants to hear of an operation that begins here and now; usually nobody."""
    found = list(_inherited.get())
    if on_event is not None:
        found.append(on_event)
    if bus.has_subscribers(LookupEnded):
        found.append(bus.publish)
    return found


def tell(found: list[OnEvent], event: QueryEvent) -> None:
    """Give an event to each of the listeners."""
    for listener in list(found):
        try:
            listener(event)
        except Exception:  # a listener's fault is not the lookup's
            logger.exception("a query listener failed; it is called no more")
            found.remove(listener)
