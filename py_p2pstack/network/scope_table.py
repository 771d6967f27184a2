"""Every scope there is: made at first use, freed when empty, and asked before anything is counted."""

from __future__ import annotations

from collections.abc import Iterable

from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.network.limits import ResourceLimits
from py_p2pstack.network.scopes import PeerScope, Scope, SharedScope


class ScopeTable:
    """The scopes of one resource manager, shared with the reservations it hands out."""

    __slots__ = ("limits", "peers", "protocols", "refusals", "services", "system", "transient")

    def __init__(self, limits: ResourceLimits) -> None:
        self.limits = limits
        self.system = Scope("system", "", limits.system)
        self.transient = Scope("transient", "", limits.transient)
        self.peers: dict[PeerId, PeerScope] = {}
        self.protocols: dict[ProtocolId, Scope] = {}
        self.services: dict[str, Scope] = {}
        self.refusals: dict[str, int] = {}
        """Refusals by kind of scope."""

    # --- made and freed -----------------------------------------------------------------------------

    def peer_scope(self, peer: PeerId) -> PeerScope:
        """The scope of a peer, made if need be."""
        scope = self.peers.get(peer)
        if scope is None:
            limits = self.limits
            limit = limits.peers.get(peer, limits.peer)
            scope = self.peers[peer] = PeerScope(peer, limit, limits.max_undecided_streams_per_peer)
        return scope

    def drop_peer_if_empty(self, scope: PeerScope) -> None:
        """Free the scope of a peer that has neither connection nor stream, with all its shares."""
        if scope.conns_in or scope.conns_out or scope.streams_in or scope.streams_out:
            return
        del self.peers[scope.peer]
        for shared in scope.protocols.values():
            self._drop_user(self.protocols, shared.parent)
        for shared in scope.services.values():
            self._drop_user(self.services, shared.parent)

    def protocol_scope(self, peer: PeerScope, protocol: ProtocolId) -> SharedScope:
        """Make a peer's share of a protocol, and the protocol's scope if need be."""
        limits = self.limits
        parent = self.protocols.get(protocol)
        if parent is None:
            parent = Scope("protocol", protocol, limits.protocols.get(protocol, limits.protocol))
            self.protocols[protocol] = parent
        limit = limits.protocol_peers.get(protocol, limits.protocol_peer)
        return self._share(peer.protocols, protocol, SharedScope("protocol_peer", peer.peer, parent, limit))

    def service_scope(self, peer: PeerScope, service: str) -> SharedScope:
        """Make a peer's share of a service, and the service's scope if need be."""
        limits = self.limits
        parent = self.services.get(service)
        if parent is None:
            parent = Scope("service", service, limits.services.get(service, limits.service))
            self.services[service] = parent
        limit = limits.service_peers.get(service, limits.service_peer)
        return self._share(peer.services, service, SharedScope("service_peer", peer.peer, parent, limit))

    @staticmethod
    def _share(shares: dict[str, SharedScope], key: str, share: SharedScope) -> SharedScope:
        share.parent.users += 1
        shares[key] = share
        return share

    def drop_share_if_idle(self, scopes: dict[str, Scope], shares: dict[str, SharedScope], share: SharedScope) -> None:
        """Free an empty share of a peer that has many; a few are kept for its next stream of the kind."""
        if len(shares) > self.limits.max_idle_scopes_per_peer and not (share.streams_in or share.streams_out):
            del shares[str(share.parent.key)]
            self._drop_user(scopes, share.parent)

    @staticmethod
    def _drop_user(scopes: dict[str, Scope], parent: Scope) -> None:
        parent.users -= 1
        if not parent.users:
            del scopes[str(parent.key)]

    # --- refusals -----------------------------------------------------------------------------------

    def count(self, kind: str, refusal: ResourceLimitExceeded) -> ResourceLimitExceeded:
        """Count a refusal and give it back."""
        self.refusals[kind] = self.refusals.get(kind, 0) + 1
        return refusal

    def check_connection(self, scopes: Iterable[Scope], inbound: bool, fds: int) -> None:
        """Raise ResourceLimitExceeded, counted, if one more connection does not fit in one of `scopes`."""
        for scope in scopes:
            refusal = scope.connection_refusal(inbound, fds)
            if refusal is not None:
                raise self.count(scope.kind, refusal)

    def check_stream(self, scopes: Iterable[Scope], inbound: bool) -> None:
        """Raise ResourceLimitExceeded, counted, if one more stream does not fit in one of `scopes`."""
        for scope in scopes:
            refusal = scope.stream_refusal(inbound)
            if refusal is not None:
                raise self.count(scope.kind, refusal)

    def check_undecided(self, scope: PeerScope) -> None:
        """Raise ResourceLimitExceeded, counted, if one more inbound stream without a protocol does not fit."""
        refusal = scope.undecided_refusal()
        if refusal is not None:
            raise self.count(scope.kind, refusal)

    def check_memory(self, scopes: Iterable[Scope], size: int, priority: int) -> None:
        """Raise ResourceLimitExceeded, counted, if `size` more bytes do not fit in one of `scopes`."""
        for scope in scopes:
            refusal = scope.memory_refusal(size, priority)
            if refusal is not None:
                raise self.count(scope.kind, refusal)
