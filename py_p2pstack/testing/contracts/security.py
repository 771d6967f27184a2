"""What every security protocol must do: handshakes and record layers, as functions that assert it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from py_p2pstack.core.security import Handshake, RecordLayer, Secured, SecurityTransport
from py_p2pstack.errors import (
    DecryptError,
    HandshakeError,
    LocalProtocolError,
    PeerIdMismatch,
    SecurityError,
)
from py_p2pstack.identity import KeyType, PeerId, PrivateKey

_YAMUX, _MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"
_ALICE, _BOB, _MALLORY = (PrivateKey.from_seed(name.ljust(32)) for name in (b"alice", b"bob", b"mallory"))
_BULK = 64 * 1024 * 1024
_HANDSHAKE = 64 * 1024  # bytes of a handshake any protocol must do with


@dataclass(frozen=True, slots=True)
class SecurityCase:
    """A security protocol to try."""

    bind: Callable[[PrivateKey], SecurityTransport]
    """Binds it to an identity."""


Pair = tuple[Handshake, Handshake]


def begin(
    case: SecurityCase,
    *,
    expected: PeerId | None = None,
    alice: Sequence[str] = (_YAMUX,),
    bob: Sequence[str] = (_YAMUX,),
) -> Pair:
    """Two sides of a handshake, alice's the initiator; `expected`: whom she wants (bob, if None)."""
    return (
        case.bind(_ALICE).handshake(initiator=True, peer=expected or _BOB.public_key.peer_id(), muxers=alice),
        case.bind(_BOB).handshake(initiator=False, peer=None, muxers=bob),
    )


def pump(
    sides: Sequence[Handshake], *, piece: int = 1 << 20, touch: Callable[[int, int], int] | None = None
) -> tuple[Secured, Secured]:
    """Carry bytes between two handshakes, at most `piece` at a time, until both are done.

    `touch` may change each byte: it is given its number on the wire and its value. Raises what a side raises, and
    AssertionError when neither has a word to say before the end.
    """
    outcomes: list[Secured | None] = [None, None]
    extra = [b"", b""]
    count = 0
    while not all(outcomes):
        idle = True
        for number, side in enumerate(sides):
            data = side.bytes_to_send()
            other = 1 - number
            while data:
                idle = False
                cut, data = data[:piece], data[piece:]
                if touch is not None:
                    cut = bytes(touch(count + place, byte) for place, byte in enumerate(cut))
                count += len(cut)
                if outcomes[other]:  # what one has to say behind the other's end belongs to the record layer
                    extra[other] += cut
                else:
                    outcomes[other] = sides[other].receive_data(cut)
        assert not idle or all(outcomes), "both sides wait for each other"
    for number, side in enumerate(sides):
        extra[1 - number] += side.bytes_to_send()
    for outcome, behind in zip(outcomes, extra, strict=True):
        assert outcome is not None
        assert open_all(outcome.records, outcome.unread + behind) == b""
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    return outcomes[0], outcomes[1]


def channel(case: SecurityCase) -> tuple[RecordLayer, RecordLayer]:
    """Two record layers that belong together: alice's and bob's."""
    for_alice, for_bob = pump(begin(case))
    return for_alice.records, for_bob.records


def seal(records: RecordLayer, plaintext: bytes) -> bytes:
    """One record."""
    out = bytearray(len(plaintext) + records.overhead)
    return bytes(out[: records.seal_into(plaintext, memoryview(out))])


def open_all(records: RecordLayer, data: bytes) -> bytes:
    """What whole records hold."""
    plaintexts, used = records.open_records(memoryview(data))
    assert used == len(data)
    return b"".join(plaintexts)


@contextmanager
def raising(*errors: type[Exception]) -> Iterator[None]:
    """Demand one of these errors."""
    try:
        yield
    except errors:
        return
    raise AssertionError(f"none of {', '.join(error.__name__ for error in errors)} was raised")


# --- the handshake ----------------------------------------------------------------------------------


def both_learn_who_the_other_is_and_can_talk(case: SecurityCase) -> None:
    """Identities are proved, keys agree, both ways."""
    for_alice, for_bob = pump(begin(case))
    assert for_alice.remote_peer == _BOB.public_key.peer_id()
    assert for_bob.remote_peer == _ALICE.public_key.peer_id()
    assert for_alice.remote_public_key == _BOB.public_key
    assert open_all(for_bob.records, seal(for_alice.records, b"hello bob")) == b"hello bob"
    assert open_all(for_alice.records, seal(for_bob.records, b"hello alice")) == b"hello alice"


def every_kind_of_identity_works_on_both_sides(case: SecurityCase) -> None:
    """Ed25519, secp256k1, ECDSA, RSA."""
    for kind in KeyType:
        key = PrivateKey.generate(kind)
        peer = key.public_key.peer_id()
        bound = case.bind(key)
        sides = [bound.handshake(initiator=initiator, peer=peer, muxers=()) for initiator in (True, False)]
        assert [outcome.remote_peer for outcome in pump(sides)] == [peer, peer]


