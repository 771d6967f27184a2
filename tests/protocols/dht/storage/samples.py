"""A time of day, and addresses, to test by."""

from __future__ import annotations

from py_p2pstack.addresses import Multiaddr

HOUR = 3600.0
HERE = (Multiaddr.parse("/ip4/192.0.2.1/tcp/4001"),)
THERE = (Multiaddr.parse("/ip4/192.0.2.2/tcp/4001"),)


class Clock:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1.7e9

    def __call__(self) -> float:
        return self.now
