"""Who may connect: hooks asked synchronously before anything is spent on a peer, an address or a connection.

The swarm asks in this order. Outbound: `intercept_peer_dial`, then `intercept_addr_dial` per address. Inbound:
`intercept_accept`, before the handshake. Both then: `intercept_secured` and `intercept_upgraded`, when the
peer is proven.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol, TypeAlias

from py_p2pstack.addresses import Multiaddr, ip_of
from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.identity import PeerId

IpNetwork: TypeAlias = IPv4Network | IPv6Network


class ConnectionGater(Protocol):
    """Five questions; each answer is True to go on, and must not block or raise."""

    def intercept_peer_dial(self, peer: PeerId) -> bool:
        """Whether we may dial `peer` at all."""
        ...

    def intercept_addr_dial(self, peer: PeerId, address: Multiaddr) -> bool:
        """Whether we may dial `peer` at `address`; names are already resolved."""
        ...

    def intercept_accept(self, local: Multiaddr, remote: Multiaddr) -> bool:
        """Whether a connection that arrives from `remote` may begin its handshake."""
        ...

    def intercept_secured(self, info: ConnectionInfo) -> bool:
        """Whether a connection may stay, now that its peer has proved who it is."""
        ...

    def intercept_upgraded(self, info: ConnectionInfo) -> bool:
        """The last word on a finished connection, before anybody is told of it."""
        ...


class AllowAll:
    """The default gater: everybody may connect. A base for gaters that care about some of the questions."""

    def intercept_peer_dial(self, peer: PeerId) -> bool:
        """Yes."""
        return True

    def intercept_addr_dial(self, peer: PeerId, address: Multiaddr) -> bool:
        """Yes."""
        return True

    def intercept_accept(self, local: Multiaddr, remote: Multiaddr) -> bool:
        """Yes."""
        return True

    def intercept_secured(self, info: ConnectionInfo) -> bool:
        """Yes."""
        return True

    def intercept_upgraded(self, info: ConnectionInfo) -> bool:
        """Yes."""
        return True


class BlockList(AllowAll):
    """Refuses listed peers and IP networks, in both directions. Live connections stay: close those yourself.

    An IPv4 network covers its addresses in IPv6 clothes (`::ffff:a.b.c.d`) too.
    """

    def __init__(self, *, peers: Iterable[PeerId] = (), networks: Iterable[IpNetwork | str] = ()) -> None:
        """Raises ValueError for text that is no network."""
        self._peers = set(peers)
        self._networks = {_network(network) for network in networks}

    @property
    def peers(self) -> frozenset[PeerId]:
        """The refused peers."""
        return frozenset(self._peers)

    @property
    def networks(self) -> frozenset[IpNetwork]:
        """The refused networks."""
        return frozenset(self._networks)

    def block_peer(self, peer: PeerId) -> None:
        """Refuse `peer` from now on."""
        self._peers.add(peer)

    def unblock_peer(self, peer: PeerId) -> None:
        """Refuse `peer` no longer."""
        self._peers.discard(peer)

    def block_network(self, network: IpNetwork | str) -> None:
        """Refuse every address in `network` (`192.0.2.0/24`, a single address too). Raises ValueError."""
        self._networks.add(_network(network))

    def unblock_network(self, network: IpNetwork | str) -> None:
        """Refuse exactly this network no longer; larger and smaller ones stay listed. Raises ValueError."""
        self._networks.discard(_network(network))

    def intercept_peer_dial(self, peer: PeerId) -> bool:
        """Whether `peer` is not listed."""
        return peer not in self._peers

    def intercept_addr_dial(self, peer: PeerId, address: Multiaddr) -> bool:
        """Whether neither the peer nor the address is listed."""
        return peer not in self._peers and self._allowed(address)

    def intercept_accept(self, local: Multiaddr, remote: Multiaddr) -> bool:
        """Whether `remote` is in no listed network."""
        return self._allowed(remote)

    def intercept_secured(self, info: ConnectionInfo) -> bool:
        """Whether the proven peer is not listed."""
        return info.remote_peer not in self._peers

    def _allowed(self, address: Multiaddr) -> bool:
        if not self._networks:
            return True
        ip = ip_of(address)
        return ip is None or not any(ip in network for network in self._networks)


def _network(network: IpNetwork | str) -> IpNetwork:
    return ip_network(network) if isinstance(network, str) else network