def the_muxer_is_the_initiators_first_that_both_have(case: SecurityCase) -> None:
    """None in common: left to multistream-select."""
    for alice, bob, agreed in (
        ((_YAMUX,), (_YAMUX,), _YAMUX),
        ((_YAMUX, _MPLEX), (_MPLEX, _YAMUX), _YAMUX),
        ((_MPLEX, _YAMUX), (_YAMUX, _MPLEX), _MPLEX),
        (("/new", _MPLEX), (_YAMUX, _MPLEX), _MPLEX),
        ((_YAMUX,), (_MPLEX,), None),
        ((), (_YAMUX,), None),
        ((_YAMUX,), (), None),
    ):
        outcomes = pump(begin(case, alice=alice, bob=bob))
        assert [outcome.muxer for outcome in outcomes] == [agreed, agreed]


def a_byte_at_a_time_is_enough(case: SecurityCase) -> None:
    """However the wire cuts, the outcome is the same."""
    for piece in (1, 7, 100):
        for_alice, for_bob = pump(begin(case), piece=piece)
        assert open_all(for_bob.records, seal(for_alice.records, b"hello")) == b"hello"


def bytes_behind_the_handshake_are_handed_on_unread(case: SecurityCase) -> None:
    """The initiator may send records right behind its last message."""
    alice, bob = begin(case)
    bob.receive_data(alice.bytes_to_send())
    for_alice = alice.receive_data(bob.bytes_to_send())
    assert for_alice is not None
    last = alice.bytes_to_send()
    early = seal(for_alice.records, b"early")
    for_bob = bob.receive_data(last + early)
    assert for_bob is not None
    assert for_bob.unread == early
    assert open_all(for_bob.records, for_bob.unread) == b"early"


def another_peer_than_the_one_dialled_is_refused(case: SecurityCase) -> None:
    """The error names both, and the other side never finishes."""
    wanted = _MALLORY.public_key.peer_id()
    alice, bob = begin(case, expected=wanted)
    bob.receive_data(alice.bytes_to_send())
    fault: PeerIdMismatch | None = None
    try:
        alice.receive_data(bob.bytes_to_send())
    except PeerIdMismatch as mismatch:
        fault = mismatch
    assert fault is not None
    assert (fault.expected, fault.actual) == (wanted, _BOB.public_key.peer_id())
    if last := alice.bytes_to_send():
        with raising(HandshakeError):
            assert bob.receive_data(last) is not None


def the_listener_may_insist_on_an_identity_too(case: SecurityCase) -> None:
    """Then whoever else comes is refused."""
    alice, _ = begin(case)
    bob = case.bind(_BOB).handshake(initiator=False, peer=_MALLORY.public_key.peer_id(), muxers=(_YAMUX,))
    with raising(PeerIdMismatch):
        pump((alice, bob))


