"""A certificate authority of the tests' own, and what it vouches for: 127.0.0.1 and localhost."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from py_p2pstack.transports.websocket import WebSocketConfig


@cache
def web_config() -> WebSocketConfig:
    """A server with a certificate, and a client that trusts it."""
    certificate, key = self_signed()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.num_tickets = 0  # they would wake a client that waits for data
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "server.pem"
        path.write_bytes(key + certificate)
        server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=certificate.decode())
    return WebSocketConfig(server_tls=server, client_tls=client)


def self_signed() -> tuple[bytes, bytes]:
    """A certificate and its key, PEM; for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _certificate("localhost", key, "localhost", key, authority=True), _private(key)


def authority_signed() -> tuple[bytes, bytes]:
    """The certificate of an authority; and one that it vouches for, with its key. PEM; for an hour."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    return (
        _certificate("authority", authority, "authority", authority, authority=True),
        _certificate("localhost", key, "authority", authority, authority=False) + _private(key),
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, authority: bool
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.DNSName("node.example"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)
