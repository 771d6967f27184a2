"""A peer id with the addresses it may be dialled at."""

from __future__ import annotations

from dataclasses import dataclass

from py_p2pstack.addresses.multiaddr import Multiaddr
from py_p2pstack.errors import InvalidAddress
from py_p2pstack.identity import PeerId


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Who, and where; the addresses are without their `/p2p` part."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...] = ()

    def __hash__(self) -> int:
        return hash(self.peer_id)

    @classmethod
    def parse(cls, peer: PeerInfo | Multiaddr | str) -> PeerInfo:
        """Read an address that ends in `/p2p/<peer id>` (`/p2p/<peer id>` alone: no address).

        A PeerInfo is taken as it is. Raises InvalidAddress.
        """
        if isinstance(peer, PeerInfo):
            return peer
        address = Multiaddr.parse(peer)
        peer_id = address.peer_id()
        if peer_id is None:
            raise InvalidAddress(f"{address} does not end in /p2p/<peer id>")
        base = address.without_peer()
        return cls(peer_id, (base,) if len(base) else ())

    def full_addresses(self) -> list[Multiaddr]:
        """Each address with `/p2p/<peer id>` behind it."""
        return [address.with_peer(self.peer_id) for address in self.addresses]
