"""Why a connection or stream was ended, as told to the peer in a go-away or reset.

Source: libp2p/specs, error codes; the numbers are those of go-libp2p core/network.
"""

from __future__ import annotations

from enum import IntEnum


class ConnectionCode(IntEnum):
    """Codes of a connection's go-away."""

    NO_ERROR = 0
    PROTOCOL_NEGOTIATION_FAILED = 0x1000
    RESOURCE_LIMIT_EXCEEDED = 0x1001
    RATE_LIMITED = 0x1002
    PROTOCOL_VIOLATION = 0x1003
    SUPPLANTED = 0x1004
    GARBAGE_COLLECTED = 0x1005
    SHUTDOWN = 0x1006
    GATED = 0x1007
    CODE_OUT_OF_RANGE = 0x1008


class StreamCode(IntEnum):
    """Codes of a stream's reset."""

    NO_ERROR = 0
    PROTOCOL_NEGOTIATION_FAILED = 0x1001
    RESOURCE_LIMIT_EXCEEDED = 0x1002
    RATE_LIMITED = 0x1003
    PROTOCOL_VIOLATION = 0x1004
    SUPPLANTED = 0x1005
    GARBAGE_COLLECTED = 0x1006
    SHUTDOWN = 0x1007
    GATED = 0x1008
    CODE_OUT_OF_RANGE = 0x1009
