"""The framework's own part of noise, against the published vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from py_p2pstack.errors import HandshakeError, LocalProtocolError
from py_p2pstack.security.noise.records import NoiseRecords
from py_p2pstack.security.noise.state import HandshakeState
from py_p2pstack.testing.contracts.security_case import open_records

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "noise_xx.json").read_text())["vectors"]

P = 2**255 - 19
# Every point whose order divides 8, and their non-canonical spellings below 2**255.
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
]


class Point:
    """Stands in for a private key, but shows a public key of the attacker's choice."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    def public_key(self) -> Point:
        return self

    def public_bytes_raw(self) -> bytes:
        return self._public

    def exchange(self, _: object) -> bytes:
        return bytes(32)  # what the victim would compute with a point of low order


def key(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(text))


def pair(**changes: Any) -> tuple[HandshakeState, HandshakeState]:
    generate = X25519PrivateKey.generate
    return (
        HandshakeState(initiator=True, static=changes.get("alice_static", generate()), ephemeral=changes.get("alice")),
        HandshakeState(initiator=False, static=changes.get("bob_static", generate()), ephemeral=changes.get("bob")),
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["source"]))
def test_published_vectors(vector: dict[str, Any]) -> None:
    alice = HandshakeState(
        initiator=True,
        static=key(vector["init_static"]),
        ephemeral=key(vector["init_ephemeral"]),
        prologue=bytes.fromhex(vector["init_prologue"]),
    )
    bob = HandshakeState(
        initiator=False,
        static=key(vector["resp_static"]),
        ephemeral=key(vector["resp_ephemeral"]),
        prologue=bytes.fromhex(vector["resp_prologue"]),
    )
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    sides = [alice, bob]
    for payload, expected in messages[:3]:
        assert sides[0].write(payload) == expected
        assert sides[1].read(expected) == payload
        sides.reverse()
    assert alice.done
    assert bob.done
    assert alice.hash == bob.hash
    if vector["handshake_hash"]:
        assert alice.hash.hex() == vector["handshake_hash"]

    # The transport phase goes on in turns, through the record layer with its length in front.
    records = [NoiseRecords(*bob.split()), NoiseRecords(*alice.split())]
    for payload, expected in messages[3:]:
        out = bytearray(len(payload) + 18)
        assert records[0].seal_into(payload, memoryview(out)) == len(out)
        assert out[2:] == expected
        assert open_records(records[1], out) == ([payload], len(out))
        records.reverse()


def test_another_prologue_is_another_conversation() -> None:
    alice, _ = pair()
    bob = HandshakeState(initiator=False, static=X25519PrivateKey.generate(), prologue=b"other")
    bob.read(alice.write(b""))
    with pytest.raises(HandshakeError, match="authenticate"):
        alice.read(bob.write(b""))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_ephemeral_key_of_the_initiator_is_refused(point: int) -> None:
    _, bob = pair()
    bob.read(point.to_bytes(32, "little"))
    with pytest.raises(HandshakeError, match="low order"):
        bob.write(b"")


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_ephemeral_key_of_the_responder_is_refused(point: int) -> None:
    alice, _ = pair()
    alice.write(b"")
    with pytest.raises(HandshakeError, match="low order"):
        alice.read(point.to_bytes(32, "little") + bytes(64))


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("side", ["alice", "bob"])
def test_a_low_order_static_key_is_refused(side: str, point: int) -> None:
    alice, bob = pair(**{f"{side}_static": cast(X25519PrivateKey, Point(point.to_bytes(32, "little")))})
    bob.read(alice.write(b""))
    answer = bob.write(b"")
    if side == "bob":
        with pytest.raises(HandshakeError, match="low order"):
            alice.read(answer)
        return
    alice.read(answer)
    last = alice.write(b"")
    with pytest.raises(HandshakeError, match="low order"):
        bob.read(last)


@pytest.mark.parametrize("number", range(3))
def test_every_truncation_of_every_message_is_refused(number: int) -> None:
    sizes = (32, 96, 64)
    for size in range(sizes[number]):
        sides = list(pair())
        for _ in range(number):
            sides[1].read(sides[0].write(b""))
            sides.reverse()
        message = sides[0].write(b"")
        assert len(message) == sizes[number]
        with pytest.raises(HandshakeError):
            sides[1].read(message[:size])


@pytest.mark.parametrize("number", [1, 2])
def test_bytes_behind_an_encrypted_message_are_refused(number: int) -> None:
    sides = list(pair())
    for _ in range(number):
        sides[1].read(sides[0].write(b""))
        sides.reverse()
    with pytest.raises(HandshakeError):
        sides[1].read(sides[0].write(b"payload") + b"\x00")


def test_the_sides_take_turns() -> None:
    alice, bob = pair()
    with pytest.raises(LocalProtocolError, match="turn"):
        alice.read(bytes(32))
    with pytest.raises(LocalProtocolError, match="turn"):
        bob.write(b"")
    bob.read(alice.write(b""))
    with pytest.raises(LocalProtocolError, match="turn"):
        alice.write(b"")


def test_nothing_comes_out_before_its_time() -> None:
    alice, _ = pair()
    with pytest.raises(LocalProtocolError, match="not done"):
        alice.split()
    with pytest.raises(LocalProtocolError, match="not come"):
        _ = alice.remote_static


def test_a_message_of_another_run_is_refused() -> None:
    alice, bob = pair()
    bob.read(alice.write(b""))
    recorded = bob.write(b"")
    again, _ = pair()  # a new run of alice has a new ephemeral key
    again.write(b"")
    with pytest.raises(HandshakeError, match="authenticate"):
        again.read(recorded)
