"""The yamux header: version, type, flags, stream id, length; 12 bytes, big-endian."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

HEADER_SIZE = 12
VERSION = 0
_header = struct.Struct(">BBHII")
pack = _header.pack
unpack_from = _header.unpack_from


class FrameType(IntEnum):
    """What a frame is."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """What a frame does to its stream (or, for pings, asks or answers)."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAway(IntEnum):
    """yamux's own go-away codes; libp2p's are in `core.error_codes`."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
