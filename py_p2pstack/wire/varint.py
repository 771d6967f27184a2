"""Unsigned varints as multiformats defines them: at most 9 bytes, minimal, below 2**63.

Source: github.com/multiformats/unsigned-varint.
"""

from __future__ import annotations

from py_p2pstack.errors import RemoteProtocolError

MAX_BYTES = 9  # "implementations MUST restrict the size of the varint to 9 bytes" (63 bits)
_ONE_BYTE = tuple(bytes((n,)) for n in range(0x80))


def encode(value: int) -> bytes:
    """Return `value` (0 ≤ value < 2**63) as an unsigned varint."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if not 0 <= value < 1 << 63:
        raise ValueError(f"not an unsigned varint: {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int] | None:
    """Read one varint at `offset`: (value, offset behind it), or None while it is not there whole.

    Raises:
        RemoteProtocolError: longer than 9 bytes, or not minimally encoded.
    """
    value = shift = 0
    end = len(data)
    while offset < end:
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise RemoteProtocolError("varint is not minimal")
            return value, offset
        shift += 7
        if shift >= 7 * MAX_BYTES:
            raise RemoteProtocolError("varint is longer than 9 bytes")
    return None
