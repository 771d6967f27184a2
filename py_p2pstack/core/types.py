"""Small value types that every layer names."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

ProtocolId: TypeAlias = str
"""What multistream-select agrees on, e.g. `/ipfs/ping/1.0.0`; UTF-8, at most 1024 bytes on the wire."""

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Anything that holds bytes in one contiguous, C-ordered piece."""


class Direction(Enum):
    """Who opened a connection or a stream."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Connectedness(Enum):
    """What the network knows about reaching a peer (go-libp2p's terms)."""

    NOT_CONNECTED = "not connected"
    CONNECTED = "connected"
