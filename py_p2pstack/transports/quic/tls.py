"""TLS 1.3 inside QUIC: qh3's, made to ask for the peer's certificate and to judge it by libp2p's rules.

qh3 is made for the web, whose clients have no certificate. What it lacks is added in `_Context`: a server's
CertificateRequest, the client's Certificate and CertificateVerify, and on both sides the judgement of the chain before
anything else believes it. None of what we lean on there is API: the version is pinned, tests tell when it changes.
There are no session tickets, so neither resumption nor 0-RTT. Source: RFC 8446, RFC 9001; libp2p/specs, tls and quic.
"""

from __future__ import annotations

import ssl
from typing import Any, cast

from qh3 import tls
from qh3._hazmat import Buffer, SignatureError, verify_with_public_key
from qh3._hazmat import Certificate as PeerCertificate
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.packet import QuicTransportParameters, push_quic_transport_parameters
from qh3.quic.tls_bridge import QuicTlsBridge

from py_p2pstack.errors import HandshakeError, SecurityError
from py_p2pstack.identity import PeerId, PublicKey
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.identity import QuicIdentity, VerifyChain

ALPN = "libp2p"
SUITE = tls.CipherSuite.AES_128_GCM_SHA256  # the one that everybody must have
_ALGORITHMS = [
    int(algorithm)
    for algorithm in (
        tls.SignatureAlgorithm.ECDSA_SECP256R1_SHA256,
        tls.SignatureAlgorithm.ED25519,
        tls.SignatureAlgorithm.ECDSA_SECP384R1_SHA384,
        tls.SignatureAlgorithm.ECDSA_SECP521R1_SHA512,
        tls.SignatureAlgorithm.RSA_PSS_RSAE_SHA256,
        tls.SignatureAlgorithm.RSA_PSS_RSAE_SHA384,
        tls.SignatureAlgorithm.RSA_PSS_RSAE_SHA512,
    )
]
_GROUPS = [tls.Group.X25519, tls.Group.SECP256R1]  # a hybrid group's share would not fit into the first datagram


def make_configuration(identity: QuicIdentity, *, client: bool) -> QuicConfiguration:
    """What qh3 wants to know; made once per host and side."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509 import load_der_x509_certificate

    configuration = QuicConfiguration(
        alpn_protocols=[ALPN],
        is_client=client,
        verify_mode=ssl.CERT_NONE,  # the web's rules; ours are in _Context
        cipher_suites=[SUITE],
        signature_algorithms=_ALGORITHMS,
        server_name=None,
    )
    key = serialization.load_der_private_key(identity.key, None)
    configuration.load_cert_chain(
        load_der_x509_certificate(identity.certificate).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return configuration


class QuicTls(QuicTlsBridge):
    """The TLS of one connection; `_Context` in the place of qh3's own, and our transport parameters."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        config: QuicConfig,
        *,
        verify: VerifyChain,
        expected: PeerId | None,
        source_cid: bytes,
        original_cid: bytes,
        retry_cid: bytes | None,
        reset_token: bytes | None,
    ) -> None:
        self._config = config
        super().__init__(
            configuration,
            version=1,
            local_initial_source_connection_id=source_cid,
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
            stateless_reset_token=reset_token,
        )
        self.tls.__class__ = _Context
        self._context = cast(_Context, self.tls)
        self._context.adopt(verify, expected)

    @property
    def public_key(self) -> PublicKey | None:
        """Who the peer proved to be, once the handshake is complete; None: nobody, whatever qh3 thinks."""
        return self._context.proved_key if self.handshake_complete else None

    @property
    def fault(self) -> SecurityError | None:
        """Why we refused the peer."""
        return self._context.fault

    def serialize_transport_parameters(self) -> bytes:
        """What we tell of ourselves: our bounds, and nothing of what browsers tell."""
        config, client = self._config, self.configuration.is_client
        parameters = QuicTransportParameters(
            max_idle_timeout=int(config.idle_timeout * 1000),
            stateless_reset_token=None if client else self.stateless_reset_token,
            max_udp_payload_size=1472,
            initial_max_data=config.connection_window,
            initial_max_stream_data_bidi_local=config.stream_window,
            initial_max_stream_data_bidi_remote=config.stream_window,
            initial_max_stream_data_uni=0,
            initial_max_streams_bidi=config.max_inbound_streams,
            initial_max_streams_uni=0,
            ack_delay_exponent=3,
            max_ack_delay=25,
            active_connection_id_limit=4,
            initial_source_connection_id=self.local_initial_source_connection_id,
            original_destination_connection_id=None if client else self.original_destination_connection_id,
            retry_source_connection_id=None if client else self.retry_source_connection_id,
        )
        buffer = Buffer(capacity=1024)
        push_quic_transport_parameters(buffer, parameters)
        return bytes(buffer.data)


