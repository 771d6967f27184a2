"""The resource manager: nothing is opened without a place in every scope, and every place comes back.

A connection is counted in *system* and, until its peer is proven, in *transient*; afterwards in its *peer*'s
scope. A stream is counted in system, its peer's scope and, until its protocol is agreed, in transient;
afterwards in its *protocol* and that protocol's share of the peer (*protocol_peer*), and, if its handler says
so, in a *service* and *service_peer* too. Memory reserved for either is counted wherever the thing itself is,
and within its own limit (*connection*, *stream*). A reservation checks every scope before it changes any: a
refusal leaves no trace but a count. Scopes of peers, protocols and services are made at first use and freed
when empty (CVE-2022-23492 and its kin; attack
11: state never freed). Source: go-libp2p rcmgr. Pure; the `clock` given serves the rate per IP alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from py_p2pstack.addresses import Multiaddr, ip_of, transport_of
from py_p2pstack.core.types import Direction, ProtocolId
from py_p2pstack.errors import ConnectionClosed, LocalProtocolError, ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.network.ip_limits import IpLimiter
from py_p2pstack.network.limits import ResourceLimits as ResourceLimits
from py_p2pstack.network.limits import ScopeLimit as ScopeLimit
from py_p2pstack.network.scopes import PeerScope, Scope, ScopeStats, SharedScope

_INBOUND = Direction.INBOUND
_WITH_DESCRIPTOR = frozenset(("tcp", "ws", "wss", "unix"))  # QUIC shares one socket, relayed ones have none


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


@dataclass(frozen=True, slots=True)
class ResourceStats:
    """What is held and what was refused, at one moment."""

    system: ScopeStats
    transient: ScopeStats
    peers: dict[PeerId, ScopeStats]
    protocols: dict[ProtocolId, ScopeStats]
    services: dict[str, ScopeStats]
    refusals: dict[str, int]
    """Refusals by kind of scope, since the start."""


class ResourceManager:
    """Hands out places. One for each host."""

    __slots__ = (
        "_clock",
        "_ips",
        "_limits",
        "_peers",
        "_protocols",
        "_refusals",
        "_services",
        "_system",
        "_transient",
    )

    def __init__(self, limits: ResourceLimits | None = None, *, clock: Callable[[], float]) -> None:
        """`clock` tells monotonic time in seconds."""
        self._limits = limits = limits or ResourceLimits()
        self._clock = clock
        self._system = Scope("system", "", limits.system)
        self._transient = Scope("transient", "", limits.transient)
        self._peers: dict[PeerId, PeerScope] = {}
        self._protocols: dict[ProtocolId, Scope] = {}
        self._services: dict[str, Scope] = {}
        self._ips = IpLimiter(limits.ip)
        self._refusals: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<ResourceManager {self._system!r} {len(self._peers)} peers>"

    @property
    def limits(self) -> ResourceLimits:
        """The limits in force."""
        return self._limits

    def reserve_connection(self, direction: Direction, address: Multiaddr) -> ConnectionScope:
        """Take a place for a connection with whoever is at `address`, before anything is spent on it.

        Raises ResourceLimitExceeded.
        """
        inbound = direction is _INBOUND
        fds = int(transport_of(address) in _WITH_DESCRIPTOR)
        scopes = (self._transient, self._system)
        for scope in scopes:
            refusal = scope.connection_refusal(inbound, fds)
            if refusal is not None:
                raise self._count(scope.kind, refusal)
        ip = ip_of(address)
        try:
            ip_keys = () if ip is None else self._ips.reserve(ip, self._clock(), inbound=inbound)
        except ResourceLimitExceeded as refusal:
            raise self._count("ip", refusal) from None
        for scope in scopes:
            scope.add_connection(inbound, fds, 0)
        return ConnectionScope(self, inbound, fds, ip_keys)

    def reserve_stream(self, peer: PeerId, direction: Direction, connection: ConnectionScope) -> StreamScope:
        """Take a place for a stream with `peer` over `connection`.

        Raises:
            ResourceLimitExceeded: a scope is full.
            ConnectionClosed: the connection's place was given back.
            LocalProtocolError: the connection is with nobody yet, or with another peer.
        """
        scope = connection._peer
        if scope is None or (scope.peer is not peer and scope.peer != peer):
            if connection._done:
                raise ConnectionClosed
            raise LocalProtocolError(f"the connection's place is not of {peer}")
        system = self._system
        transient = self._transient
        # Spelled out for speed: this runs for every stream, `stream_refusal` only to tell what is full.
        if direction is _INBOUND:
            if (
                scope.streams_in >= scope.max_streams_in
                or transient.streams_in >= transient.max_streams_in
                or system.streams_in >= system.max_streams_in
                or scope.streams_in + scope.streams_out >= scope.max_streams
                or transient.streams_in + transient.streams_out >= transient.max_streams
                or system.streams_in + system.streams_out >= system.max_streams
            ):
                self._check_stream((scope, transient, system), True)
            scope.streams_in += 1
            transient.streams_in += 1
            system.streams_in += 1
            return StreamScope(self, scope, True)
        if (
            scope.streams_out >= scope.max_streams_out
            or transient.streams_out >= transient.max_streams_out
            or system.streams_out >= system.max_streams_out
            or scope.streams_in + scope.streams_out >= scope.max_streams
            or transient.streams_in + transient.streams_out >= transient.max_streams
            or system.streams_in + system.streams_out >= system.max_streams
        ):
            self._check_stream((scope, transient, system), False)
        scope.streams_out += 1
        transient.streams_out += 1
        system.streams_out += 1
        return StreamScope(self, scope, False)

    def stats(self) -> ResourceStats:
        """A snapshot of every scope."""
        return ResourceStats(
            self._system.stats(),
            self._transient.stats(),
            {peer: scope.stats() for peer, scope in self._peers.items()},
            {protocol: scope.stats() for protocol, scope in self._protocols.items()},
            {service: scope.stats() for service, scope in self._services.items()},
            dict(self._refusals),
        )

    # --- scopes made at first use, for the reservations below --------------------------------------

    def _peer_scope(self, peer: PeerId) -> PeerScope:
        scope = self._peers.get(peer)
        if scope is None:
            scope = self._peers[peer] = PeerScope(peer, self._limits.peers.get(peer, self._limits.peer))
        return scope

    def _drop_peer_if_empty(self, scope: PeerScope) -> None:
        if scope.conns_in or scope.conns_out or scope.streams_in or scope.streams_out:
            return
        if self._peers.pop(scope.peer, None) is None:
            return
        for shared in scope.protocols.values():
            self._drop_user(self._protocols, shared.parent)
        for shared in scope.services.values():
            self._drop_user(self._services, shared.parent)

    def _protocol_scope(self, peer: PeerScope, protocol: ProtocolId) -> SharedScope:
        limits = self._limits
        parent = self._protocols.get(protocol)
        if parent is None:
            parent = Scope("protocol", protocol, limits.protocols.get(protocol, limits.protocol))
            self._protocols[protocol] = parent
        limit = limits.protocol_peers.get(protocol, limits.protocol_peer)
        return self._share(peer.protocols, protocol, SharedScope("protocol_peer", peer.peer, parent, limit))

    def _service_scope(self, peer: PeerScope, service: str) -> SharedScope:
        limits = self._limits
        parent = self._services.get(service)
        if parent is None:
            parent = Scope("service", service, limits.services.get(service, limits.service))
            self._services[service] = parent
        limit = limits.service_peers.get(service, limits.service_peer)
        return self._share(peer.services, service, SharedScope("service_peer", peer.peer, parent, limit))

    @staticmethod
    def _share(shares: dict[str, SharedScope], key: str, share: SharedScope) -> SharedScope:
        share.parent.users += 1
        shares[key] = share
        return share

    def _drop_share_if_idle(
        self, scopes: dict[str, Scope], shares: dict[str, SharedScope], share: SharedScope
    ) -> None:
        """Free an empty share of a peer that has many; a few are kept for its next stream of the kind."""
        if len(shares) > self._limits.max_idle_scopes_per_peer and not (
            share.streams_in or share.streams_out
        ):
            del shares[str(share.parent.key)]
            self._drop_user(scopes, share.parent)

    @staticmethod
    def _drop_user(scopes: dict[str, Scope], parent: Scope) -> None:
        parent.users -= 1
        if not parent.users:
            del scopes[str(parent.key)]

    # --- refusals -----------------------------------------------------------------------------------

    def _count(self, kind: str, refusal: ResourceLimitExceeded) -> ResourceLimitExceeded:
        self._refusals[kind] = self._refusals.get(kind, 0) + 1
        return refusal

    def _check_stream(self, scopes: Iterable[Scope], inbound: bool) -> None:
        for scope in scopes:
            refusal = scope.stream_refusal(inbound)
            if refusal is not None:
                raise self._count(scope.kind, refusal)

    def _check_memory(self, scopes: Iterable[Scope], size: int, priority: int) -> None:
        for scope in scopes:
            refusal = scope.memory_refusal(size, priority)
            if refusal is not None:
                raise self._count(scope.kind, refusal)


class ConnectionScope:
    """The place of one connection. Owned by whoever owns the connection; `done` gives it back."""

    __slots__ = ("_done", "_fds", "_inbound", "_ip_keys", "_manager", "_peer", "memory")

    def __init__(
        self, manager: ResourceManager, inbound: bool, fds: int, ip_keys: tuple[tuple[int, int, int], ...]
    ) -> None:
        """For the manager."""
        self._manager = manager
        self._inbound = inbound
        self._fds = fds
        self._ip_keys = ip_keys
        self._peer: PeerScope | None = None
        self._done = False
        self.memory = 0
        """Bytes reserved."""

    def set_peer(self, peer: PeerId) -> None:
        """Move the place from transient to `peer`, who is proven now.

        Raises ResourceLimitExceeded (the place stays in transient: give it back) and LocalProtocolError if
        the connection has a peer already, or was given back.
        """
        if self._peer is not None or self._done:
            raise LocalProtocolError("the connection's place has a peer, or was given back")
        manager = self._manager
        scope = manager._peer_scope(peer)
        refusal = scope.connection_refusal(self._inbound, self._fds)
        if refusal is None and self.memory:
            refusal = scope.memory_refusal(self.memory, Priority.ALWAYS)
        if refusal is not None:
            manager._drop_peer_if_empty(scope)
            raise manager._count("peer", refusal)
        scope.add_connection(self._inbound, self._fds, self.memory)
        manager._transient.remove_connection(self._inbound, self._fds, self.memory)
        self._peer = scope

    def reserve_memory(self, size: int, priority: int = Priority.ALWAYS) -> None:
        """Reserve `size` bytes. Raises ResourceLimitExceeded; ConnectionClosed after `done`."""
        if self._done:
            raise ConnectionClosed
        manager = self._manager
        _check_own_memory(manager, "connection", manager._limits.connection, self.memory, size)
        scopes = self._scopes()
        manager._check_memory(scopes, size, priority)
        for scope in scopes:
            scope.memory += size
        self.memory += size

    def release_memory(self, size: int) -> None:
        """Give `size` reserved bytes back. Raises LocalProtocolError if so many are not reserved."""
        if self._done:
            return
        _check_release(self.memory, size)
        for scope in self._scopes():
            scope.memory -= size
        self.memory -= size

    def done(self) -> None:
        """Give the place back, with its memory; idempotent."""
        if self._done:
            return
        self._done = True
        manager = self._manager
        for scope in self._scopes():
            scope.remove_connection(self._inbound, self._fds, self.memory)
        self.memory = 0
        manager._ips.release(self._ip_keys)
        if self._peer is not None:
            manager._drop_peer_if_empty(self._peer)
            self._peer = None

    def _scopes(self) -> tuple[Scope, ...]:
        return self._peer or self._manager._transient, self._manager._system


class StreamScope:
    """The place of one stream. Owned by whoever owns the stream; `done` gives it back."""

    __slots__ = ("_done", "_inbound", "_manager", "_peer", "_protocol", "_service", "memory")

    def __init__(self, manager: ResourceManager, peer: PeerScope, inbound: bool) -> None:
        """For the manager."""
        self._manager = manager
        self._peer = peer
        self._inbound = inbound
        self._protocol: SharedScope | None = None
        self._service: SharedScope | None = None
        self._done = False
        self.memory = 0
        """Bytes reserved."""

    def set_protocol(self, protocol: ProtocolId) -> None:
        """Move the place from transient to `protocol`, which is agreed now. Does nothing after `done`.

        Raises ResourceLimitExceeded (the place stays in transient) and LocalProtocolError if it has a
        protocol.
        """
        if self._done:
            return
        if self._protocol is not None:
            raise LocalProtocolError("the stream's place has a protocol")
        manager = self._manager
        share = self._peer.protocols.get(protocol)
        if share is None:
            share = manager._protocol_scope(self._peer, protocol)
        parent = share.parent
        transient = manager._transient
        if self.memory:
            self._enter(share, manager._protocols, self._peer.protocols)
            transient.remove_stream(self._inbound, self.memory)
        elif self._inbound:
            if (
                share.streams_in >= share.max_streams_in
                or parent.streams_in >= parent.max_streams_in
                or share.streams_in + share.streams_out >= share.max_streams
                or parent.streams_in + parent.streams_out >= parent.max_streams
            ):
                self._enter(share, manager._protocols, self._peer.protocols)  # raises
            share.streams_in += 1
            parent.streams_in += 1
            transient.streams_in -= 1
        else:
            if (
                share.streams_out >= share.max_streams_out
                or parent.streams_out >= parent.max_streams_out
                or share.streams_in + share.streams_out >= share.max_streams
                or parent.streams_in + parent.streams_out >= parent.max_streams
            ):
                self._enter(share, manager._protocols, self._peer.protocols)  # raises
            share.streams_out += 1
            parent.streams_out += 1
            transient.streams_out -= 1
        self._protocol = share

    def set_service(self, service: str) -> None:
        """Count the stream as one of `service` too. Does nothing after `done`.

        Raises ResourceLimitExceeded and LocalProtocolError if it has no protocol yet, or a service.
        """
        if self._done:
            return
        if self._protocol is None or self._service is not None:
            raise LocalProtocolError("the stream's place has no protocol yet, or a service already")
        manager, peer = self._manager, self._peer
        share = peer.services.get(service) or manager._service_scope(peer, service)
        self._enter(share, manager._services, peer.services)
        self._service = share

    def reserve_memory(self, size: int, priority: int = Priority.ALWAYS) -> None:
        """Reserve `size` bytes. Raises ResourceLimitExceeded; ConnectionClosed after `done`."""
        if self._done:
            raise ConnectionClosed("the stream has ended")
        manager = self._manager
        _check_own_memory(manager, "stream", manager._limits.stream, self.memory, size)
        scopes = self._scopes()
        manager._check_memory(scopes, size, priority)
        for scope in scopes:
            scope.memory += size
        self.memory += size

    def release_memory(self, size: int) -> None:
        """Give `size` reserved bytes back. Raises LocalProtocolError if so many are not reserved."""
        if self._done:
            return
        _check_release(self.memory, size)
        for scope in self._scopes():
            scope.memory -= size
        self.memory -= size

    def done(self) -> None:
        """Give the place back, with its memory; idempotent."""
        if self._done:
            return
        manager = self._manager
        if self.memory:
            self.release_memory(self.memory)
        self._done = True
        peer = self._peer
        share = self._protocol
        if self._inbound:
            manager._system.streams_in -= 1
            peer.streams_in -= 1
            if share is None:
                manager._transient.streams_in -= 1
            else:
                share.streams_in -= 1
                share.parent.streams_in -= 1
        else:
            manager._system.streams_out -= 1
            peer.streams_out -= 1
            if share is None:
                manager._transient.streams_out -= 1
            else:
                share.streams_out -= 1
                share.parent.streams_out -= 1
        if share is not None and len(peer.protocols) > manager._limits.max_idle_scopes_per_peer:
            manager._drop_share_if_idle(manager._protocols, peer.protocols, share)
        if self._service is not None:
            for scope in (self._service, self._service.parent):
                scope.remove_stream(self._inbound, 0)
            manager._drop_share_if_idle(manager._services, peer.services, self._service)
        if not (peer.conns_in or peer.conns_out):
            manager._drop_peer_if_empty(peer)

    def _enter(self, share: SharedScope, scopes: dict[str, Scope], shares: dict[str, SharedScope]) -> None:
        """Count the stream and its memory in a share and its parent, or raise and leave no trace."""
        manager = self._manager
        both = (share, share.parent)
        try:
            manager._check_stream(both, self._inbound)
            if self.memory:
                manager._check_memory(both, self.memory, Priority.ALWAYS)
        except ResourceLimitExceeded:
            manager._drop_share_if_idle(scopes, shares, share)
            raise
        for scope in both:
            scope.add_stream(self._inbound, self.memory)

    def _scopes(self) -> tuple[Scope, ...]:
        share, service = self._protocol, self._service
        own: tuple[Scope, ...] = (self._manager._transient,) if share is None else (share, share.parent)
        if service is not None:
            own = (*own, service, service.parent)
        return (*own, self._peer, self._manager._system)


def _check_own_memory(manager: ResourceManager, kind: str, limit: ScopeLimit, held: int, size: int) -> None:
    if size < 0:
        raise ValueError("a reservation is of at least 0 bytes")
    if held + size > limit.memory:
        raise manager._count(kind, ResourceLimitExceeded(f"{kind}: memory", limit.memory, held + size))


def _check_release(held: int, size: int) -> None:
    if not 0 <= size <= held:
        raise LocalProtocolError(f"{size} bytes given back, {held} are reserved")