def a_changed_byte_is_refused_or_changes_nothing(case: SecurityCase) -> None:
    """Nearly every byte of a handshake is refused when it is changed; what nobody looks at harms nobody."""
    total = 0

    def count(number: int, byte: int) -> int:
        nonlocal total
        total = number + 1
        return byte

    pump(begin(case), touch=count)
    places = range(0, total, max(1, total // 60))
    refused = 0
    for place in places:
        try:
            for_alice, for_bob = pump(begin(case), touch=lambda number, byte, at=place: byte ^ (number == at))  # type: ignore[misc]
        except (HandshakeError, DecryptError, AssertionError):  # asserted: none of the two has a word to say
            refused += 1
            continue
        assert for_alice.remote_peer == _BOB.public_key.peer_id()
        assert for_bob.remote_peer == _ALICE.public_key.peer_id()
        assert open_all(for_bob.records, seal(for_alice.records, b"agreed")) == b"agreed"
        assert open_all(for_alice.records, seal(for_bob.records, b"agreed")) == b"agreed"
    assert refused >= len(places) - 4


def our_own_words_reflected_are_refused(case: SecurityCase) -> None:
    """A mirror proves nothing."""
    alice, _ = begin(case)
    with raising(HandshakeError):
        for _ in range(4):
            if data := alice.bytes_to_send():
                assert alice.receive_data(data) is None


def two_initiators_do_not_agree(case: SecurityCase) -> None:
    """Nor do they wait for each other."""
    alice, _ = begin(case)
    other, _ = begin(case)
    with raising(HandshakeError):
        alice.receive_data(other.bytes_to_send())


def a_recorded_handshake_replayed_gets_no_further(case: SecurityCase) -> None:
    """Neither side takes what was said to another."""
    alice, bob = begin(case)
    hello = alice.bytes_to_send()
    bob.receive_data(hello)
    answer = bob.bytes_to_send()
    alice.receive_data(answer)
    proof = alice.bytes_to_send()
    later_alice, later_bob = begin(case)
    with raising(HandshakeError):
        later_alice.bytes_to_send()
        later_alice.receive_data(answer)
    later_bob.receive_data(hello)
    with raising(HandshakeError):
        later_bob.receive_data(proof)


def garbage_is_refused_or_waited_for_but_never_taken(case: SecurityCase) -> None:
    """At the beginning and in the middle."""
    for seed in range(40):
        garbage = b"".join(sha256(bytes((seed, block))).digest() for block in range(20))
        for side in begin(case):
            with raising(HandshakeError, EOFError):
                assert side.receive_data(garbage) is None
                raise EOFError
        alice, bob = begin(case)
        bob.receive_data(alice.bytes_to_send())
        with raising(HandshakeError, EOFError):
            assert bob.receive_data(garbage) is None
            raise EOFError


def a_handshake_without_end_is_cut_off(case: SecurityCase) -> None:
    """What a peer may send before it proved itself is bounded, whatever it looks like."""
    for side_number in (0, 1):
        for first in (b"\x16\x03\x03", b"\x14\x03\x03\x00\x01\x01", b"\xff\xff", b"\x00\x20"):
            side = begin(case)[side_number]
            with raising(HandshakeError):
                for _ in range(_HANDSHAKE // len(first)):
                    assert side.receive_data(first) is None


def after_an_error_a_handshake_takes_nothing_more(case: SecurityCase) -> None:
    """A misuse of ours."""
    _, bob = begin(case)
    with raising(HandshakeError):
        bob.receive_data(bytes(70_000))
    with raising(LocalProtocolError):
        bob.receive_data(b"\x00")


def the_outcome_comes_once(case: SecurityCase) -> None:
    """A second channel with the same keys would repeat nonces."""
    sides = begin(case)
    pump(sides)
    for side in sides:
        with raising(LocalProtocolError):
            side.receive_data(b"")


# --- the record layer -------------------------------------------------------------------------------


def records_survive_any_chunking(case: SecurityCase) -> None:
    """What is left over is offered again with more behind it."""
    alice, bob = channel(case)
    messages = [sha256(bytes((number,))).digest() * number for number in range(1, 40)]
    wire = b"".join(seal(alice, message) for message in messages)
    for piece in (1, 3, 1000):
        rest, received = b"", bytearray()
        for start in range(0, len(wire), piece):
            rest += wire[start : start + piece]
            plaintexts, used = bob.open_records(memoryview(rest))
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
            bob.open_records(memoryview(record))


def replayed_and_swapped_and_reflected_records_are_refused(case: SecurityCase) -> None:
    """Records are numbered, each way for itself."""
    alice, bob = channel(case)
    first, second = seal(alice, b"first"), seal(alice, b"second")
    with raising(DecryptError):
        alice.open_records(memoryview(first))
    assert open_all(bob, first) == b"first"
    with raising(DecryptError):
        bob.open_records(memoryview(first))
    alice, bob = channel(case)
    first, second = seal(alice, b"first"), seal(alice, b"second")
    with raising(DecryptError):
        bob.open_records(memoryview(second))


def a_half_record_waits_for_the_rest(case: SecurityCase) -> None:
    """Nothing of it is given out."""
    alice, bob = channel(case)
    record = seal(alice, b"hello")
    for size in range(len(record)):
        assert bob.open_records(memoryview(record[:size])) == ([], 0)
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
            plaintexts, _ = bob.open_records(memoryview(garbage))
            assert not plaintexts


SECURITY: tuple[Callable[[SecurityCase], None], ...] = (
    both_learn_who_the_other_is_and_can_talk,
    every_kind_of_identity_works_on_both_sides,
    the_muxer_is_the_initiators_first_that_both_have,
    a_byte_at_a_time_is_enough,
    bytes_behind_the_handshake_are_handed_on_unread,
    another_peer_than_the_one_dialled_is_refused,
    the_listener_may_insist_on_an_identity_too,
    a_changed_byte_is_refused_or_changes_nothing,
    our_own_words_reflected_are_refused,
    two_initiators_do_not_agree,
    a_recorded_handshake_replayed_gets_no_further,
    garbage_is_refused_or_waited_for_but_never_taken,
    a_handshake_without_end_is_cut_off,
    after_an_error_a_handshake_takes_nothing_more,
    the_outcome_comes_once,
    records_survive_any_chunking,
    a_record_holds_all_that_it_may,
    sealing_leaves_bytes_behind_the_record_alone,
    changed_records_are_refused,
    replayed_and_swapped_and_reflected_records_are_refused,
    a_half_record_waits_for_the_rest,
    sixty_four_mebibytes_come_through,
    garbage_behind_the_handshake_is_refused,
)