class _Context(tls.Context):
    """qh3's TLS with mutual authentication. Both sides end with `proved_key` or without a connection."""

    proved_key: PublicKey | None
    fault: SecurityError | None

    def adopt(self, verify: VerifyChain, expected: PeerId | None) -> None:
        """Begin in the place of a fresh context of qh3's."""
        self._verify = verify
        self._expected = expected
        self._judged: PublicKey | None = None
        self.proved_key = None
        self.fault = None
        self._client_flight = b""
        self._client_state = 0  # what the server awaits: Certificate, CertificateVerify, Finished
        self._supported_groups = list(_GROUPS)
        self._compress_certificate_algorithms = None
        if self.state == tls.State.SERVER_EXPECT_CLIENT_HELLO:
            self._alps_negotiated = True  # keeps qh3 from anticipating a Finished right behind the server's flight

    def _judge(self, chain: list[bytes]) -> PublicKey:
        try:
            return self._verify(chain, expected=self._expected)
        except HandshakeError as fault:
            self.fault = fault
            raise tls.AlertBadCertificate(str(fault)) from None

    # --- the client's side ------------------------------------------------------------------------

    def _process_certificate(self, certificate: Any) -> None:
        chain = [der for der, _ in certificate.certificates]
        self._judged = self._judge(chain)
        self._peer_certificate = PeerCertificate(chain[0])

    def _client_handle_certificate_verify(self, input_buf: Any) -> None:
        super()._client_handle_certificate_verify(input_buf)
        if self._judged is None or self._certificate_request is None:
            raise tls.AlertUnexpectedMessage("a libp2p server asks for a certificate and sends one")
        if self.alpn_negotiated != ALPN:
            raise tls.AlertHandshakeFailure("the server does not speak libp2p")
        self.proved_key = self._judged

    # --- the server's side ------------------------------------------------------------------------

    def _server_handle_hello(self, input_buf: Any, initial_buf: Any, handshake_buf: Any, onertt_buf: Any) -> None:
        certificate = self.certificate
        self.certificate = cast(Any, _AfterRequest(certificate, handshake_buf))
        try:
            super()._server_handle_hello(input_buf, initial_buf, handshake_buf, onertt_buf)
        finally:
            self.certificate = certificate

    def handle_message(self, input_data: bytes, output_buf: Any, epoch: int = -1) -> None:
        """Take in what came of the handshake; the client's certificate is ours to read, the rest is qh3's."""
        if self.state != tls.State.SERVER_EXPECT_FINISHED:
            super().handle_message(input_data, output_buf, epoch)
            return
        if epoch != tls.Epoch.HANDSHAKE:
            raise tls.AlertUnexpectedMessage("a handshake message under the wrong keys")
        self._client_flight += input_data
        while len(self._client_flight) >= 4 and self.state == tls.State.SERVER_EXPECT_FINISHED:
            end = 4 + int.from_bytes(self._client_flight[1:4], "big")
            if end > _MAX_MESSAGE:
                raise tls.AlertDecodeError("a handshake message beyond any use")
            if len(self._client_flight) < end:
                return
            message, self._client_flight = self._client_flight[:end], self._client_flight[end:]
            if self.proved_key is not None:
                super().handle_message(message, output_buf, epoch)
            else:
                self._receive_client(message)

    def _receive_client(self, message: bytes) -> None:
        kind, buffer = message[0], Buffer(data=message)
        if self._judged is None and kind == tls.HandshakeType.CERTIFICATE:
            chain = [der for der, _ in tls.pull_certificate(buffer).certificates]
            self._judged = self._judge(chain)
            self._peer_certificate = PeerCertificate(chain[0])
        elif self._judged is not None and kind == tls.HandshakeType.CERTIFICATE_VERIFY:
            self._check_possession(tls.pull_certificate_verify(buffer))
            self.proved_key = self._judged
        else:
            self.fault = HandshakeError("the peer sent no certificate")
            raise tls.AlertUnexpectedMessage("a client's certificate is due")
        assert self.key_schedule is not None
        self.key_schedule.update_hash(message)

    def _check_possession(self, verify: Any) -> None:
        """The client holds the key of the certificate it sent."""
        if verify.algorithm not in _ALGORITHMS:
            raise tls.AlertDecryptError("a signature algorithm we did not offer")
        assert self.key_schedule is not None
        assert self._peer_certificate is not None
        signed = self.key_schedule.certificate_verify_data(b"TLS 1.3, client CertificateVerify")
        try:
            verify_with_public_key(self._peer_certificate.public_key(), verify.algorithm, signed, verify.signature)
        except SignatureError as fault:
            self.fault = HandshakeError("the peer does not hold the key of its certificate")
            raise tls.AlertDecryptError(str(fault)) from None


_MAX_MESSAGE = 16 * 1024  # bytes of a handshake message; a certificate has 8 KiB at most


class _AfterRequest:
    """Stands for the server's certificate while qh3 writes its flight, and puts a CertificateRequest in front of it.

    qh3 asks for the certificate's bytes inside the block whose bytes enter the transcript, before it writes its own.
    """

    def __init__(self, certificate: Any, flight: Any) -> None:
        self._certificate = certificate
        self._flight = flight

    def public_bytes(self) -> bytes:
        self._flight.push_bytes(_CERTIFICATE_REQUEST)
        return bytes(self._certificate.public_bytes())


def _certificate_request() -> bytes:
    """RFC 8446 §4.3.2: an empty context, and one extension: signature_algorithms."""
    algorithms = b"".join(algorithm.to_bytes(2, "big") for algorithm in _ALGORITHMS)
    algorithms = len(algorithms).to_bytes(2, "big") + algorithms
    extension = b"\x00\x0d" + len(algorithms).to_bytes(2, "big") + algorithms
    body = b"\x00" + len(extension).to_bytes(2, "big") + extension
    return b"\x0d" + len(body).to_bytes(3, "big") + body


_CERTIFICATE_REQUEST = _certificate_request()
