"""Public keys by peer."""

from __future__ import annotations

from py_p2pstack.errors import InvalidKey
from py_p2pstack.identity import PeerId, PublicKey
from py_p2pstack.peerstore.peer_map import PeerMap


class KeyBook:
    """Implements `core.peerstore.KeyBook`."""

    __slots__ = ("_keys",)

    def __init__(self, keys: PeerMap[PublicKey]) -> None:
        self._keys = keys

    def add_public_key(self, peer: PeerId, key: PublicKey) -> None:
        """Remember the key. Raises InvalidKey if it is not the peer's."""
        if self._keys.get(peer) is key:
            return
        if key.peer_id() != peer:
            raise InvalidKey(f"not the key of {peer}")
        self._keys.put(peer, key)

    def public_key(self, peer: PeerId) -> PublicKey | None:
        """The key, also when it is inlined in the peer id."""
        return self._keys.get(peer) or peer.public_key()

    def peers(self) -> list[PeerId]:
        """The peers whose key was added."""
        return list(self._keys)

    def remove_peer(self, peer: PeerId) -> None:
        """Forget the key."""
        self._keys.pop(peer)
