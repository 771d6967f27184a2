"""Unsigned varints: every number has one encoding, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.wire import varint

LARGEST = (1 << 63) - 1


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        # github.com/multiformats/unsigned-varint, examples
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (255, "ff01"),
        (300, "ac02"),
        (16384, "808001"),
        (LARGEST, "ffffffffffffffff7f"),
    ],
)
def test_examples_of_the_specification_are_met(value: int, encoded: str) -> None:
    assert varint.encode(value).hex() == encoded
    assert varint.decode(bytes.fromhex(encoded)) == (value, len(encoded) // 2)


@given(st.integers(0, LARGEST), st.binary(max_size=3), st.binary(max_size=3))
def test_what_is_encoded_is_decoded_wherever_it_lies(value: int, before: bytes, behind: bytes) -> None:
    encoded = varint.encode(value)
    assert varint.decode(before + encoded + behind, len(before)) == (value, len(before) + len(encoded))


@given(st.binary(max_size=12))
def test_any_bytes_are_a_canonical_varint_or_unfinished_or_an_error(data: bytes) -> None:
    try:
        result = varint.decode(data)
    except RemoteProtocolError:
        return
    if result is None:
        assert len(data) < varint.MAX_BYTES
        assert all(byte & 0x80 for byte in data)
    else:
        value, end = result
        assert varint.encode(value) == data[:end]


@given(st.integers(0, LARGEST))
def test_every_true_prefix_of_a_varint_is_unfinished(value: int) -> None:
    encoded = varint.encode(value)
    for end in range(len(encoded)):
        assert varint.decode(encoded[:end]) is None


@pytest.mark.parametrize("data", ["8000", "ff00", "808000"])
def test_a_varint_that_could_be_shorter_is_refused(data: str) -> None:
    with pytest.raises(RemoteProtocolError, match="minimal"):
        varint.decode(bytes.fromhex(data))


def test_a_tenth_byte_is_never_read() -> None:
    with pytest.raises(RemoteProtocolError, match="longer than 9"):
        varint.decode(b"\x80" * 9)
    with pytest.raises(RemoteProtocolError, match="longer than 9"):
        varint.decode(b"\xff" * 9 + b"\x01")


@pytest.mark.parametrize("value", [-1, 1 << 63])
def test_a_number_out_of_range_is_not_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="unsigned varint"):
        varint.encode(value)


def test_bytearrays_and_memoryviews_are_read_too() -> None:
    data = varint.encode(300)
    assert varint.decode(bytearray(data)) == varint.decode(memoryview(data)) == (300, 2)
