"""The header of an mplex message: a stream's number with a flag, and the length of what follows."""

from __future__ import annotations

from enum import IntEnum

from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.muxers.mplex.config import MAX_MESSAGE
from py_p2pstack.wire import varint

MAX_HEADER = 2 * varint.MAX_BYTES


class Flag(IntEnum):
    """What a message is. Who opened a stream sends the even ones, the other the odd ones."""

    NEW_STREAM = 0
    MESSAGE_RECEIVER = 1
    MESSAGE_INITIATOR = 2
    CLOSE_RECEIVER = 3
    CLOSE_INITIATOR = 4
    RESET_RECEIVER = 5
    RESET_INITIATOR = 6


def encode_header(stream_id: int, flag: int, size: int) -> bytes:
    """The bytes before a body of `size`."""
    return varint.encode(stream_id << 3 | flag) + varint.encode(size)


def decode_header(data: Buffer, offset: int) -> tuple[int, int, int, int] | None:
    """Read a header: (stream, flag, size of the body, offset behind it); None while it is not whole.

    Raises RemoteProtocolError for a malformed varint, an unknown flag, a body of more than a mebibyte.
    """
    first = varint.decode(data, offset)
    second = varint.decode(data, first[1]) if first is not None else None
    if first is None or second is None:
        return None
    header, _ = first
    size, behind = second
    flag = header & 7
    if flag > Flag.RESET_INITIATOR:
        raise RemoteProtocolError(f"an mplex message with the flag {flag}")
    if size > MAX_MESSAGE:
        raise RemoteProtocolError(f"an mplex message of {size} bytes; the limit is {MAX_MESSAGE}")
    return header >> 3, flag, size, behind
