"""Certificates of all sorts, most of them wrong, for tests of those who must judge them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from py_p2pstack.identity import PrivateKey
from py_p2pstack.security.tls.certificate import EXTENSION, SIGNATURE_PREFIX

NOW = 1_790_000_000.0
HOUR = 3600.0
Key: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Extra: TypeAlias = tuple[x509.ExtensionType, bool]


def octets(value: bytes) -> bytes:
    """A DER OCTET STRING of fewer than 65536 bytes, in the shortest form."""
    return _tlv(4, value)


def sequence(*elements: bytes) -> bytes:
    """A DER SEQUENCE."""
    return _tlv(0x30, b"".join(elements))


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 128:
        return bytes((tag, size)) + value
    return bytes((tag, 0x81, size)) + value if size < 256 else bytes((tag, 0x82)) + size.to_bytes(2, "big") + value


def spki(key: Key) -> bytes:
    """What an identity signs."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed_key(identity: PrivateKey, key: Key) -> bytes:
    """The right value of the extension."""
    return sequence(octets(identity.public_key.encode()), octets(identity.sign(SIGNATURE_PREFIX + spki(key))))


def forge(
    key: Key,
    extension: bytes | None,
    *,
    critical: bool = False,
    begin: float = NOW - HOUR,
    end: float = NOW + HOUR,
    signer: Key | None = None,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
    extras: tuple[Extra, ...] = (),
) -> bytes:
    """A certificate for `key` in DER, with any extension value, signed by any key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mallory")])
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(epoch + timedelta(seconds=begin))
        .not_valid_after(epoch + timedelta(seconds=end))
    )
    if extension is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(EXTENSION, extension), critical=critical)
    for value, is_critical in extras:
        builder = builder.add_extension(value, critical=is_critical)
    signer = signer or key
    if not isinstance(signer, ed25519.Ed25519PrivateKey):
        algorithm = algorithm or hashes.SHA256()
    return builder.sign(signer, algorithm).public_bytes(serialization.Encoding.DER)
