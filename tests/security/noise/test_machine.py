"""The libp2p handshake: who proves what to whom, and every way it can go wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from py_p2pstack.core.security import RecordLayer, Secured
from py_p2pstack.errors import HandshakeError, LocalProtocolError, PeerIdMismatch
from py_p2pstack.identity import KeyType, PeerId, PrivateKey
from py_p2pstack.security.noise import NoiseHandshake, NoiseTransport, codec
from py_p2pstack.security.noise.state import HandshakeState
from py_p2pstack.testing.contracts.security_case import open_records

ALICE = PrivateKey.from_seed(b"alice".ljust(32))
BOB = PrivateKey.from_seed(b"bob".ljust(32))
MALLORY = PrivateKey.from_seed(b"mallory".ljust(32))
ALICE_ID, BOB_ID = ALICE.public_key.peer_id(), BOB.public_key.peer_id()
ALICE_NOISE, BOB_NOISE = NoiseTransport(ALICE), NoiseTransport(BOB)
YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"


def pair(
    *,
    expected: PeerId | None = BOB_ID,
    alice: Sequence[str] = (YAMUX,),
    bob: Sequence[str] = (YAMUX,),
) -> tuple[NoiseHandshake, NoiseHandshake]:
    return (
        ALICE_NOISE.handshake(initiator=True, peer=expected, muxers=alice),
        BOB_NOISE.handshake(initiator=False, peer=None, muxers=bob),
    )


def forger(payload: bytes, *, initiator: bool, static: X25519PrivateKey | None = None) -> NoiseHandshake:
    """A peer that plays noise by the book, but claims what it likes in its payload."""
    state = HandshakeState(initiator=initiator, static=static or X25519PrivateKey.generate())
    return NoiseHandshake(state, initiator=initiator, payload=payload, expected=None, muxers=())


def finish(alice: NoiseHandshake, bob: NoiseHandshake) -> tuple[Secured, Secured]:
    assert bob.receive_data(alice.bytes_to_send()) is None
    for_alice = alice.receive_data(bob.bytes_to_send())
    for_bob = bob.receive_data(alice.bytes_to_send())
    assert for_alice is not None
    assert for_bob is not None
    assert alice.bytes_to_send() == bob.bytes_to_send() == b""
    return for_alice, for_bob


def seal(records: RecordLayer, plaintext: bytes) -> bytes:
    out = bytearray(len(plaintext) + records.overhead)
    return bytes(out[: records.seal_into(plaintext, memoryview(out))])


def open_all(records: RecordLayer, data: bytes) -> bytes:
    plaintexts, used = open_records(records, data)
    assert used == len(data)
    return b"".join(plaintexts)


# --- what it gives --------------------------------------------------------------------------------


def test_both_sides_learn_who_the_other_is_and_can_talk() -> None:
    for_alice, for_bob = finish(*pair())
    assert (for_alice.remote_peer, for_bob.remote_peer) == (BOB_ID, ALICE_ID)
    assert for_alice.remote_public_key.encode() == BOB.public_key.encode()
    assert (for_alice.unread, for_bob.unread) == (b"", b"")
    assert open_all(for_bob.records, seal(for_alice.records, b"hello bob")) == b"hello bob"
    assert open_all(for_alice.records, seal(for_bob.records, b"hello alice")) == b"hello alice"


@pytest.mark.parametrize("key_type", list(KeyType), ids=lambda key_type: str(key_type.name))
def test_every_kind_of_identity_key_works_on_both_sides(key_type: KeyType) -> None:
    noise = NoiseTransport(key := PrivateKey.generate(key_type))
    peer = key.public_key.peer_id()
    for_alice, for_bob = finish(
        noise.handshake(initiator=True, peer=peer, muxers=()), noise.handshake(initiator=False, peer=peer, muxers=())
    )
    assert for_alice.remote_peer == for_bob.remote_peer == peer


def test_each_message_has_its_length_in_front() -> None:
    alice, bob = pair()
    first = alice.bytes_to_send()
    assert first[:2] == (32).to_bytes(2, "big")
    assert len(first) == 34
    bob.receive_data(first)
    second = bob.bytes_to_send()
    assert int.from_bytes(second[:2], "big") == len(second) - 2


def test_bytes_behind_the_handshake_are_handed_on_unread() -> None:
    """The initiator may send records right behind its last message."""
    alice, bob = pair()
    bob.receive_data(alice.bytes_to_send())
    for_alice = alice.receive_data(bob.bytes_to_send())
    assert for_alice is not None
    early = seal(for_alice.records, b"early")
    for_bob = bob.receive_data(alice.bytes_to_send() + early)
    assert for_bob is not None
    assert for_bob.unread == early
    assert open_all(for_bob.records, for_bob.unread) == b"early"


@pytest.mark.parametrize(
    ("alice", "bob", "agreed"),
    [
        ((YAMUX,), (YAMUX,), YAMUX),
        ((YAMUX, MPLEX), (MPLEX, YAMUX), YAMUX),
        ((MPLEX, YAMUX), (YAMUX, MPLEX), MPLEX),
        (("/new", MPLEX), (YAMUX, MPLEX), MPLEX),
        ((YAMUX,), (MPLEX,), None),
        ((), (YAMUX,), None),
        ((YAMUX,), (), None),
    ],
)
def test_the_muxer_is_the_initiators_first_that_both_have(
    alice: tuple[str, ...], bob: tuple[str, ...], agreed: str | None
) -> None:
    for_alice, for_bob = finish(*pair(alice=alice, bob=bob))
    assert for_alice.muxer == for_bob.muxer == agreed


def test_ephemeral_keys_are_fresh_and_keys_never_repeat() -> None:
    firsts = {ALICE_NOISE.handshake(initiator=True, peer=None, muxers=()).bytes_to_send() for _ in range(20)}
    assert len(firsts) == 20
    one, _ = finish(*pair())
    two, _ = finish(*pair())
    assert seal(one.records, b"same") != seal(two.records, b"same")


def test_the_responder_may_insist_on_an_identity_too() -> None:
    alice, _ = pair()
    bob = BOB_NOISE.handshake(initiator=False, peer=MALLORY.public_key.peer_id(), muxers=())
    bob.receive_data(alice.bytes_to_send())
    alice.receive_data(bob.bytes_to_send())
    with pytest.raises(PeerIdMismatch):
        bob.receive_data(alice.bytes_to_send())


# --- identities that are not proved ---------------------------------------------------------------


def test_another_peer_than_the_one_dialled_is_refused_and_learns_nothing_of_us() -> None:
    alice, bob = pair(expected=MALLORY.public_key.peer_id())
    bob.receive_data(alice.bytes_to_send())
    with pytest.raises(PeerIdMismatch) as caught:
        alice.receive_data(bob.bytes_to_send())
    assert (caught.value.expected, caught.value.actual) == (MALLORY.public_key.peer_id(), BOB_ID)
    assert alice.bytes_to_send() == b""


def _claims(static: bytes) -> list[bytes]:
    own_signature = codec.sign_static(MALLORY, static)
    bobs_payload_elsewhere = codec.encode(BOB.public_key, codec.sign_static(BOB, bytes(32)), [])
    return [
        b"",
        b"\xff" * 40,
        bobs_payload_elsewhere,  # recorded from another conversation of bob's
        codec.encode(BOB.public_key, own_signature, []),
        codec.encode(BOB.public_key, b"", []),
        codec.encode(BOB.public_key, bytes(64), []),
    ]


@pytest.mark.parametrize("number", range(6))
def test_a_responder_that_claims_another_identity_is_refused(number: int) -> None:
    """CVE-2022-24759: the signature over the static key is what ties identity and channel together."""
    static = X25519PrivateKey.generate()
    claim = _claims(static.public_key().public_bytes_raw())[number]
    alice, _ = pair()
    mallory = forger(claim, initiator=False, static=static)
    mallory.receive_data(alice.bytes_to_send())
    with pytest.raises(HandshakeError):
        alice.receive_data(mallory.bytes_to_send())
    assert alice.bytes_to_send() == b""


@pytest.mark.parametrize("number", range(6))
def test_an_initiator_that_claims_another_identity_is_refused(number: int) -> None:
    static = X25519PrivateKey.generate()
    claim = _claims(static.public_key().public_bytes_raw())[number]
    _, bob = pair()
    state = HandshakeState(initiator=True, static=static)
    mallory = NoiseHandshake(state, initiator=True, payload=claim, expected=None, muxers=())
    bob.receive_data(mallory.bytes_to_send())
    mallory.receive_data(bob.bytes_to_send())
    with pytest.raises(HandshakeError):
        bob.receive_data(mallory.bytes_to_send())


def test_an_oversize_payload_is_refused() -> None:
    alice, _ = pair()
    mallory = forger(bytes(codec.MAX_PAYLOAD + 1), initiator=False)
    mallory.receive_data(alice.bytes_to_send())
    with pytest.raises(HandshakeError, match="limit"):
        alice.receive_data(mallory.bytes_to_send())


# --- bytes that are wrong -------------------------------------------------------------------------


def test_an_announced_oversize_message_is_refused_before_it_comes() -> None:
    _, bob = pair()
    with pytest.raises(HandshakeError, match="limit"):
        bob.receive_data(b"\xff\xff")


def test_an_empty_message_is_refused() -> None:
    _, bob = pair()
    with pytest.raises(HandshakeError, match="short"):
        bob.receive_data(b"\x00\x00")


def test_a_replayed_first_message_gets_no_further() -> None:
    alice, bob = pair()
    recorded = alice.bytes_to_send()
    bob.receive_data(recorded)
    finished = alice.receive_data(bob.bytes_to_send())
    assert finished is not None
    last = alice.bytes_to_send()
    _, again = pair()
    assert again.receive_data(recorded) is None
    with pytest.raises(HandshakeError, match="authenticate"):
        again.receive_data(last)


def test_a_replayed_second_message_is_refused() -> None:
    alice, bob = pair()
    bob.receive_data(alice.bytes_to_send())
    recorded = bob.bytes_to_send()
    again, _ = pair()
    with pytest.raises(HandshakeError, match="authenticate"):
        again.receive_data(recorded)


def test_our_own_message_reflected_is_refused() -> None:
    alice, _ = pair()
    with pytest.raises(HandshakeError):
        alice.receive_data(alice.bytes_to_send())


def test_messages_out_of_order_are_refused() -> None:
    alice, bob = pair()
    bob.receive_data(alice.bytes_to_send())
    alice.receive_data(bob.bytes_to_send())
    _, other = pair()
    with pytest.raises(HandshakeError):
        other.receive_data(alice.bytes_to_send() + alice.bytes_to_send() + b"\x00\x00")


def test_two_initiators_do_not_agree() -> None:
    alice, _ = pair()
    other, _ = pair()
    with pytest.raises(HandshakeError):
        alice.receive_data(other.bytes_to_send())


def test_after_an_error_the_machine_takes_nothing_more() -> None:
    _, bob = pair()
    with pytest.raises(HandshakeError):
        bob.receive_data(b"\x00\x00")
    with pytest.raises(LocalProtocolError, match="over"):
        bob.receive_data(b"\x00")


def test_the_outcome_comes_once_so_that_nonces_never_repeat() -> None:
    alice, bob = pair()
    finish(alice, bob)
    for machine in (alice, bob):
        with pytest.raises(LocalProtocolError, match="over"):
            machine.receive_data(b"")


@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_a_handshake_error_or_not_yet_a_message(garbage: bytes, initiator: bool) -> None:
    machine = pair()[0 if initiator else 1]
    try:
        assert machine.receive_data(garbage) is None
    except HandshakeError:
        pass


class HandshakeStory(RuleBasedStateMachine):
    """Two machines over a wire that cuts as it likes and, perhaps, changes one bit of what passes.

    Untouched they finish with each other's identity. Touched, no side that saw a changed byte finishes.
    """

    @initialize(mallory=st.booleans())
    def begin(self, mallory: bool) -> None:
        self.mallory = mallory
        self.sides = pair()
        self.wires = [bytearray(), bytearray()]  # towards alice, towards bob
        self.outcomes: list[Secured | None] = [None, None]
        self.dead = [False, False]
        self.touched = False

    def collect(self) -> None:
        for number, side in enumerate(self.sides):
            self.wires[1 - number] += side.bytes_to_send()

    @rule(number=st.integers(0, 1), size=st.integers(1, 250))
    def deliver(self, number: int, size: int) -> None:
        self.collect()
        data = bytes(self.wires[number][:size])
        del self.wires[number][:size]
        if not data or self.dead[number] or self.outcomes[number]:
            return
        try:
            self.outcomes[number] = self.sides[number].receive_data(data)
        except HandshakeError:
            assert self.touched
            self.dead[number] = True

    @precondition(lambda self: self.mallory and not self.touched)
    @rule(number=st.integers(0, 1), position=st.integers(0, 300), bit=st.integers(0, 7))
    def touch(self, number: int, position: int, bit: int) -> None:
        self.collect()
        wire = self.wires[number]
        if position < len(wire):
            wire[position] ^= 1 << bit
            self.touched = True

    @invariant()
    def identities_hold(self) -> None:
        for outcome, peer in zip(getattr(self, "outcomes", ()), (BOB_ID, ALICE_ID), strict=False):
            assert outcome is None or outcome.remote_peer == peer

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        for _ in range(4):
            for number in (0, 1):
                self.deliver(number, 1000)
        if not self.touched:
            assert all(self.outcomes)
        elif all(self.outcomes):
            # The only bytes that may change unseen: there are none. A changed first message changes the hash.
            raise AssertionError("a changed byte went unnoticed")


TestHandshakeStory = HandshakeStory.TestCase
