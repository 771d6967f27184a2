"""How much of everything each scope of the resource manager may hold: go-libp2p's figures, scaled by memory.

Source: go-libp2p rcmgr/limit_defaults.go. Every figure can be overridden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from py_p2pstack.core.types import ProtocolId
from py_p2pstack.identity import PeerId
from py_p2pstack.network.ip_limits import IpLimits

UNLIMITED = 2**63 - 1

_MIB = 1 << 20
_GIB = 1 << 30
_USUAL_DESCRIPTORS = 1024  # what one process commonly may open
_SMALL_MEMORY = 128 * _MIB  # go: below this the base figures are used as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeLimit:
    """The most one scope may hold at a time."""

    connections_inbound: int = UNLIMITED
    """Connections the peer opened."""
    connections_outbound: int = UNLIMITED
    """Connections we opened."""
    connections: int = UNLIMITED
    """Connections of both directions together."""
    streams_inbound: int = UNLIMITED
    """Streams the peer opened."""
    streams_outbound: int = UNLIMITED
    """Streams we opened."""
    streams: int = UNLIMITED
    """Streams of both directions together."""
    file_descriptors: int = UNLIMITED
    """Connections that cost a file descriptor."""
    memory: int = UNLIMITED
    """Reserved bytes."""


def _of_streams(inbound: int, outbound: int, total: int, memory: int) -> ScopeLimit:
    return ScopeLimit(streams_inbound=inbound, streams_outbound=outbound, streams=total, memory=memory)


def _of_all(connections: tuple[int, int, int], streams: tuple[int, int, int], fds: int, memory: int) -> ScopeLimit:
    return ScopeLimit(
        connections_inbound=connections[0],
        connections_outbound=connections[1],
        connections=connections[2],
        streams_inbound=streams[0],
        streams_outbound=streams[1],
        streams=streams[2],
        file_descriptors=fds,
        memory=memory,
    )


_CONNECTION = ScopeLimit(memory=32 * _MIB)
_STREAM = ScopeLimit(memory=16 * _MIB)

# Per scope: the base, what each GiB of memory adds, and the share of the process's file descriptors.
_BASE: dict[str, tuple[ScopeLimit, ScopeLimit, float]] = {
    "system": (
        _of_all((64, 128, 128), (1024, 2048, 2048), 256, 128 * _MIB),
        _of_all((64, 128, 128), (1024, 2048, 2048), 0, _GIB),
        1.0,
    ),
    "transient": (
        _of_all((32, 64, 64), (128, 256, 256), 64, 32 * _MIB),
        _of_all((16, 32, 32), (128, 256, 256), 0, 128 * _MIB),
        0.25,
    ),
    "peer": (
        _of_all((8, 8, 8), (256, 512, 512), 4, 64 * _MIB),
        _of_all((0, 0, 0), (128, 256, 256), 0, 128 * _MIB),
        1 / 64,
    ),
    "service": (_of_streams(1024, 4096, 4096, 64 * _MIB), _of_streams(512, 2048, 2048, 128 * _MIB), 0.0),
    "service_peer": (_of_streams(128, 256, 256, 16 * _MIB), _of_streams(4, 8, 8, 4 * _MIB), 0.0),
    "protocol": (_of_streams(512, 2048, 2048, 64 * _MIB), _of_streams(256, 512, 512, 164 * _MIB), 0.0),
    # go adds 4 bytes a GiB here (`Memory: 4`); 4 MiB is meant, as for services.
    "protocol_peer": (_of_streams(64, 128, 256, 16 * _MIB), _of_streams(4, 8, 16, 4 * _MIB), 0.0),
}


def _scale(kind: str, memory: int, file_descriptors: int) -> ScopeLimit:
    base, increase, share = _BASE[kind]
    mebibytes = memory // _MIB if memory > _SMALL_MEMORY else 0

    def grown(start: int, per_gib: int) -> int:
        return start if start == UNLIMITED else start + per_gib * mebibytes // 1024

    return ScopeLimit(
        connections_inbound=grown(base.connections_inbound, increase.connections_inbound),
        connections_outbound=grown(base.connections_outbound, increase.connections_outbound),
        connections=grown(base.connections, increase.connections),
        streams_inbound=grown(base.streams_inbound, increase.streams_inbound),
        streams_outbound=grown(base.streams_outbound, increase.streams_outbound),
        streams=grown(base.streams, increase.streams),
        file_descriptors=max(base.file_descriptors, int(share * file_descriptors)),
        memory=grown(base.memory, increase.memory),
    )


def _default(kind: str) -> ScopeLimit:
    return _scale(kind, _GIB, _USUAL_DESCRIPTORS // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """The limits of every scope. The defaults are go's for 8 GiB of memory and 1024 file descriptors."""

    system: ScopeLimit = field(default_factory=lambda: _default("system"))
    """Everything together."""
    transient: ScopeLimit = field(default_factory=lambda: _default("transient"))
    """Connections without a proven peer and streams without a protocol."""
    peer: ScopeLimit = field(default_factory=lambda: _default("peer"))
    """Everything with one peer."""
    protocol: ScopeLimit = field(default_factory=lambda: _default("protocol"))
    """The streams of one protocol."""
    protocol_peer: ScopeLimit = field(default_factory=lambda: _default("protocol_peer"))
    """The streams of one protocol with one peer."""
    service: ScopeLimit = field(default_factory=lambda: _default("service"))
    """The streams of one service; a service may speak several protocols."""
    service_peer: ScopeLimit = field(default_factory=lambda: _default("service_peer"))
    """The streams of one service with one peer."""
    connection: ScopeLimit = _CONNECTION
    """One connection; only its memory counts."""
    stream: ScopeLimit = _STREAM
    """One stream; only its memory counts."""
    peers: Mapping[PeerId, ScopeLimit] = field(default_factory=dict)
    """Other limits for single peers."""
    protocols: Mapping[ProtocolId, ScopeLimit] = field(default_factory=dict)
    """Other limits for single protocols."""
    protocol_peers: Mapping[ProtocolId, ScopeLimit] = field(default_factory=dict)
    """Other limits for single protocols with each peer."""
    services: Mapping[str, ScopeLimit] = field(default_factory=dict)
    """Other limits for single services."""
    service_peers: Mapping[str, ScopeLimit] = field(default_factory=dict)
    """Other limits for single services with each peer."""
    ip: IpLimits = field(default_factory=IpLimits)
    """Connections per IP address and subnet."""
    max_undecided_streams_per_peer: int = 128
    """Inbound streams of one peer without a protocol: half of `transient`, so that none takes all places. Ours."""
    max_idle_scopes_per_peer: int = 16
    """Empty protocol and service scopes kept for a connected peer's next stream; more are freed at once."""

    @classmethod
    def scaled(cls, memory: int, file_descriptors: int = 0) -> ResourceLimits:
        """go's limits for a stack that may use `memory` bytes and so many descriptors (0: the base figures).

        go takes an eighth of the machine's memory and half of the process's descriptor limit.
        """
        scopes = {kind: _scale(kind, memory, file_descriptors) for kind in _BASE}
        return replace(cls(), **scopes)  # type: ignore[arg-type]  # mypy cannot match ** with single fields

    @classmethod
    def unlimited(cls) -> ResourceLimits:
        """No limits at all, for tests and for closed networks of your own."""
        free = ScopeLimit()
        return cls(
            system=free,
            transient=free,
            peer=free,
            protocol=free,
            protocol_peer=free,
            service=free,
            service_peer=free,
            connection=free,
            stream=free,
            max_undecided_streams_per_peer=UNLIMITED,
            ip=IpLimits.unlimited(),
        )
