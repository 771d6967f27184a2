"""DAG-CBOR, the strict subset of CBOR in which every value has exactly one encoding.

Read strictly: two readers that forgive differently would see different values under one signature. General CBOR
decoders also make dates, fractions and regular expressions of what strangers send; here there is nothing but plain
values. Source: IPLD specifications, DAG-CBOR.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

MAX_DEPTH = 16
_LINK_TAG = 42
_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}


@dataclass(frozen=True, slots=True)
class Link:
    """A CID, in its bytes; nothing looks into them."""

    cid: bytes


Value: TypeAlias = Union[bool, int, float, bytes, str, Link, "Sequence[Value]", "Mapping[str, Value]", None]


def encode(value: Value) -> bytes:
    """Return the one encoding of a value. Raises ValueError for what has none (NaN, integers above 64 bits)."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no encoding")
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(text := value.encode())) + text
    if isinstance(value, Link):
        return _head(6, _LINK_TAG) + encode(b"\0" + value.cid)
    if isinstance(value, Mapping):
        entries = sorted(((key.encode(), each) for key, each in value.items()), key=lambda entry: _rank(entry[0]))
        return _head(5, len(entries)) + b"".join(_head(3, len(key)) + key + encode(each) for key, each in entries)
    return _head(4, len(value)) + b"".join(map(encode, value))


def decode(data: bytes) -> Value:
    """Read one value that takes up all of `data`. Raises ValueError."""
    value, end = _read(data, 0, MAX_DEPTH)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes behind the CBOR")
    return value


def _rank(key: bytes) -> tuple[int, bytes]:
    return len(key), key


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes((major << 5 | info,)) + number.to_bytes(size, "big")
    raise ValueError(f"{number} does not fit 64 bits")


def _read(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if at >= len(data):
        raise ValueError("CBOR that breaks off")
    major, info = data[at] >> 5, data[at] & 31
    if major == 7:
        return _read_simple(data, at, info)
    number, at = _read_number(data, at, info)
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        return _read_string(data, at, major, number)
    if depth == 0:
        raise ValueError(f"CBOR nested deeper than {MAX_DEPTH}")
    if major == 6:
        return _read_link(data, at, number)
    if number > len(data) - at:  # an element takes at least a byte
        raise ValueError("CBOR that breaks off")
    return (_read_list if major == 4 else _read_map)(data, at, number, depth - 1)


def _read_number(data: bytes, at: int, info: int) -> tuple[int, int]:
    if info < 24:
        return info, at + 1
    if info > 27:
        raise ValueError("CBOR of indefinite or reserved length")
    size = 1 << info - 24
    end = at + 1 + size
    number = int.from_bytes(data[at + 1 : end], "big")
    if end > len(data):
        raise ValueError("CBOR that breaks off")
    if number < (24 if size == 1 else 1 << 4 * size):
        raise ValueError("a CBOR number longer than needed")
    return number, end


def _read_simple(data: bytes, at: int, info: int) -> tuple[Value, int]:
    if info in _SIMPLE:
        return _SIMPLE[info], at + 1
    if info != 27 or at + 9 > len(data):
        raise ValueError(f"CBOR simple value {info}")
    (number,) = struct.unpack_from(">d", data, at + 1)
    if not math.isfinite(number):
        raise ValueError(f"{number} in CBOR")
    return float(number), at + 9


def _read_string(data: bytes, at: int, major: int, size: int) -> tuple[bytes | str, int]:
    end = at + size
    if end > len(data):
        raise ValueError("CBOR that breaks off")
    return (data[at:end] if major == 2 else data[at:end].decode()), end  # UnicodeDecodeError is a ValueError


def _read_link(data: bytes, at: int, tag: int) -> tuple[Link, int]:
    cid, end = _read(data, at, 0)
    if tag != _LINK_TAG or not isinstance(cid, bytes) or cid[:1] != b"\0":
        raise ValueError(f"CBOR tag {tag}")
    return Link(cid[1:]), end


def _read_list(data: bytes, at: int, count: int, depth: int) -> tuple[list[Value], int]:
    values = []
    for _ in range(count):
        value, at = _read(data, at, depth)
        values.append(value)
    return values, at


def _read_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[str, Value], int]:
    values: dict[str, Value] = {}
    last = (-1, b"")
    for _ in range(count):
        key, at = _read(data, at, 0)
        if not isinstance(key, str):
            raise ValueError("a CBOR map key that is no text")
        rank = _rank(key.encode())
        if rank <= last:
            raise ValueError("CBOR map keys out of order")
        last = rank
        values[key], at = _read(data, at, depth)
    return values, at
