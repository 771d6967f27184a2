"""Records of the transport phase."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import DecryptError, LocalProtocolError, SecurityError
from py_p2pstack.security.noise.records import MAX_NONCE, MAX_PLAINTEXT, NoiseRecords
from py_p2pstack.testing.contracts.security_case import open_records


def pair() -> tuple[NoiseRecords, NoiseRecords]:
    there, back = os.urandom(32), os.urandom(32)
    return NoiseRecords(there, back), NoiseRecords(back, there)


def seal(records: NoiseRecords, plaintext: bytes) -> bytes:
    out = bytearray(len(plaintext) + records.overhead)
    assert records.seal_into(plaintext, memoryview(out)) == len(out)
    return bytes(out)


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_records_survive_any_chunking(messages: list[bytes], data: st.DataObject) -> None:
    alice, bob = pair()
    wire = b"".join(seal(alice, message) for message in messages)
    received: list[bytes] = []
    rest = b""
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        rest, wire = rest + wire[:size], wire[size:]
        plaintexts, used = open_records(bob, rest)
        received += plaintexts
        rest = rest[used:]
    assert received == messages
    assert rest == b""


def test_the_largest_record_of_ours_is_of_whole_lines_of_128_bytes() -> None:
    alice, bob = pair()
    plaintext = os.urandom(MAX_PLAINTEXT)
    record = seal(alice, plaintext)
    assert len(record) == 2 + 511 * 128 + 16
    assert open_records(bob, record) == ([plaintext], len(record))


def test_the_largest_record_of_all_is_opened() -> None:
    key, plaintext = os.urandom(32), os.urandom(65519)
    record = b"\xff\xff" + ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, None)
    assert len(record) == 2 + 65535
    assert open_records(NoiseRecords(key, key), record) == ([plaintext], len(record))


def test_too_much_plaintext_is_a_misuse_and_costs_no_nonce() -> None:
    alice, bob = pair()
    with pytest.raises(LocalProtocolError, match="limit"):
        seal(alice, bytes(MAX_PLAINTEXT + 1))
    assert open_records(bob, seal(alice, b"next"))[0] == [b"next"]


def test_sealing_leaves_bytes_behind_the_record_alone() -> None:
    alice, _ = pair()
    out = bytearray(b"\xaa" * 64)
    end = alice.seal_into(memoryview(b"hello"), memoryview(out))
    assert out[end:] == b"\xaa" * (64 - end)


def test_a_failed_decrypt_does_not_advance_the_nonce() -> None:
    """GHSA-g9mp-8g3h-3c5c: else a forged record knocks both sides out of step for good."""
    alice, bob = pair()
    record = seal(alice, b"hello")
    forged = record[:-1] + bytes((record[-1] ^ 1,))
    for _ in range(3):
        with pytest.raises(DecryptError, match="record 0"):
            open_records(bob, forged)
    assert open_records(bob, record) == ([b"hello"], len(record))


@pytest.mark.parametrize("body", [b"", b"x", bytes(15), bytes(16), bytes(17)])
def test_records_too_short_for_their_tag_and_empty_forgeries_are_refused(body: bytes) -> None:
    _, bob = pair()
    with pytest.raises(DecryptError):
        open_records(bob, len(body).to_bytes(2, "big") + body)


def test_replayed_swapped_and_reflected_records_are_refused() -> None:
    alice, bob = pair()
    first, second = seal(alice, b"first"), seal(alice, b"second")
    with pytest.raises(DecryptError):
        open_records(bob, second)
    assert open_records(bob, first)[0] == [b"first"]
    with pytest.raises(DecryptError):
        open_records(bob, first)
    with pytest.raises(DecryptError):
        open_records(alice, first)


def test_a_half_record_waits_for_the_rest() -> None:
    alice, bob = pair()
    record = seal(alice, b"hello")
    for size in range(len(record)):
        assert open_records(bob, record[:size]) == ([], 0)


def test_an_empty_record_is_an_empty_plaintext() -> None:
    alice, bob = pair()
    assert open_records(bob, seal(alice, b"") + seal(alice, b"x"))[0] == [b"", b"x"]


def test_the_last_nonce_is_never_used() -> None:
    alice, bob = pair()
    alice._send_nonce = bob._receive_nonce = MAX_NONCE - 1
    record = seal(alice, b"the last one")
    assert open_records(bob, record)[0] == [b"the last one"]
    with pytest.raises(SecurityError, match="nonces"):
        seal(alice, b"one too many")
    with pytest.raises(DecryptError, match="nonces"):
        open_records(bob, record)


@given(st.binary(max_size=200))
def test_garbage_is_a_decrypt_error_or_not_yet_a_record(garbage: bytes) -> None:
    _, bob = pair()
    try:
        plaintexts, used = open_records(bob, garbage)
    except DecryptError:
        return
    assert (plaintexts, used) == ([], 0)
