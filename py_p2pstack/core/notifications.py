"""Typed events a host publishes on its bus: past tense, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.connection import Connection
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.identity import PeerId


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The first connection to `peer` was admitted."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """The last connection to `peer` ended."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerIdentified:
    """Identify told us about `peer` over `connection`; the peerstore is up to date."""

    peer: PeerId
    connection: Connection
    protocols: frozenset[ProtocolId]
    listen_addresses: tuple[Multiaddr, ...]
    agent_version: str
    protocol_version: str
    observed_address: Multiaddr | None


@dataclass(frozen=True, slots=True)
class PeerIdentifyFailed:
    """Identify with `peer` failed; the connection lives on."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class PeerProtocolsUpdated:
    """`peer` pushed a change of its protocols."""

    peer: PeerId
    added: frozenset[ProtocolId]
    removed: frozenset[ProtocolId]


@dataclass(frozen=True, slots=True)
class LocalAddressesUpdated:
    """Our own addresses (listening or observed) changed."""

    current: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class LocalProtocolsUpdated:
    """A stream handler was set or removed."""

    added: frozenset[ProtocolId]
    removed: frozenset[ProtocolId]


class Reachability(Enum):
    """Whether others can dial us."""

    UNKNOWN = "unknown"
    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class LocalReachabilityChanged:
    """Somebody who had us dialled from outside found out whether that works."""

    reachability: Reachability
