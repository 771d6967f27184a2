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

from collections.abc import Callable
from dataclasses import dataclass

from py_p2pstack.addresses import Multiaddr, ip_of, transport_of
from py_p2pstack.core.types import Direction, ProtocolId
from py_p2pstack.errors import ConnectionClosed, LocalProtocolError, ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.network.ip_limits import IpLimiter
from py_p2pstack.network.limits import ResourceLimits as ResourceLimits
from py_p2pstack.network.limits import ScopeLimit as ScopeLimit
from py_p2pstack.network.reservations import ConnectionScope as ConnectionScope
from py_p2pstack.network.reservations import Priority as Priority
from py_p2pstack.network.reservations import StreamScope as StreamScope
from py_p2pstack.network.scope_table import ScopeTable
from py_p2pstack.network.scopes import ScopeStats as ScopeStats

_INBOUND = Direction.INBOUND
_WITH_DESCRIPTOR = frozenset(("tcp", "ws", "wss", "unix"))  # QUIC shares one socket, relayed ones have none


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

    __slots__ = ("_clock", "_ips", "_table")

    def __init__(self, limits: ResourceLimits | None = None, *, clock: Callable[[], float]) -> None:
        """`clock` tells monotonic time in seconds."""
        limits = limits or ResourceLimits()
        self._clock = clock
        self._table = ScopeTable(limits)
        self._ips = IpLimiter(limits.ip)

    def __repr__(self) -> str:
        return f"<ResourceManager {self._table.system!r} {len(self._table.peers)} peers>"

    @property
    def limits(self) -> ResourceLimits:
        """The limits in force."""
        return self._table.limits

    def reserve_connection(self, direction: Direction, address: Multiaddr) -> ConnectionScope:
        """Take a place for a connection with whoever is at `address`, before anything is spent on it.

        Raises ResourceLimitExceeded.
        """
        table = self._table
        inbound = direction is _INBOUND
        fds = int(transport_of(address) in _WITH_DESCRIPTOR)
        scopes = (table.transient, table.system)
        table.check_connection(scopes, inbound, fds)
        ip = ip_of(address)
        try:
            ip_keys = () if ip is None else self._ips.reserve(ip, self._clock(), inbound=inbound)
        except ResourceLimitExceeded as refusal:
            raise table.count("ip", refusal) from None
        for scope in scopes:
            scope.add_connection(inbound, fds, 0)
        return ConnectionScope(table, self._ips, inbound, fds, ip_keys)

    def reserve_stream(self, peer: PeerId, direction: Direction, connection: ConnectionScope) -> StreamScope:
        """Take a place for a stream with `peer` over `connection`.

        Raises:
            ResourceLimitExceeded: a scope is full.
            ConnectionClosed: the connection's place was given back.
            LocalProtocolError: the connection is with nobody yet, or with another peer.
        """
        scope = connection.peer_scope
        if scope is None or (scope.peer is not peer and scope.peer != peer):
            if connection.closed:
                raise ConnectionClosed
            raise LocalProtocolError(f"the connection's place is not of {peer}")
        table = self._table
        system = table.system
        transient = table.transient
        # Spelled out for speed: this runs for every stream, `stream_refusal` only to tell what is full.
        if direction is _INBOUND:
            if (
                scope.streams_in >= scope.max_streams_in
                or scope.undecided >= scope.max_undecided
                or transient.streams_in >= transient.max_streams_in
                or system.streams_in >= system.max_streams_in
                or scope.streams_in + scope.streams_out >= scope.max_streams
                or transient.streams_in + transient.streams_out >= transient.max_streams
                or system.streams_in + system.streams_out >= system.max_streams
            ):
                table.check_stream((scope, transient, system), True)
                table.check_undecided(scope)
            scope.streams_in += 1
            scope.undecided += 1
            transient.streams_in += 1
            system.streams_in += 1
            return StreamScope(table, scope, True)
        if (
            scope.streams_out >= scope.max_streams_out
            or transient.streams_out >= transient.max_streams_out
            or system.streams_out >= system.max_streams_out
            or scope.streams_in + scope.streams_out >= scope.max_streams
            or transient.streams_in + transient.streams_out >= transient.max_streams
            or system.streams_in + system.streams_out >= system.max_streams
        ):
            table.check_stream((scope, transient, system), False)
        scope.streams_out += 1
        transient.streams_out += 1
        system.streams_out += 1
        return StreamScope(table, scope, False)

    def stats(self) -> ResourceStats:
        """A snapshot of every scope."""
        table = self._table
        return ResourceStats(
            table.system.stats(),
            table.transient.stats(),
            {peer: scope.stats() for peer, scope in table.peers.items()},
            {protocol: scope.stats() for protocol, scope in table.protocols.items()},
            {service: scope.stats() for service, scope in table.services.items()},
            dict(table.refusals),
        )
