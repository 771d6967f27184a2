"""How far away each peer is: a moving average of measured round-trip times."""

from __future__ import annotations

from py_p2pstack.identity import PeerId
from py_p2pstack.peerstore.peer_map import PeerMap

SMOOTHING = 0.1  # go-libp2p: LatencyEWMASmoothing


class Metrics:
    """Implements `core.peerstore.Metrics`."""

    __slots__ = ("_latencies",)

    def __init__(self, latencies: PeerMap[float]) -> None:
        self._latencies = latencies

    def record_latency(self, peer: PeerId, seconds: float) -> None:
        """Mix a measured round-trip time into the peer's average; the first one is the average."""
        average = self._latencies.get(peer)
        if average is not None:
            seconds = (1 - SMOOTHING) * average + SMOOTHING * seconds
        self._latencies.put(peer, seconds)

    def latency(self, peer: PeerId) -> float | None:
        """The average in seconds; None if nothing was measured."""
        return self._latencies.get(peer)

    def peers(self) -> list[PeerId]:
        """The peers with a latency."""
        return list(self._latencies)

    def remove_peer(self, peer: PeerId) -> None:
        """Forget the peer's latency."""
        self._latencies.pop(peer)
