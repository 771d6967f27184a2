"""What every security protocol must do: its handshake, as functions that assert it, and its record layer."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from py_p2pstack.errors import DecryptError, HandshakeError, LocalProtocolError, PeerIdMismatch
from py_p2pstack.identity import KeyType, PrivateKey
from py_p2pstack.testing.contracts.record_layer import RECORD_LAYER
from py_p2pstack.testing.contracts.security_case import (
    ALICE,
    BOB,
    MALLORY,
    MPLEX,
    YAMUX,
    SecurityCase,
    begin,
    open_all,
    pump,
    raising,
    seal,
)

_HANDSHAKE = 64 * 1024  # bytes of a handshake any protocol must do with


def both_learn_who_the_other_is_and_can_talk(case: SecurityCase) -> None:
    """Identities are proved, keys agree, both ways."""
    for_alice, for_bob = pump(begin(case))
    assert for_alice.remote_peer == BOB.public_key.peer_id()
    assert for_bob.remote_peer == ALICE.public_key.peer_id()
    assert for_alice.remote_public_key == BOB.public_key
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
        ((YAMUX,), (YAMUX,), YAMUX),
        ((YAMUX, MPLEX), (MPLEX, YAMUX), YAMUX),
        ((MPLEX, YAMUX), (YAMUX, MPLEX), MPLEX),
        (("/new", MPLEX), (YAMUX, MPLEX), MPLEX),
        ((YAMUX,), (MPLEX,), None),
        ((), (YAMUX,), None),
        ((YAMUX,), (), None),
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
    wanted = MALLORY.public_key.peer_id()
    alice, bob = begin(case, expected=wanted)
    bob.receive_data(alice.bytes_to_send())
    fault: PeerIdMismatch | None = None
    try:
        alice.receive_data(bob.bytes_to_send())
    except PeerIdMismatch as mismatch:
        fault = mismatch
    assert fault is not None
    assert (fault.expected, fault.actual) == (wanted, BOB.public_key.peer_id())
    if last := alice.bytes_to_send():
        with raising(HandshakeError):
            assert bob.receive_data(last) is not None


def the_listener_may_insist_on_an_identity_too(case: SecurityCase) -> None:
    """Then whoever else comes is refused."""
    alice, _ = begin(case)
    bob = case.bind(BOB).handshake(initiator=False, peer=MALLORY.public_key.peer_id(), muxers=(YAMUX,))
    with raising(PeerIdMismatch):
        pump((alice, bob))


def a_changed_byte_is_refused_or_changes_nothing(case: SecurityCase) -> None:
    """Nearly every byte of a handshake is refused when it is changed; what nobody looks at harms nobody."""
    total = 0

    def count(number: int, byte: int) -> int:
        nonlocal total
        total = number + 1
        return byte

    def flip_at(place: int) -> Callable[[int, int], int]:
        return lambda number, byte: byte ^ (number == place)

    pump(begin(case), touch=count)
    places = range(0, total, max(1, total // 60))
    refused = 0
    for place in places:
        try:
            for_alice, for_bob = pump(begin(case), touch=flip_at(place))
        except (HandshakeError, DecryptError, AssertionError):  # asserted: none of the two has a word to say
            refused += 1
            continue
        assert for_alice.remote_peer == BOB.public_key.peer_id()
        assert for_bob.remote_peer == ALICE.public_key.peer_id()
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
    *RECORD_LAYER,
)
