"""DAG-CBOR: one encoding a value, and nothing else is read."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.protocols.dht.records import dag_cbor
from py_p2pstack.protocols.dht.records.dag_cbor import MAX_DEPTH, Link

PLAIN = st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary() | st.text()
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(nested(PLAIN | FLOATS | st.builds(Link, st.binary())))
def test_what_is_encoded_is_decoded(value: Any) -> None:
    assert dag_cbor.decode(dag_cbor.encode(value)) == value


@given(nested(PLAIN))
def test_the_encoding_is_cbor2s_canonical_one(value: Any) -> None:
    assert dag_cbor.encode(value) == cbor2.dumps(value, canonical=True)


@given(st.binary(max_size=64))
def test_bytes_are_refused_or_are_the_one_encoding_of_their_value(data: bytes) -> None:
    try:
        value = dag_cbor.decode(data)
    except ValueError:
        return
    assert dag_cbor.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        "",
        "1800",  # 0 in two bytes
        "190001",
        "1a00000001",
        "1b0000000000000001",
        "1c",  # reserved
        "5f4100ff",  # indefinite
        "9f00ff",
        "bf616100ff",
        "ff",
        "41",  # breaks off
        "62c3",
        "8100ff",
        "9b000000ffffffffff",
        "82",
        "62c328",  # no UTF-8
        "a20000",
        "a10000",  # a number for a key
        "a2616200616100",  # keys out of order
        "a2616100616100",  # a key twice
        "a262616100616200",  # the longer before the shorter
        "c074323031332d30332d32315432303a30343a30305a",  # a date
        "c249010000000000000000",  # a big number
        "d82a0001",
        "d82a4101",
        "d81c80",  # shared
        "f7",  # undefined
        "e0",
        "f818",
        "f93c00",  # 16 and 32 bits
        "fa3f800000",
        "fb7ff8000000000000",
        "fb7ff0000000000000",
        "fb00",
        "0000",
    ],
)
def test_what_is_not_strict_is_refused(data: str) -> None:
    with pytest.raises(ValueError):
        dag_cbor.decode(bytes.fromhex(data))


def test_nesting_is_bounded() -> None:
    assert dag_cbor.decode(b"\x81" * MAX_DEPTH + b"\0")
    for opening in (b"\x81", b"\xa1\x60", b"\xd8\x2a"):
        with pytest.raises(ValueError):
            dag_cbor.decode(opening * 5000 + b"\0")
    with pytest.raises(ValueError):
        dag_cbor.decode(b"\x81" * (MAX_DEPTH + 1) + b"\0")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1 << 64, -(1 << 64) - 1])
def test_what_has_no_encoding_is_not_encoded(value: float) -> None:
    with pytest.raises(ValueError):
        dag_cbor.encode(value)


def test_general_cbor_with_types_of_its_own_is_refused() -> None:
    for value in (datetime(2020, 1, 1, tzinfo=UTC), {1, 2}, 1 << 70):
        with pytest.raises(ValueError):
            dag_cbor.decode(cbor2.dumps(value))
