"""The TLS 1.3 handshake with libp2p certificates, sans-IO: OpenSSL between two buffers in memory.

The standard library's `ssl` takes no self-signed certificate from a client it does not know; pyOpenSSL hands every
certificate to us. Records are cut here, so nothing behind the handshake is swallowed by OpenSSL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from OpenSSL import SSL, crypto

from py_p2pstack.core.security import Secured
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import DecryptError, HandshakeError, LocalProtocolError
from py_p2pstack.identity import PeerId, PrivateKey, PublicKey
from py_p2pstack.security.tls import certificate
from py_p2pstack.security.tls.openssl import PARTIAL_WRITE
from py_p2pstack.security.tls.records import TlsRecords, next_record, reason

PROTOCOL: ProtocolId = "/tls/1.0.0"
ALPN = b"libp2p"  # no muxer agreed on in the handshake
MAX_HANDSHAKE = 32 * 1024  # bytes of the peer's side of a handshake; ours: three times what the longest take
_HANDSHAKE_RECORDS = frozenset((20, 21, 22, 23))  # change cipher spec, alert, handshake, sealed
_CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"  # go-libp2p's order


class TlsHandshake:
    """One run; implements `core.security.Handshake`. Its outcome, or its first error, ends it.

    Behind an error `bytes_to_send` holds the alert that tells the peer.
    """

    __slots__ = ("_buffer", "_connection", "_expected", "_initiator", "_muxers", "_now", "_over", "_proved", "_taken")

    def __init__(
        self,
        context: SSL.Context,
        *,
        initiator: bool,
        expected: PeerId | None,
        muxers: Sequence[ProtocolId],
        now: float,
    ) -> None:
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(self)  # how OpenSSL's questions find us
        self._initiator = initiator
        self._expected = expected
        self._muxers = frozenset(muxers)
        self._now = now
        self._buffer = b""
        self._taken = 0
        self._proved: PublicKey | None = None
        self._over = False
        if initiator:
            self._connection.set_connect_state()
            self._step()
        else:
            self._connection.set_accept_state()

    def bytes_to_send(self) -> bytes:
        """Take what is to be sent now."""
        try:
            return self._connection.bio_read(2 * MAX_HANDSHAKE)
        except SSL.WantReadError:
            return b""

    def receive_data(self, data: bytes) -> Secured | None:
        """Take in bytes from the peer; returns the outcome once. Raises HandshakeError, PeerIdMismatch."""
        if self._over:
            raise LocalProtocolError("the TLS handshake is over")
        try:
            secured = self._receive(data)
        except HandshakeError:
            self._over = True
            raise
        self._over = secured is not None
        return secured

    def _receive(self, data: bytes) -> Secured | None:
        buffer = self._buffer + data
        while True:
            if buffer and buffer[0] not in _HANDSHAKE_RECORDS:
                raise HandshakeError(f"the peer speaks no TLS: a record of type {buffer[0]}")
            try:
                end = next_record(buffer, 0)
            except DecryptError as fault:
                raise HandshakeError(str(fault)) from None
            if end < 0:
                self._buffer = buffer
                return None
            self._taken += end
            if self._taken > MAX_HANDSHAKE:
                raise HandshakeError(f"a TLS handshake of more than {MAX_HANDSHAKE} bytes")
            self._connection.bio_write(buffer[:end])
            buffer = buffer[end:]
            if self._step():
                self._buffer = b""
                return self._finish(buffer)

    def _step(self) -> bool:
        """Let OpenSSL go on; returns whether the handshake is done."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as fault:
            raise HandshakeError(f"the TLS handshake failed: {reason(fault)}") from None
        return True

    def _finish(self, unread: bytes) -> Secured:
        if self._proved is None:  # never without a certificate, whatever OpenSSL thinks of it
            raise HandshakeError("the peer sent no certificate")
        chain = self._connection.get_peer_cert_chain() or []
        count = len(chain) + (not self._initiator)  # OpenSSL leaves the client's own out of the chain a server sees
        if count != 1:
            raise HandshakeError(f"the peer sent {count} certificates; exactly one is wanted")
        return Secured(
            remote_peer=self._proved.peer_id(),
            remote_public_key=self._proved,
            records=TlsRecords(self._connection),
            muxer=self._agreed_muxer(),
            unread=unread,
        )

    def _agreed_muxer(self) -> ProtocolId | None:
        name = self._connection.get_alpn_proto_negotiated()
        if name in (b"", ALPN):
            return None
        muxer = name.decode("ascii", "replace")
        if muxer not in self._muxers:
            raise HandshakeError(f"the peer chose a muxer we did not offer: {muxer[:80]!r}")
        return muxer

    # --- what OpenSSL asks --------------------------------------------------------------------------

    def judge(self, der: bytes, depth: int) -> None:
        """Judge the peer's certificate, before anything it signed is looked at. Raises HandshakeError."""
        if depth:
            raise HandshakeError("the peer sent more than one certificate; exactly one is wanted")
        if self._proved is None:
            self._proved = certificate.verify_chain([der], now=self._now, expected=self._expected)

    def choose(self, offered: Sequence[bytes]) -> bytes:
        """The client's first protocol that we speak too. Raises HandshakeError."""
        for name in offered:
            if name == ALPN or name.decode("ascii", "replace") in self._muxers:
                return name
        raise HandshakeError("the client offers no protocol that we speak")


class TlsTransport:
    """TLS bound to an identity; implements `core.security.SecurityTransport`. Its certificate is made once."""

    protocol: ProtocolId = PROTOCOL

    def __init__(self, private_key: PrivateKey, *, wall_clock: Callable[[], float]) -> None:
        """`wall_clock` tells the seconds since 1970: certificates have a time in which they are valid."""
        self._wall_clock = wall_clock
        self._certificate = certificate.make(private_key, now=wall_clock())
        self._contexts: dict[tuple[ProtocolId, ...], SSL.Context] = {}

    def handshake(self, *, initiator: bool, peer: PeerId | None, muxers: Sequence[ProtocolId]) -> TlsHandshake:
        """Begin a handshake; see `SecurityTransport.handshake`."""
        key = tuple(muxers)
        context = self._contexts.get(key)
        if context is None:  # one for each list of muxers a host is configured with
            context = self._contexts[key] = make_context(self._certificate, key)
        return TlsHandshake(context, initiator=initiator, expected=peer, muxers=key, now=self._wall_clock())


def make_context(own: certificate.Certificate, muxers: Sequence[ProtocolId]) -> SSL.Context:
    """OpenSSL's settings: TLS 1.3 alone, both sides show a certificate, nothing is resumed."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.clear_mode(PARTIAL_WRITE)
    context.use_certificate(own.x509)
    context.use_privatekey(own.key)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _judge)
    context.set_alpn_protos([*(muxer.encode() for muxer in muxers), ALPN])
    context.set_alpn_select_callback(_choose)
    return context


def _judge(connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's own opinion does not count: it knows no authority for anybody."""
    connection.get_app_data().judge(crypto.dump_certificate(crypto.FILETYPE_ASN1, shown), depth)
    return True


def _choose(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    chosen: bytes = connection.get_app_data().choose(offered)
    return chosen
