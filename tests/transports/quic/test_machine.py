"""Handshakes: who is believed, who is refused, and that it takes no more round trips than it must."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from py_p2pstack.errors import HandshakeError, PeerIdMismatch
from py_p2pstack.identity import KeyType, PrivateKey
from py_p2pstack.transports.quic.codec import MIN_INITIAL
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.credentials import Credentials
from tests.security.tls.certificates import HOUR, NOW, forge, octets, sequence, signed_key
from tests.transports.quic.machines import (
    ALICE,
    Machines,
    connected,
    credentials,
    events,
    with_two,
    without_certificate,
)

MALLORY = PrivateKey.generate(KeyType.ED25519)
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())

HOSTILE: dict[str, Callable[[], Credentials]] = {
    "two certificates": lambda: with_two(credentials()),
    "no extension": lambda: credentials(der=forge(KEY, None), key=KEY),
    "an extension that is none": lambda: credentials(der=forge(KEY, b"garbage"), key=KEY),
    "an extension signed for another key": lambda: credentials(der=forge(KEY, signed_key(MALLORY, OTHER)), key=KEY),
    "an extension with a foreign signature": lambda: credentials(
        der=forge(KEY, sequence(octets(MALLORY.public_key.encode()), octets(bytes(64)))), key=KEY
    ),
    "signed by another key": lambda: credentials(der=forge(KEY, signed_key(MALLORY, KEY), signer=OTHER), key=KEY),
    "expired": lambda: credentials(der=forge(KEY, signed_key(MALLORY, KEY), end=NOW - 60), key=KEY),
    "not yet valid": lambda: credentials(der=forge(KEY, signed_key(MALLORY, KEY), begin=NOW + HOUR / 2), key=KEY),
    "an unknown critical extension": lambda: credentials(
        der=forge(
            KEY,
            signed_key(MALLORY, KEY),
            extras=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), True),),
        ),
        key=KEY,
    ),
    "a stolen certificate": lambda: credentials(der=forge(OTHER, signed_key(MALLORY, OTHER)), key=KEY),
}


def long_credentials() -> Credentials:
    """Of a peer whose certificate does not go into three datagrams."""
    identity = PrivateKey.generate(KeyType.ED25519)
    extra = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(6000)), False)
    return credentials(identity, der=forge(KEY, signed_key(identity, KEY), extras=(extra,)), key=KEY)


def test_both_sides_learn_who_the_other_is() -> None:
    alice, bob = PrivateKey.generate(KeyType.ED25519), PrivateKey.generate(KeyType.SECP256K1)
    machines = Machines(credentials(alice), credentials(bob), bob.public_key.peer_id())
    machines.run()
    assert machines.faults == (None, None)
    assert machines.bob is not None
    assert machines.alice.public_key == bob.public_key
    assert machines.bob.public_key == alice.public_key


@pytest.mark.parametrize("kind", [KeyType.RSA, KeyType.ED25519, KeyType.SECP256K1, KeyType.ECDSA], ids=str)
def test_identities_of_every_kind_are_proved(kind: KeyType) -> None:
    identity = PrivateKey.generate(kind)
    machines = Machines(credentials(identity), credentials(identity), identity.public_key.peer_id())
    machines.run()
    assert machines.faults == (None, None)


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["ed25519", "rsa", "p-384"],
)
def test_certificates_may_have_keys_of_other_kinds(key: ed25519.Ed25519PrivateKey) -> None:
    identity = PrivateKey.generate(KeyType.ED25519)
    odd = credentials(identity, key=key)
    for pair in ((odd, credentials()), (credentials(), odd)):
        machines = Machines(*pair)
        machines.run()
        assert machines.faults == (None, None)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_client_is_refused(name: str) -> None:
    machines = Machines(HOSTILE[name](), credentials())
    machines.run(seconds=5.0)
    assert machines.bob is not None
    assert isinstance(machines.bob.fault, HandshakeError)
    assert "QUIC failed" not in str(machines.bob.fault)  # judged, not tripped over
    assert machines.bob.public_key is None
    # Alice was done a flight earlier, as TLS 1.3 has it; she is told.
    assert machines.alice.ended


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_is_refused(name: str) -> None:
    machines = Machines(credentials(), HOSTILE[name]())
    machines.run(seconds=5.0)
    assert isinstance(machines.alice.fault, HandshakeError)
    assert "QUIC failed" not in str(machines.alice.fault)
    assert machines.alice.public_key is None
    assert machines.bob is not None
    assert machines.bob.public_key is None
    assert machines.bob.ended


def test_a_client_without_a_certificate_is_refused() -> None:
    machines = Machines(without_certificate(credentials()), credentials())
    machines.run(seconds=5.0)
    assert machines.bob is not None
    assert "0 certificates" in str(machines.bob.fault)
    assert machines.bob.public_key is None


def test_a_server_that_asks_for_no_certificate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from qh3 import tls

    machines = Machines(credentials(), credentials())
    for datagram, _ in machines.alice.datagrams_to_send(machines.now):
        machines.bob = machines.bob or machines.accept(datagram)
        context = machines.bob._tls.tls
        context.__class__ = tls.Context  # qh3's own: a server of the web
        context._alps_negotiated = False
        machines.bob.receive(datagram, len(datagram), ("127.0.0.1", 1), machines.now)
    machines.run(seconds=5.0)
    assert isinstance(machines.alice.fault, HandshakeError)
    assert machines.alice.public_key is None


def test_the_wrong_peer_is_refused_by_name() -> None:
    wanted, found = PrivateKey.generate(KeyType.ED25519), PrivateKey.generate(KeyType.ED25519)
    machines = Machines(credentials(), credentials(found), wanted.public_key.peer_id())
    machines.run()
    fault = machines.alice.fault
    assert isinstance(fault, PeerIdMismatch)
    assert fault.actual == found.public_key.peer_id()
    assert machines.bob is not None
    assert machines.bob.public_key is None


@pytest.mark.parametrize("side", ["client", "server"])
def test_another_application_protocol_is_refused(side: str) -> None:
    other = credentials()
    getattr(other, side).alpn_protocols = ["h3"]
    machines = Machines(other, credentials()) if side == "client" else Machines(credentials(), other)
    machines.run(seconds=5.0)
    for machine in (machines.alice, machines.bob):
        assert machine is not None
        assert isinstance(machine.fault, HandshakeError)


def test_the_handshake_takes_one_flight_each_way_and_one_more() -> None:
    machines = connected()
    first = [len(datagram) for datagram in machines.wire]
    assert first[0] >= MIN_INITIAL
    fresh = Machines(credentials(), credentials())
    assert fresh.step()  # alice's hello, bob's whole flight
    assert fresh.alice.public_key is not None  # so she may open streams behind one round trip
    assert fresh.step()
    assert fresh.bob is not None
    assert fresh.bob.public_key is not None


def test_lost_datagrams_of_the_handshake_come_again() -> None:
    for lost in range(6):
        count = -1

        def drop(datagram: bytes, lost: int = lost) -> bytes | None:
            nonlocal count
            count += 1
            return None if count == lost else datagram

        machines = Machines(credentials(), credentials(), on_datagram=drop)
        machines.run(seconds=3.0)
        assert machines.faults == (None, None), lost
        assert machines.bob is not None
        assert machines.bob.public_key is not None, lost


def test_no_session_can_be_resumed() -> None:
    machines = connected()
    machines.run(seconds=1.0)
    assert not [event for event in events(machines.alice) if event[0] in ("crypto_data", "new_token")]


def test_a_handshake_that_is_too_long_is_cut() -> None:
    config = QuicConfig(max_handshake=4096)
    machines = Machines(credentials(), credentials(), config=config)
    [(first, _)] = machines.alice.datagrams_to_send(machines.now)
    bob = machines.accept(first)
    for _ in range(4):
        bob.receive(first, len(first), ("127.0.0.1", 1), machines.now)
    assert "more than 4096 bytes" in str(bob.fault)


def test_padding_behind_a_packet_counts_for_what_may_be_answered() -> None:
    """RFC 9000 §8.1: thrice the bytes of the datagram, though aioquic pads behind the packet and not inside."""
    long = long_credentials()
    answered = []
    for padding in (0, 400):
        machines = Machines(credentials(), long)
        [(first, _)] = machines.alice.datagrams_to_send(machines.now)
        bob = machines.accept(first)
        bob.receive(first + bytes(padding), len(first) + padding, ALICE, machines.now)
        answered.append(sum(len(datagram) for datagram, _ in bob.datagrams_to_send(machines.now)))
        assert bob.fault is None
        assert answered[-1] <= 3 * (len(first) + padding)
    assert answered[1] > answered[0] > 0


def test_a_server_with_more_to_say_than_it_may_waits_to_be_heard() -> None:
    """… of an address that is not yet proved: the client's acknowledgements let it go on."""
    machines = Machines(credentials(), long_credentials())
    machines.run(seconds=5.0)
    assert machines.faults == (None, None)
    assert machines.alice.public_key is not None
    assert machines.bob is not None
    assert machines.bob.public_key is not None


def test_keys_are_updated_under_way() -> None:
    machines = connected()
    machines.run(seconds=1.0)
    assert machines.bob is not None
    stream = machines.alice.core.open_stream(False)
    for round_ in range(5):
        machines.alice.core.request_key_update()
        machines.alice.core.send_stream(stream, bytes((round_,)), False)
        machines.run(seconds=1.0)
        assert ("stream_data", stream, bytes((round_,)), False) in events(machines.bob)
