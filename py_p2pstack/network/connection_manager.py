"""Which connections are worth keeping: tags that protocols put on peers, and two watermarks on their number.

Above the high watermark, connections are closed down to the low one: those of the least valued peers first.
Young ones are left alone, and count for nothing here: else a flood of newcomers, all in their grace, would
have us close every old friend. Protected peers stay, but count: they take up room as the others do. Source:
go-libp2p connmgr.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.identity import PeerId


class ManagedConnection(Protocol):
    """What the manager sees of a connection."""

    @property
    def remote_peer(self) -> PeerId: ...

    @property
    def info(self) -> ConnectionInfo: ...

    @property
    def streams(self) -> Collection[object]: ...

    @property
    def closed(self) -> bool: ...

    def close(self, code: int = 0) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionManagerConfig:
    """The knobs of the connection manager; the figures are go-libp2p's."""

    low_water: int = 160
    """Down to how many connections trimming goes; 0 turns it off."""
    high_water: int = 192
    """At how many connections it begins; 0 turns it off."""
    grace_period: float = 60.0
    """Seconds for which a new peer's connections are left alone."""
    silence_period: float = 10.0
    """Least seconds between two trims."""
    decay_resolution: float = 60.0
    """Decaying tags lose value at most so often, in seconds."""
    max_tags_per_peer: int = 64
    """Tags of one peer, decaying ones included."""
    max_unconnected: int = 4096
    """Peers tagged before they are connected; the longest untouched is forgotten first."""
    max_protected: int = 65_536
    """Peers under protection."""


class _Peer:
    __slots__ = ("connections", "decaying", "first_seen", "tags")

    def __init__(self) -> None:
        self.connections: list[ManagedConnection] = []
        self.tags: dict[str, int] = {}
        self.decaying: dict[DecayingTag, int] = {}
        self.first_seen = 0.0

    @property
    def value(self) -> int:
        return sum(self.tags.values()) + sum(self.decaying.values())


class DecayingTag:
    """A tag whose value for each peer shrinks with time; see `ConnectionManager.register_decaying_tag`."""

    __slots__ = ("_decay", "_manager", "_next", "interval", "name")

    def __init__(
        self, manager: ConnectionManager, name: str, interval: float, decay: Callable[[int], int], now: float
    ) -> None:
        """For the manager."""
        self._manager = manager
        self._decay = decay
        self._next = now + interval
        self.name = name
        self.interval = interval
        """Seconds between two losses of value."""

    def bump(self, peer: PeerId, delta: int) -> None:
        """Add `delta` to the peer's value. Raises ResourceLimitExceeded: too many tags on the peer."""
        entry = self._manager._entry(peer)
        self._manager._check_room(entry, self in entry.decaying)
        entry.decaying[self] = entry.decaying.get(self, 0) + delta

    def remove(self, peer: PeerId) -> None:
        """Take the tag off a peer."""
        entry = self._manager._find(peer)
        if entry is not None:
            entry.decaying.pop(self, None)

    def close(self) -> None:
        """Take the tag off every peer and decay no more; idempotent."""
        self._manager._forget_tag(self)

    def _tick(self, entries: Collection[_Peer], now: float) -> None:
        if now < self._next:
            return
        self._next = now + self.interval
        for entry in entries:
            value = entry.decaying.get(self)
            if value is None:
                continue
            value = self._decay(value)
            if value > 0:
                entry.decaying[self] = value
            else:
                del entry.decaying[self]


def decay_fixed(loss: int) -> Callable[[int], int]:
    """A decay that takes `loss` each time."""
    return lambda value: value - loss


def decay_linear(share: float) -> Callable[[int], int]:
    """A decay that leaves `share` (0..1) of the value each time, rounded down."""
    return lambda value: int(value * share)


