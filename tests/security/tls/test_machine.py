"""The TLS handshake against peers that do not play by the book; what all protocols share is in the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from py_p2pstack.core.security import Secured
from py_p2pstack.errors import ConnectionClosed, DecryptError, HandshakeError, PeerIdMismatch
from py_p2pstack.identity import PrivateKey
from py_p2pstack.security.tls import TlsHandshake, TlsTransport
from py_p2pstack.security.tls.machine import MAX_HANDSHAKE
from py_p2pstack.testing.contracts.security_case import open_records
from tests.security.tls.certificates import HOUR, NOW, forge, octets, sequence, signed_key, spki
from tests.security.tls.mallory import KEY, Mallory

ALICE = PrivateKey.from_seed(b"alice".ljust(32))
MALLORY = PrivateKey.from_seed(b"mallory".ljust(32))
ALICE_TLS = TlsTransport(ALICE, wall_clock=lambda: NOW)
YAMUX = "/yamux/1.0.0"


def meet(side: TlsHandshake, mallory: Mallory) -> Secured:
    """Let both talk until we are done; raises what we raise."""
    word = side.bytes_to_send()
    for _ in range(10):
        word = mallory.receive(word)
        if word and (secured := side.receive_data(word)) is not None:
            mallory.receive(side.bytes_to_send())
            return secured
        word = side.bytes_to_send()
    raise EOFError(f"no end to it; mallory has {mallory.error}")


def our_side(*, server: bool, muxers: tuple[str, ...] = (YAMUX,)) -> TlsHandshake:
    return ALICE_TLS.handshake(initiator=not server, peer=None, muxers=muxers)


GOOD = forge(KEY, signed_key(MALLORY, KEY))
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("we_serve", [True, False], ids=["server", "client"])
class TestWhoIsRefused:
    """Before any outcome: there is no record layer to read application data with."""

    def refused(self, we_serve: bool, mallory: Callable[[bool], Mallory]) -> str:
        side = our_side(server=we_serve)
        peer = mallory(not we_serve)
        with pytest.raises(HandshakeError) as caught:
            meet(side, peer)
        peer.receive(side.bytes_to_send())
        return str(caught.value)

    def test_mallory_with_a_good_certificate_is_taken(self, we_serve: bool) -> None:
        secured = meet(our_side(server=we_serve), Mallory(server=not we_serve, shows=GOOD))
        assert secured.remote_peer == MALLORY.public_key.peer_id()
        assert secured.muxer is None

    def test_two_certificates(self, we_serve: bool) -> None:
        for extra in (GOOD, forge(OTHER_KEY, signed_key(ALICE, OTHER_KEY))):
            assert "exactly one" in self.refused(
                we_serve,
                lambda server, extra=extra: Mallory(server=server, shows=GOOD, more=(extra,)),  # type: ignore[misc]
            )

    @pytest.mark.parametrize(
        ("shown", "why"),
        [
            (forge(KEY, None), "without the libp2p extension"),
            (forge(KEY, b"\x30\x00"), "no DER"),
            (forge(KEY, signed_key(MALLORY, OTHER_KEY)), "proves no identity"),
            (
                forge(KEY, sequence(octets(ALICE.public_key.encode()), octets(MALLORY.sign(spki(KEY))))),
                "proves no identity",
            ),
            (forge(KEY, signed_key(MALLORY, KEY), end=NOW - HOUR / 2), "expired"),
            (forge(KEY, signed_key(MALLORY, KEY), begin=NOW + 60), "not valid before"),
            (forge(KEY, signed_key(MALLORY, KEY), signer=OTHER_KEY), "self-signature"),
        ],
        ids=[
            "no extension",
            "wrong extension",
            "foreign extension",
            "foreign key",
            "expired",
            "early",
            "foreign signer",
        ],
    )
    def test_a_bad_certificate(self, we_serve: bool, shown: bytes, why: str) -> None:
        mallories: list[Mallory] = []

        def make(server: bool) -> Mallory:
            mallories.append(Mallory(server=server, shows=shown))
            return mallories[0]

        assert why in self.refused(we_serve, make)
        mallory = mallories[0]
        if mallory.error is None:  # a client learns behind its own end
            with pytest.raises(SSL.Error) as caught:
                mallory.tls.recv(100)
            mallory.error = caught.value
        assert "alert" in str(mallory.error)

    def test_tls_1_2(self, we_serve: bool) -> None:
        why = self.refused(we_serve, lambda server: Mallory(server=server, shows=GOOD, newest=SSL.TLS1_2_VERSION))
        assert "version" in why or "protocol" in why

    def test_no_protocol_in_common(self, we_serve: bool) -> None:
        assert self.refused(we_serve, lambda server: Mallory(server=server, shows=GOOD, alpn=(b"h2",)))

    def test_a_peer_without_alpn_is_asked_for_its_muxer_later(self, we_serve: bool) -> None:
        assert meet(our_side(server=we_serve), Mallory(server=not we_serve, shows=GOOD, alpn=())).muxer is None


def test_a_client_without_a_certificate_is_refused() -> None:
    with pytest.raises(HandshakeError, match="certificate"):
        meet(our_side(server=True), Mallory(server=False))


def test_the_wrong_peer_hears_an_alert_and_no_certificate_of_ours() -> None:
    side = ALICE_TLS.handshake(initiator=True, peer=ALICE.public_key.peer_id(), muxers=(YAMUX,))
    with pytest.raises(PeerIdMismatch):
        meet(side, Mallory(server=True, shows=GOOD))
    assert 0 < len(side.bytes_to_send()) < 100


def test_the_clients_preference_is_honoured() -> None:
    side = our_side(server=True, muxers=("/a", "/b"))
    assert meet(side, Mallory(server=False, shows=GOOD, alpn=(b"/c", b"/b", b"/a", b"libp2p"))).muxer == "/b"


def test_a_server_that_chooses_what_we_did_not_offer_is_refused() -> None:
    with pytest.raises(HandshakeError):
        meet(our_side(server=False), Mallory(server=True, shows=GOOD, alpn=(b"/other",)))


def test_no_name_of_the_peer_is_in_the_clear() -> None:
    hello = ALICE_TLS.handshake(initiator=True, peer=MALLORY.public_key.peer_id(), muxers=(YAMUX,)).bytes_to_send()
    for name in (MALLORY.public_key.peer_id(), ALICE.public_key.peer_id()):
        assert name.to_bytes() not in hello
        assert str(name).encode() not in hello
    assert b"/yamux/1.0.0\x06libp2p" in hello


def test_nothing_is_ever_resumed() -> None:
    """What a session would save is the proof of identity: whoever brings one must show its certificate again."""
    first = Mallory(server=False, shows=GOOD)
    meet(our_side(server=True), first)
    with pytest.raises(SSL.WantReadError):
        first.tls.recv(100)  # whatever tickets came are read
    session = first.tls.get_session()
    assert session is not None
    again = SSL.Connection(first.tls.get_context(), None)
    again.set_connect_state()
    again.set_session(session)
    first.tls = again
    assert meet(our_side(server=True), first).remote_peer == MALLORY.public_key.peer_id()


def test_a_long_handshake_is_cut_off_and_so_is_a_big_record() -> None:
    side = our_side(server=True)
    spaced = b"\x16\x03\x01\x00\x01\x01"  # a ClientHello in records of one byte each
    with pytest.raises(HandshakeError):
        for _ in range(MAX_HANDSHAKE):
            side.receive_data(spaced)
    with pytest.raises(HandshakeError, match="limit"):
        our_side(server=True).receive_data(b"\x16\x03\x01\x41\x01")


def test_plaintext_is_refused_with_its_first_byte() -> None:
    with pytest.raises(HandshakeError, match="no TLS"):
        our_side(server=True).receive_data(b"G")


# --- behind the handshake -------------------------------------------------------------------------


def settled() -> tuple[Secured, Mallory]:
    mallory = Mallory(server=False, shows=GOOD)
    side = our_side(server=True)
    secured = meet(side, mallory)
    mallory.receive(side.bytes_to_send())
    return secured, mallory


def test_the_peers_goodbye_ends_the_channel_behind_its_last_words() -> None:
    secured, mallory = settled()
    mallory.tls.send(b"last")
    mallory.tls.shutdown()
    data = mallory.out()
    assert open_records(secured.records, data) == ([b"last"], len(data))
    secured, mallory = settled()
    mallory.tls.shutdown()
    with pytest.raises(ConnectionClosed):
        open_records(secured.records, mallory.out())


def test_an_alert_is_told_in_its_own_words() -> None:
    """So a dialer learns that the listener refused its certificate: TLS 1.3 tells it behind the dialer's own end."""
    side = our_side(server=False)
    picky = Mallory(server=True, shows=GOOD, takes_anyone=False)
    secured = side.receive_data(picky.receive(side.bytes_to_send()))
    assert secured is not None
    with pytest.raises(DecryptError, match="alert"):
        open_records(secured.records, picky.receive(side.bytes_to_send()))


@pytest.mark.parametrize("size", [1, 16384, 16385, 65000])
def test_large_plaintexts_are_cut_into_tls_records(size: int) -> None:
    secured, mallory = settled()
    out = memoryview(bytearray(size + secured.records.overhead))
    mallory.tls.bio_write(out[: secured.records.seal_into(bytes(size), out)])
    received = 0
    while received < size:
        received += len(mallory.tls.recv(70_000))
    assert received == size
