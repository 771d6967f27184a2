"""What every record layer must do: the transport phase of a security protocol, as functions that assert it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from py_p2pstack.errors import DecryptError, LocalProtocolError, SecurityError
from py_p2pstack.testing.contracts.security_case import (
    SecurityCase,
    channel,
    open_all,
    open_records,
    raising,
    seal,
)

_BULK = 64 * 1024 * 1024


def records_survive_any_chunking(case: SecurityCase) -> None:
    """What is left over is offered again with more behind it."""
    alice, bob = channel(case)
    messages = [sha256(bytes((number,))).digest() * number for number in range(1, 40)]
    wire = b"".join(seal(alice, message) for message in messages)
    for piece in (1, 3, 1000):
        rest, received = b"", bytearray()
        for start in range(0, len(wire), piece):
            rest += wire[start : start + piece]
            plaintexts, used = open_records(bob, rest)
            received += b"".join(plaintexts)
            rest = rest[used:]
        assert received == b"".join(messages)
        assert rest == b""
        wire = b"".join(seal(alice, message) for message in messages)


def a_record_holds_all_that_it_may(case: SecurityCase) -> None:
    """The largest plaintext fits its overhead; one byte more is a misuse that costs nothing."""
    alice, bob = channel(case)
    largest = bytes(alice.max_plaintext)
    assert len(seal(alice, largest)) <= len(largest) + alice.overhead
    alice, bob = channel(case)
    with raising(LocalProtocolError):
        seal(alice, largest + b"x")
    assert open_all(bob, seal(alice, largest)) == largest


def sealing_leaves_bytes_behind_the_record_alone(case: SecurityCase) -> None:
    """Records are gathered in one buffer."""
    alice, _ = channel(case)
    out = bytearray(b"\xaa" * 256)
    end = alice.seal_into(memoryview(b"hello"), memoryview(out))
    assert out[end:] == b"\xaa" * (256 - end)


def changed_records_are_refused(case: SecurityCase) -> None:
    """Any bit of any record."""
    for place in range(5, 30, 3):
        alice, bob = channel(case)
        record = bytearray(seal(alice, b"hello, hello"))
        record[place % len(record)] ^= 1
        with raising(DecryptError):
            open_records(bob, record)


def replayed_and_swapped_and_reflected_records_are_refused(case: SecurityCase) -> None:
    """Records are numbered, each way for itself."""
    alice, bob = channel(case)
    first, second = seal(alice, b"first"), seal(alice, b"second")
    with raising(DecryptError):
        open_records(alice, first)
    assert open_all(bob, first) == b"first"
    with raising(DecryptError):
        open_records(bob, first)
    alice, bob = channel(case)
    first, second = seal(alice, b"first"), seal(alice, b"second")
    with raising(DecryptError):
        open_records(bob, second)


def a_half_record_waits_for_the_rest(case: SecurityCase) -> None:
    """Nothing of it is given out."""
    alice, bob = channel(case)
    record = seal(alice, b"hello")
    for size in range(len(record)):
        assert open_records(bob, record[:size]) == ([], 0)
    assert open_all(bob, record) == b"hello"


def sixty_four_mebibytes_come_through(case: SecurityCase) -> None:
    """In the largest records, several at a time."""
    alice, bob = channel(case)
    plaintext = (b"0123456789abcdef" * (alice.max_plaintext // 16 + 1))[: alice.max_plaintext]
    received = 0
    while received < _BULK:
        wire = seal(alice, plaintext) + seal(alice, plaintext)
        assert open_all(bob, wire) == plaintext * 2
        received += 2 * len(plaintext)


def garbage_behind_the_handshake_is_refused(case: SecurityCase) -> None:
    """With a typed error, and nothing given out."""
    for seed in range(20):
        _, bob = channel(case)
        garbage = b"\x17\x03\x03\x00\x20" + sha256(bytes((seed,))).digest() * 3000
        with raising(SecurityError):
            plaintexts, _ = open_records(bob, garbage)
            assert not plaintexts


RECORD_LAYER: tuple[Callable[[SecurityCase], None], ...] = (
    records_survive_any_chunking,
    a_record_holds_all_that_it_may,
    sealing_leaves_bytes_behind_the_record_alone,
    changed_records_are_refused,
    replayed_and_swapped_and_reflected_records_are_refused,
    a_half_record_waits_for_the_rest,
    sixty_four_mebibytes_come_through,
    garbage_behind_the_handshake_is_refused,
)
