"""Who has gone, and when: what a peer told is kept for a while, in case it comes back, and then forgotten.

Addresses have lifetimes of their own; without this the rest of what is known of a peer (protocols, key, metadata,
latency) would stay until the peerstore is full. Source: go-libp2p pstoremanager, whose grace is a minute.
"""

from __future__ import annotations

from py_p2pstack.identity import PeerId


class Departures:
    """The peers that went and did not come back yet, the longest gone first."""

    __slots__ = ("_gone", "_grace", "_most")

    def __init__(self, grace: float, most: int) -> None:
        """Peers are due `grace` seconds after they went; with more than `most` the longest gone are due at once."""
        self._grace = grace
        self._most = most
        self._gone: dict[PeerId, float] = {}

    def __len__(self) -> int:
        return len(self._gone)

    def went(self, peer: PeerId, now: float) -> None:
        """The last connection to `peer` has ended."""
        self._gone.pop(peer, None)
        self._gone[peer] = now

    def came(self, peer: PeerId) -> None:
        """It is connected (again)."""
        self._gone.pop(peer, None)

    def take_due(self, now: float) -> list[PeerId]:
        """Those to be forgotten now; each is named once."""
        surplus = len(self._gone) - self._most
        due: list[PeerId] = []
        for peer, since in self._gone.items():
            if len(due) >= surplus and now - since < self._grace:
                break
            due.append(peer)
        for peer in due:
            del self._gone[peer]
        return due
