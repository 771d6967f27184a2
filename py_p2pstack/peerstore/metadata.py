"""Values by peer and key, for whoever wants to remember something: agent versions, scores, flags."""

from __future__ import annotations

from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.peerstore.peer_map import PeerMap

_OBJECT_WEIGHT = 64  # what an object other than text or bytes counts as


class Metadata:
    """Implements `core.peerstore.Metadata`."""

    __slots__ = ("_max_per_peer", "_max_value", "_values")

    def __init__(self, values: PeerMap[dict[str, object]], *, max_per_peer: int, max_value: int) -> None:
        self._values = values
        self._max_per_peer = max_per_peer
        self._max_value = max_value

    def put(self, peer: PeerId, key: str, value: object) -> None:
        """Set a value. Raises ResourceLimitExceeded: too long a key or value, or too many of one peer."""
        for size in (len(key), _size(value)):
            if size > self._max_value:
                raise ResourceLimitExceeded("peer metadata: value size", self._max_value, size)
        values = self._values.get(peer) or {}
        if key not in values and len(values) >= self._max_per_peer:
            raise ResourceLimitExceeded("peer metadata: values", self._max_per_peer, len(values) + 1)
        values[key] = value
        self._values.put(peer, values, sum(len(each) + _size(values[each]) for each in values))

    def get(self, peer: PeerId, key: str) -> object | None:
        """The value; None if there is none."""
        values = self._values.get(peer)
        return None if values is None else values.get(key)

    def peers(self) -> list[PeerId]:
        """The peers with a value."""
        return list(self._values)

    def remove_peer(self, peer: PeerId) -> None:
        """Forget the peer's values."""
        self._values.pop(peer)


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else _OBJECT_WEIGHT