class ConnectionManager:
    """Implements `core.host.ConnectionManager`. Pure: `now` is monotonic time in seconds."""

    def __init__(self, config: ConnectionManagerConfig | None = None) -> None:
        self._config = config or ConnectionManagerConfig()
        self._connected: dict[PeerId, _Peer] = {}
        self._expected: OrderedDict[PeerId, _Peer] = OrderedDict()
        self._protected: dict[PeerId, set[str]] = {}
        self._decaying: dict[str, DecayingTag] = {}
        self._count = 0
        self._last_trim: float | None = None

    def __repr__(self) -> str:
        return f"<ConnectionManager {self._count} connections, {len(self._connected)} peers>"

    @property
    def connection_count(self) -> int:
        """How many connections are counted."""
        return self._count

    # --- what the swarm tells -----------------------------------------------------------------------

    def connected(self, connection: ManagedConnection, now: float) -> None:
        """Count a new connection; the peer's grace begins with its first."""
        peer = connection.remote_peer
        entry = self._connected.get(peer)
        if entry is None:
            entry = self._expected[peer] if peer in self._expected else _Peer()
            self._expected.pop(peer, None)
            self._connected[peer] = entry
            entry.first_seen = now
        if not any(other is connection for other in entry.connections):
            entry.connections.append(connection)
            self._count += 1

    def disconnected(self, connection: ManagedConnection, now: float) -> None:
        """Count a connection no longer; with the peer's last its tags go, its protection stays."""
        peer = connection.remote_peer
        entry = self._connected.get(peer)
        if entry is None:
            return
        rest = [other for other in entry.connections if other is not connection]
        self._count -= len(entry.connections) - len(rest)
        entry.connections = rest
        if not rest:
            del self._connected[peer]

    def connections_to_trim(self, now: float) -> list[ManagedConnection]:
        """The connections to close now, least valued first; none most of the time.

        Ask every few seconds: decaying tags decay by it.
        """
        self._decay(now)
        config = self._config
        if not config.low_water or not config.high_water or self._count < config.high_water:
            return []
        if self._last_trim is not None and now < self._last_trim + config.silence_period:
            return []
        settled = 0
        candidates: list[tuple[tuple[int, bool, bool, int], list[ManagedConnection]]] = []
        for peer, entry in self._connected.items():
            if entry.first_seen > now - config.grace_period:
                continue
            live = [connection for connection in entry.connections if not connection.closed]
            settled += len(live)
            if live and peer not in self._protected:
                candidates.append((_rank(entry, live), live))
        candidates.sort(key=lambda candidate: candidate[0])
        chosen: list[ManagedConnection] = []
        surplus = settled - config.low_water
        for _, connections in candidates:
            if len(chosen) >= surplus:
                break
            chosen += connections
        if chosen:
            self._last_trim = now
        return chosen

    # --- what protocols tell ------------------------------------------------------------------------

    def tag_peer(self, peer: PeerId, tag: str, value: int) -> None:
        """Give `peer` the value `value` under `tag`, in place of an earlier one.

        Tags put on before the connection count once it is there. Raises ResourceLimitExceeded: too many tags
        on the peer.
        """
        entry = self._entry(peer)
        self._check_room(entry, tag in entry.tags)
        entry.tags[tag] = value

    def untag_peer(self, peer: PeerId, tag: str) -> None:
        """Take `tag` off; unknown ones are ignored."""
        entry = self._find(peer)
        if entry is not None:
            entry.tags.pop(tag, None)

    def upsert_tag(self, peer: PeerId, tag: str, change: Callable[[int], int]) -> None:
        """Replace the value under `tag` (0 if none) by what `change` makes of it; raises as `tag_peer`."""
        entry = self._find(peer)
        self.tag_peer(peer, tag, change(entry.tags.get(tag, 0) if entry is not None else 0))

    def tags(self, peer: PeerId) -> dict[str, int]:
        """All tags of a peer, decaying ones included."""
        entry = self._find(peer)
        if entry is None:
            return {}
        return {**entry.tags, **{tag.name: value for tag, value in entry.decaying.items()}}

    def protect(self, peer: PeerId, tag: str) -> None:
        """Never trim the peer's connections until every tag given here is taken back.

        Raises ResourceLimitExceeded: too many peers under protection, or tags on the peer.
        """
        config = self._config
        tags = self._protected.get(peer)
        if tags is None:
            if len(self._protected) >= config.max_protected:
                raise ResourceLimitExceeded("protected peers", config.max_protected, config.max_protected + 1)
            tags = self._protected[peer] = set()
        if tag not in tags and len(tags) >= config.max_tags_per_peer:
            raise ResourceLimitExceeded("protecting tags", config.max_tags_per_peer, len(tags) + 1)
        tags.add(tag)

    def unprotect(self, peer: PeerId, tag: str) -> bool:
        """Take a protection back; returns whether another tag still protects the peer."""
        tags = self._protected.get(peer)
        if tags is None:
            return False
        tags.discard(tag)
        if tags:
            return True
        del self._protected[peer]
        return False

    def is_protected(self, peer: PeerId, tag: str | None = None) -> bool:
        """Whether `tag`, or any tag if None, protects the peer."""
        tags = self._protected.get(peer)
        return tags is not None and (tag is None or tag in tags)

    def register_decaying_tag(self, name: str, interval: float, decay: Callable[[int], int], now: float) -> DecayingTag:
        """Make a tag that loses value every `interval` seconds (at least the resolution of the config).

        `decay` turns a value into the next; at 0 and below the tag comes off. Raises ValueError if `name` is
        taken.
        """
        if name in self._decaying:
            raise ValueError(f"there is a decaying tag {name!r} already")
        tag = DecayingTag(self, name, max(interval, self._config.decay_resolution), decay, now)
        self._decaying[name] = tag
        return tag

    # --- for the tags -------------------------------------------------------------------------------

    def _find(self, peer: PeerId) -> _Peer | None:
        return self._connected.get(peer) or self._expected.get(peer)

    def _entry(self, peer: PeerId) -> _Peer:
        entry = self._connected.get(peer)
        if entry is not None:
            return entry
        entry = self._expected.get(peer)
        if entry is None:
            entry = self._expected[peer] = _Peer()
            if len(self._expected) > self._config.max_unconnected:
                self._expected.popitem(last=False)
        else:
            self._expected.move_to_end(peer)
        return entry

    def _check_room(self, entry: _Peer, known: bool) -> None:
        count = len(entry.tags) + len(entry.decaying)
        if not known and count >= self._config.max_tags_per_peer:
            raise ResourceLimitExceeded("tags of a peer", self._config.max_tags_per_peer, count + 1)

    def _forget_tag(self, tag: DecayingTag) -> None:
        if self._decaying.get(tag.name) is tag:
            del self._decaying[tag.name]
        for entry in self._entries():
            entry.decaying.pop(tag, None)

    def _decay(self, now: float) -> None:
        if self._decaying:
            entries = self._entries()
            for tag in self._decaying.values():
                tag._tick(entries, now)

    def _entries(self) -> list[_Peer]:
        return [*self._connected.values(), *self._expected.values()]


def _rank(entry: _Peer, live: list[ManagedConnection]) -> tuple[int, bool, bool, int]:
    """Lowest goes first: by value, idle before busy, theirs before ours, few streams before many."""
    streams = sum(len(connection.streams) for connection in live)
    ours = all(connection.info.direction is Direction.OUTBOUND for connection in live)
    return entry.value, streams > 0, ours, streams
