"""What an endpoint reads of datagrams, and what it answers without a connection."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qh3._hazmat import pull_quic_header

from py_p2pstack.transports.quic import codec
from tests.transports.quic.machines import Machines, credentials

KEY, ADDRESS, CID, ORIGINAL = b"k" * 32, b"192.0.2.1 4001", b"c" * 8, b"o" * 8


def test_a_first_packet_is_read() -> None:
    [(first, _)] = Machines(credentials(), credentials()).alice.datagrams_to_send(0.0)
    header = codec.read_long(first)
    assert header is not None
    theirs = pull_quic_header(first, 0, 8)
    assert (header.version, header.destination, header.source) == (1, theirs[3], theirs[4])
    assert header.initial
    assert header.token == b""
    assert codec.short_destination(first) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    header = codec.read_long(data)
    if header is not None and header.version == codec.VERSION:
        assert len(header.destination) <= 20
        assert len(header.source) <= 20
    cid = codec.short_destination(data)
    assert cid is None or len(cid) == codec.CID_LENGTH


def test_the_token_of_a_first_packet_is_read() -> None:
    head = b"\xc0\x00\x00\x00\x01\x08" + CID + b"\x00"
    header = codec.read_long(head + b"\x40\x03tok" + bytes(20))
    assert header is not None
    assert header.token == b"tok"
    assert codec.read_long(head + b"\x40\x63tok") is None
    assert codec.read_long(head) is None


def test_another_version_is_told_what_we_speak() -> None:
    header = codec.read_long(b"\xc0\xfa\xce\xb0\x0c\x08" + CID + b"\x04src!" + bytes(1200))
    assert header is not None
    assert not header.initial
    version, _, _, destination, source, _, _, versions, _, _ = pull_quic_header(
        codec.version_negotiation(header, 0x55), 0, 8
    )
    assert version == 0
    assert (destination, source, list(versions)) == (b"src!", CID, [codec.VERSION])


def test_a_token_proves_one_address_for_ten_seconds() -> None:
    token = codec.make_token(KEY, ADDRESS, ORIGINAL, CID, 100.0)
    assert codec.open_token(KEY, ADDRESS, CID, token, 105.0) == ORIGINAL
    assert codec.open_token(KEY, ADDRESS, CID, token, 111.0) is None
    assert codec.open_token(KEY, b"192.0.2.2 4001", CID, token, 101.0) is None
    assert codec.open_token(KEY, ADDRESS, b"d" * 8, token, 101.0) is None
    assert codec.open_token(b"x" * 32, ADDRESS, CID, token, 101.0) is None
    for position in range(len(token)):
        bent = token[:position] + bytes((token[position] ^ 1,)) + token[position + 1 :]
        assert codec.open_token(KEY, ADDRESS, CID, bent, 101.0) is None
    assert codec.open_token(KEY, ADDRESS, CID, token[:20], 101.0) is None


@pytest.mark.parametrize("size", [21, 22, 30, 42, 43, 1200])
def test_a_reset_is_shorter_than_what_it_answers(size: int) -> None:
    data = b"\x41" + CID + bytes(size - 9)
    reset = codec.stateless_reset(KEY, data, CID, os.urandom(64))
    if size == 21:
        assert reset is None
    else:
        assert reset is not None
        assert 21 <= len(reset) < size
        assert reset[0] & 0xC0 == 0x40
        assert reset.endswith(codec.reset_token(KEY, CID))
