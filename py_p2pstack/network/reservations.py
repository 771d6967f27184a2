"""The places of connections and streams: what is held in which scope, from the reservation until `done`.

A move between scopes checks the new ones before it changes any: a refusal leaves no trace but a count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import ConnectionClosed, LocalProtocolError, ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.network.ip_limits import IpLimiter
from py_p2pstack.network.limits import ScopeLimit
from py_p2pstack.network.scope_table import ScopeTable
from py_p2pstack.network.scopes import PeerScope, Scope, SharedScope


class Priority:
    """Up to which share of a memory limit, in 256ths, a reservation may fill it (go-libp2p's figures)."""

    LOW = 101
    """40 %: what can easily be done without."""
    MEDIUM = 152
    """60 %."""
    HIGH = 203
    """80 %."""
    ALWAYS = 255
    """All of it."""


class _Place(ABC):
    """What the places of connections and streams have in common: memory, counted in every scope they are in."""

    __slots__ = ("_table", "closed", "memory")

    _kind: ClassVar[str]
    _table: ScopeTable
    closed: bool
    """Whether the place was given back."""
    memory: int
    """Bytes reserved."""

    def reserve_memory(self, size: int, priority: int = Priority.ALWAYS) -> None:
        """Reserve `size` bytes. Raises ResourceLimitExceeded; ConnectionClosed after `done`."""
        if self.closed:
            raise ConnectionClosed(f"the {self._kind} has ended")
        if size < 0:
            raise ValueError("a reservation is of at least 0 bytes")
        table, held, kind = self._table, self.memory + size, self._kind
        most = self._own_limit().memory
        if held > most:
            raise table.count(kind, ResourceLimitExceeded(f"{kind}: memory", most, held))
        scopes = self._scopes()
        table.check_memory(scopes, size, priority)
        for scope in scopes:
            scope.memory += size
        self.memory = held

    def release_memory(self, size: int) -> None:
        """Give `size` reserved bytes back. Raises LocalProtocolError if so many are not reserved."""
        if self.closed:
            return
        if not 0 <= size <= self.memory:
            raise LocalProtocolError(f"{size} bytes given back, {self.memory} are reserved")
        for scope in self._scopes():
            scope.memory -= size
        self.memory -= size

    @abstractmethod
    def _own_limit(self) -> ScopeLimit: ...

    @abstractmethod
    def _scopes(self) -> tuple[Scope, ...]:
        """The scopes it is counted in."""


class ConnectionScope(_Place):
    """The place of one connection. Owned by whoever owns the connection; `done` gives it back."""

    __slots__ = ("_fds", "_inbound", "_ip_keys", "_ips", "peer_scope")

    _kind = "connection"

    def __init__(
        self,
        table: ScopeTable,
        ips: IpLimiter,
        inbound: bool,
        fds: int,
        ip_keys: tuple[tuple[int, int, int], ...],
    ) -> None:
        """For the resource manager."""
        self._table = table
        self._ips = ips
        self._inbound = inbound
        self._fds = fds
        self._ip_keys = ip_keys
        self.peer_scope: PeerScope | None = None
        """The scope of the proven peer, until `done`."""
        self.closed = False
        self.memory = 0

    def set_peer(self, peer: PeerId) -> None:
        """Move the place from transient to `peer`, who is proven now.

        Raises ResourceLimitExceeded (the place stays in transient: give it back) and LocalProtocolError if
        the connection has a peer already, or was given back.
        """
        if self.peer_scope is not None or self.closed:
            raise LocalProtocolError("the connection's place has a peer, or was given back")
        table = self._table
        scope = table.peer_scope(peer)
        refusal = scope.connection_refusal(self._inbound, self._fds)
        if refusal is None and self.memory:
            refusal = scope.memory_refusal(self.memory, Priority.ALWAYS)
        if refusal is not None:
            table.drop_peer_if_empty(scope)
            raise table.count("peer", refusal)
        scope.add_connection(self._inbound, self._fds, self.memory)
        table.transient.remove_connection(self._inbound, self._fds, self.memory)
        self.peer_scope = scope

    def done(self) -> None:
        """Give the place back, with its memory; idempotent."""
        if self.closed:
            return
        self.closed = True
        for scope in self._scopes():
            scope.remove_connection(self._inbound, self._fds, self.memory)
        self.memory = 0
        self._ips.release(self._ip_keys)
        if self.peer_scope is not None:
            self._table.drop_peer_if_empty(self.peer_scope)
            self.peer_scope = None

    def _own_limit(self) -> ScopeLimit:
        return self._table.limits.connection

    def _scopes(self) -> tuple[Scope, ...]:
        return self.peer_scope or self._table.transient, self._table.system


class StreamScope(_Place):
    """The place of one stream. Owned by whoever owns the stream; `done` gives it back."""

    __slots__ = ("_inbound", "_peer", "_protocol", "_service")

    _kind = "stream"

    def __init__(self, table: ScopeTable, peer: PeerScope, inbound: bool) -> None:
        """For the resource manager."""
        self._table = table
        self._peer = peer
        self._inbound = inbound
        self._protocol: SharedScope | None = None
        self._service: SharedScope | None = None
        self.closed = False
        self.memory = 0

    def set_protocol(self, protocol: ProtocolId) -> None:
        """Move the place from transient to `protocol`, which is agreed now. Does nothing after `done`.

        Raises ResourceLimitExceeded (the place stays in transient) and LocalProtocolError if it has a
        protocol.
        """
        if self.closed:
            return
        if self._protocol is not None:
            raise LocalProtocolError("the stream's place has a protocol")
        table = self._table
        share = self._peer.protocols.get(protocol)
        if share is None:
            share = table.protocol_scope(self._peer, protocol)
        parent = share.parent
        transient = table.transient
        if self.memory:
            self._enter(share, table.protocols, self._peer.protocols)
            transient.remove_stream(self._inbound, self.memory)
            if self._inbound:
                self._peer.undecided -= 1
        elif self._inbound:
            if (
                share.streams_in >= share.max_streams_in
                or parent.streams_in >= parent.max_streams_in
                or share.streams_in + share.streams_out >= share.max_streams
                or parent.streams_in + parent.streams_out >= parent.max_streams
            ):
                self._enter(share, table.protocols, self._peer.protocols)  # raises
            share.streams_in += 1
            parent.streams_in += 1
            transient.streams_in -= 1
            self._peer.undecided -= 1
        else:
            if (
                share.streams_out >= share.max_streams_out
                or parent.streams_out >= parent.max_streams_out
                or share.streams_in + share.streams_out >= share.max_streams
                or parent.streams_in + parent.streams_out >= parent.max_streams
            ):
                self._enter(share, table.protocols, self._peer.protocols)  # raises
            share.streams_out += 1
            parent.streams_out += 1
            transient.streams_out -= 1
        self._protocol = share

    def set_service(self, service: str) -> None:
        """Count the stream as one of `service` too. Does nothing after `done`.

        Raises ResourceLimitExceeded and LocalProtocolError if it has no protocol yet, or a service.
        """
        if self.closed:
            return
        if self._protocol is None or self._service is not None:
            raise LocalProtocolError("the stream's place has no protocol yet, or a service already")
        table, peer = self._table, self._peer
        share = peer.services.get(service)
        if share is None:
            share = table.service_scope(peer, service)
        self._enter(share, table.services, peer.services)
        self._service = share

    def done(self) -> None:
        """Give the place back, with its memory; idempotent."""
        if self.closed:
            return
        table = self._table
        if self.memory:
            self.release_memory(self.memory)
        self.closed = True
        peer = self._peer
        share = self._protocol
        if self._inbound:
            table.system.streams_in -= 1
            peer.streams_in -= 1
            if share is None:
                table.transient.streams_in -= 1
                peer.undecided -= 1
            else:
                share.streams_in -= 1
                share.parent.streams_in -= 1
        else:
            table.system.streams_out -= 1
            peer.streams_out -= 1
            if share is None:
                table.transient.streams_out -= 1
            else:
                share.streams_out -= 1
                share.parent.streams_out -= 1
        if share is not None and len(peer.protocols) > table.limits.max_idle_scopes_per_peer:
            table.drop_share_if_idle(table.protocols, peer.protocols, share)
        if self._service is not None:
            for scope in (self._service, self._service.parent):
                scope.remove_stream(self._inbound, 0)
            table.drop_share_if_idle(table.services, peer.services, self._service)
        if not (peer.conns_in or peer.conns_out):
            table.drop_peer_if_empty(peer)

    def _enter(self, share: SharedScope, scopes: dict[str, Scope], shares: dict[str, SharedScope]) -> None:
        """Count the stream and its memory in a share and its parent, or raise and leave no trace."""
        table = self._table
        both = (share, share.parent)
        try:
            table.check_stream(both, self._inbound)
            if self.memory:
                table.check_memory(both, self.memory, Priority.ALWAYS)
        except ResourceLimitExceeded:
            table.drop_share_if_idle(scopes, shares, share)
            raise
        for scope in both:
            scope.add_stream(self._inbound, self.memory)

    def _own_limit(self) -> ScopeLimit:
        return self._table.limits.stream

    def _scopes(self) -> tuple[Scope, ...]:
        share, service = self._protocol, self._service
        own: tuple[Scope, ...] = (self._table.transient,) if share is None else (share, share.parent)
        if service is not None:
            own = (*own, service, service.parent)
        return (*own, self._peer, self._table.system)
