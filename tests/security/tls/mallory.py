"""Mallory with an OpenSSL of her own, for tests of those who must judge what she shows."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_der_x509_certificate
from OpenSSL import SSL

from tests.security.tls.certificates import Key

KEY = ec.generate_private_key(ec.SECP256R1())
"""The key of her certificate, unless said otherwise."""


class Mallory:
    """An OpenSSL of the peer's own, which asks nothing and may show anything."""

    def __init__(
        self,
        *,
        server: bool,
        shows: bytes | None = None,
        key: Key = KEY,
        more: tuple[bytes, ...] = (),
        alpn: tuple[bytes, ...] = (b"libp2p",),
        newest: int = SSL.TLS1_3_VERSION,
        takes_anyone: bool = True,
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(newest)
        self.key_log = ""
        context.set_keylog_callback(self._log)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: takes_anyone)
        if shows is not None:
            context.use_certificate(load_der_x509_certificate(shows))
            context.use_privatekey(key)
        for extra in more:
            context.add_extra_chain_cert(load_der_x509_certificate(extra))
        if alpn and not server:
            context.set_alpn_protos(list(alpn))
        if server:
            context.set_alpn_select_callback(lambda _, offered: alpn[0] if alpn else SSL.NO_OVERLAPPING_PROTOCOLS)
        self.tls = SSL.Connection(context, None)
        self.error: SSL.Error | None = None
        if server:
            self.tls.set_accept_state()
        else:
            self.tls.set_connect_state()

    def receive(self, data: bytes) -> bytes:
        """Take in bytes, whatever they are; returns the answer."""
        if data:
            self.tls.bio_write(data)
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as fault:
            self.error = fault
        return self.out()

    def _log(self, _: SSL.Connection, line: bytes) -> None:
        self.key_log += line.decode() + "\n"

    def out(self) -> bytes:
        """What is to be sent."""
        try:
            return self.tls.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""
