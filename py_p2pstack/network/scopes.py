"""The counters of the resource manager: what each scope holds, against what it may hold.

Plain integers side by side with their limits: a stream's life passes here three times, and must cost little.
"""

from __future__ import annotations

from dataclasses import dataclass

from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.network.limits import ScopeLimit


@dataclass(frozen=True, slots=True)
class ScopeStats:
    """What a scope holds at one moment."""

    connections_inbound: int
    connections_outbound: int
    streams_inbound: int
    streams_outbound: int
    file_descriptors: int
    memory: int
    """Reserved bytes."""
    refusals: int
    """Reservations this scope refused."""


class Scope:
    """One scope: counts, and the limits they stay within."""

    __slots__ = (
        "conns_in",
        "conns_out",
        "fds",
        "key",
        "kind",
        "max_conns",
        "max_conns_in",
        "max_conns_out",
        "max_fds",
        "max_memory",
        "max_streams",
        "max_streams_in",
        "max_streams_out",
        "memory",
        "refusals",
        "streams_in",
        "streams_out",
        "users",
    )

    def __init__(self, kind: str, key: str | PeerId, limit: ScopeLimit) -> None:
        self.kind = kind
        self.key = key
        self.conns_in = self.conns_out = self.streams_in = self.streams_out = self.fds = self.memory = 0
        self.refusals = 0
        self.users = 0
        """How many scopes of single peers stand under this one."""
        self.max_conns_in = limit.connections_inbound
        self.max_conns_out = limit.connections_outbound
        self.max_conns = limit.connections
        self.max_streams_in = limit.streams_inbound
        self.max_streams_out = limit.streams_outbound
        self.max_streams = limit.streams
        self.max_fds = limit.file_descriptors
        self.max_memory = limit.memory

    def __repr__(self) -> str:
        return (
            f"<Scope {self.name} conns {self.conns_in}+{self.conns_out} "
            f"streams {self.streams_in}+{self.streams_out} memory {self.memory}>"
        )

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.kind} {self.key}" if self.key else self.kind

    def stats(self) -> ScopeStats:
        """A snapshot."""
        return ScopeStats(
            self.conns_in,
            self.conns_out,
            self.streams_in,
            self.streams_out,
            self.fds,
            self.memory,
            self.refusals,
        )

    def stream_refusal(self, inbound: bool, count: int = 1) -> ResourceLimitExceeded | None:
        """Why `count` more streams do not fit, if they do not."""
        own, most = (self.streams_in, self.max_streams_in) if inbound else (self.streams_out, self.max_streams_out)
        if own + count > most:
            return self._refuse(f"streams {'inbound' if inbound else 'outbound'}", most, own + count)
        both = self.streams_in + self.streams_out + count
        if both > self.max_streams:
            return self._refuse("streams", self.max_streams, both)
        return None

    def connection_refusal(self, inbound: bool, fds: int) -> ResourceLimitExceeded | None:
        """Why one more connection, costing `fds` file descriptors, does not fit, if it does not."""
        own, most = (self.conns_in, self.max_conns_in) if inbound else (self.conns_out, self.max_conns_out)
        if own >= most:
            return self._refuse(f"connections {'inbound' if inbound else 'outbound'}", most, own + 1)
        if self.conns_in + self.conns_out >= self.max_conns:
            return self._refuse("connections", self.max_conns, self.conns_in + self.conns_out + 1)
        if self.fds + fds > self.max_fds:
            return self._refuse("file descriptors", self.max_fds, self.fds + fds)
        return None

    def memory_refusal(self, size: int, priority: int) -> ResourceLimitExceeded | None:
        """Why `size` more bytes do not fit, if they do not; see `Priority`."""
        most = self.max_memory * (1 + priority) >> 8
        if self.memory + size > most:
            return self._refuse("memory", most, self.memory + size)
        return None

    def add_connection(self, inbound: bool, fds: int, memory: int) -> None:
        """Count a connection."""
        if inbound:
            self.conns_in += 1
        else:
            self.conns_out += 1
        self.fds += fds
        self.memory += memory

    def remove_connection(self, inbound: bool, fds: int, memory: int) -> None:
        """Count it no longer."""
        if inbound:
            self.conns_in -= 1
        else:
            self.conns_out -= 1
        self.fds -= fds
        self.memory -= memory

    def add_stream(self, inbound: bool, memory: int) -> None:
        """Count a stream."""
        if inbound:
            self.streams_in += 1
        else:
            self.streams_out += 1
        self.memory += memory

    def remove_stream(self, inbound: bool, memory: int) -> None:
        """Count it no longer."""
        if inbound:
            self.streams_in -= 1
        else:
            self.streams_out -= 1
        self.memory -= memory

    def _refuse(self, what: str, limit: int, value: int) -> ResourceLimitExceeded:
        self.refusals += 1
        return ResourceLimitExceeded(f"{self.name}: {what}", limit, value)


class SharedScope(Scope):
    """The part of a protocol's or service's scope that one peer uses."""

    __slots__ = ("parent",)

    def __init__(self, kind: str, peer: PeerId, parent: Scope, limit: ScopeLimit) -> None:
        super().__init__(kind, peer, limit)
        self.parent = parent

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.kind} {self.parent.key} {self.key}"


class PeerScope(Scope):
    """Everything with one peer. It lives while the peer has a connection or a stream."""

    __slots__ = ("max_undecided", "peer", "protocols", "services", "undecided")

    def __init__(self, peer: PeerId, limit: ScopeLimit, max_undecided: int) -> None:
        super().__init__("peer", peer, limit)
        self.peer = peer
        self.undecided = 0
        """Inbound streams without a protocol."""
        self.max_undecided = max_undecided
        self.protocols: dict[ProtocolId, SharedScope] = {}
        self.services: dict[str, SharedScope] = {}

    def undecided_refusal(self) -> ResourceLimitExceeded | None:
        """Why one more inbound stream without a protocol does not fit, if it does not."""
        if self.undecided < self.max_undecided:
            return None
        return self._refuse("streams without a protocol", self.max_undecided, self.undecided + 1)
