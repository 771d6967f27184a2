"""Resource managers for tests: with few limits, and what they hold."""

from __future__ import annotations

from dataclasses import replace

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Direction
from py_p2pstack.network.resources import ConnectionScope, ResourceLimits, ResourceManager, ScopeStats
from tests.peer_ids import peer

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
REMOTE = Multiaddr.parse("/ip4/192.0.2.1/tcp/1")
QUIC = Multiaddr.parse("/ip4/127.0.0.1/udp/1/quic-v1")
ALICE, BOB = peer(1), peer(2)
FREE = ResourceLimits.unlimited()
NOTHING = ScopeStats(0, 0, 0, 0, 0, 0, 0)
ECHO = "/echo/1.0.0"


def manager(**limits: object) -> ResourceManager:
    return ResourceManager(replace(FREE, **limits), clock=lambda: 0.0)  # type: ignore[arg-type]


def connect(resources: ResourceManager, who: int = 1, direction: Direction = IN) -> ConnectionScope:
    scope = resources.reserve_connection(direction, LOOPBACK)
    scope.set_peer(peer(who))
    return scope


def is_empty(resources: ResourceManager) -> bool:
    stats = resources.stats()
    totals = [replace(stats.system, refusals=0), replace(stats.transient, refusals=0)]
    return totals == [NOTHING, NOTHING] and not (stats.peers or stats.protocols or stats.services)
