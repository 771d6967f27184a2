"""Machines face to face, without sockets: what one says the other hears, and the clock only moves when told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from qh3._hazmat import Certificate

from py_p2pstack.errors import P2PError
from py_p2pstack.identity import KeyType, PeerId, PrivateKey
from py_p2pstack.security.tls import certificate
from py_p2pstack.transports.quic.codec import read_long
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.credentials import Credentials
from py_p2pstack.transports.quic.identity import QuicIdentity
from py_p2pstack.transports.quic.machine import QuicMachine
from tests.security.tls.certificates import NOW, Key, forge, signed_key

ALICE, BOB = ("127.0.0.1", 40001), ("127.0.0.1", 40002)


def private_der(key: Key) -> bytes:
    """PKCS #8."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def credentials(identity: PrivateKey | None = None, *, der: bytes | None = None, key: Key | None = None) -> Credentials:
    """What a peer shows: an honest certificate, or this one under this key."""
    identity = identity or PrivateKey.generate(KeyType.ED25519)
    key = key or ec.generate_private_key(ec.SECP256R1())
    return Credentials(
        QuicIdentity(
            peer=identity.public_key.peer_id(),
            certificate=der or forge(key, signed_key(identity, key)),
            key=private_der(key),
            verify=lambda chain, *, expected: certificate.verify_chain(chain, now=NOW, expected=expected),
            reset_key=b"reset",
        )
    )


def without_certificate(peer: Credentials) -> Credentials:
    """… who shows none."""
    peer.client.certificate = None
    return peer


def with_two(peer: Credentials) -> Credentials:
    """… who shows it twice."""
    for side in (peer.client, peer.server):
        assert side.certificate is not None
        side.certificate_chain = [Certificate(side.certificate.public_bytes())]
    return peer


@dataclass
class Machines:
    """Alice, who dials, and bob, who exists once her first datagram has come."""

    alice_credentials: Credentials
    bob_credentials: Credentials
    expected: PeerId | None = None
    config: QuicConfig = field(default_factory=QuicConfig)
    now: float = 1000.0
    bob: QuicMachine | None = None
    wire: list[bytes] = field(default_factory=list)
    """Every datagram, in order."""
    on_datagram: Callable[[bytes], bytes | None] = lambda datagram: datagram
    """What becomes of a datagram on its way; None: it is lost."""

    def __post_init__(self) -> None:
        mine = self.alice_credentials
        self.alice = QuicMachine(
            mine.client,
            self.config,
            verify=mine.verify,
            expected=self.expected,
            remote=BOB,
            now=self.now,
            cid=os.urandom(8),
        )

    def accept(self, first: bytes) -> QuicMachine:
        """Bob, for a first datagram."""
        header = read_long(first)
        assert header is not None
        theirs = self.bob_credentials
        return QuicMachine(
            theirs.server,
            self.config,
            verify=theirs.verify,
            expected=None,
            remote=ALICE,
            now=self.now,
            cid=os.urandom(8),
            destination_cid=header.destination,
            original_cid=header.destination,
        )

    def step(self) -> bool:
        """Let each say what it has to say; returns whether anything was said."""
        said = False
        for datagram, _ in self.alice.datagrams_to_send(self.now):
            said = True
            self.wire.append(datagram)
            if (arrived := self.on_datagram(datagram)) is not None:
                if self.bob is None:
                    self.bob = self.accept(arrived)
                self.bob.receive(arrived, len(arrived), ALICE, self.now)
        if self.bob is not None:
            for datagram, _ in self.bob.datagrams_to_send(self.now):
                said = True
                self.wire.append(datagram)
                if (arrived := self.on_datagram(datagram)) is not None:
                    self.alice.receive(arrived, len(arrived), BOB, self.now)
        return said

    def run(self, seconds: float = 0.0) -> None:
        """Talk until nobody has anything to say, and for so long."""
        end = self.now + seconds
        while True:
            while self.step():
                self.now += 1e-4
            timers = [
                (timer, machine)
                for machine in (self.alice, self.bob)
                if machine is not None and (timer := machine.timer()) is not None
            ]
            timer, machine = min(timers, key=lambda each: each[0], default=(end + 1, self.alice))
            if timer > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, timer)
            machine.handle_timer(self.now)

    @property
    def faults(self) -> tuple[P2PError | None, P2PError | None]:
        """What both sides think of it."""
        return self.alice.fault, self.bob.fault if self.bob is not None else None


def events(machine: QuicMachine) -> list[tuple[Any, ...]]:
    """What a machine has to tell."""
    told = []
    while (event := machine.core.next_event()) is not None:
        told.append(event)
    return told


def connected(config: QuicConfig | None = None) -> Machines:
    """Two that have shaken hands."""
    machines = Machines(credentials(), credentials(), config=config or QuicConfig())
    machines.run()
    assert machines.faults == (None, None)
    assert machines.bob is not None
    assert machines.bob.public_key is not None
    return machines
