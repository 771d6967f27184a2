"""The certificate that carries a libp2p identity into TLS: made once per host, verified once per handshake.

TLS over TCP and QUIC share it. The certificate's own key lives as long as the host; an extension holds the identity's
public key and its signature over the certificate's key. Nothing else in a certificate is believed.
Source: libp2p/specs, tls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature as _Invalid
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.utils import CryptographyDeprecationWarning

from py_p2pstack.errors import HandshakeError, InvalidKey, InvalidSignature, PeerIdMismatch
from py_p2pstack.identity import PeerId, PrivateKey, PublicKey

EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNATURE_PREFIX = b"libp2p-tls-handshake:"
MAX_CERTIFICATE = 8192  # bytes; ours: an 8192-bit RSA identity with its signature takes 2.5 kB
REMEMBERED = 1024  # certificates of peers met before: below 1 MB for keys of usual size
_LIFETIME = timedelta(days=36500)  # go-libp2p's: a hundred years
_BACKDATED = timedelta(hours=1)  # go-libp2p's: for peers whose clock is slow
_MIN_RSA, _MAX_RSA = 2048, 8192
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    CryptographyDeprecationWarning,  # where warnings are errors
)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)  # nothing below 256 bits


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of ours with its key."""

    x509: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.x509.public_bytes(serialization.Encoding.DER)

    @property
    def key_der(self) -> bytes:
        """Its private key as PKCS #8 in DER. Keep it secret."""
        return self.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def __repr__(self) -> str:
        return f"<Certificate {self.x509.serial_number:x}>"


def make(identity: PrivateKey, *, now: float) -> Certificate:
    """Make a self-signed certificate with a fresh P-256 key that proves `identity`; `now`: seconds since 1970."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    signed_key = _encode_signed_key(identity.public_key.encode(), identity.sign(SIGNATURE_PREFIX + _spki(public)))
    moment = datetime.fromtimestamp(now, UTC)
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, str(serial))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(moment - _BACKDATED)
        .not_valid_after(moment + _LIFETIME)
        .add_extension(x509.UnrecognizedExtension(EXTENSION, signed_key), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certificate(certificate, key)


def verify_chain(chain: Sequence[bytes], *, now: float, expected: PeerId | None = None) -> PublicKey:
    """Who sent this chain of DER certificates: exactly one, proving the identity `expected` (None: any).

    This is the whole judgement of a TLS or QUIC peer; an empty chain is a peer that proved nothing.
    Raises HandshakeError, PeerIdMismatch.
    """
    if len(chain) != 1:
        raise HandshakeError(f"the peer sent {len(chain)} certificates; exactly one is wanted")
    public_key = verify(chain[0], now=now)
    if expected is not None and (actual := public_key.peer_id()) != expected:
        raise PeerIdMismatch(expected, actual)
    return public_key


def verify(der: bytes, *, now: float) -> PublicKey:
    """The identity that a certificate proves at the time `now` (seconds since 1970).

    The holder of the certificate's key must be proved by TLS itself. Raises HandshakeError for everything else than a
    currently valid, self-signed certificate whose extension is signed by the identity in it.
    """
    if len(der) > MAX_CERTIFICATE:
        raise HandshakeError(f"a certificate of {len(der)} bytes; the limit is {MAX_CERTIFICATE}")
    public_key, begin, end = _read(der)
    moment = datetime.fromtimestamp(now, UTC)
    if moment < begin:
        raise HandshakeError(f"a certificate not valid before {begin}")
    if moment > end:
        raise HandshakeError(f"a certificate that expired on {end}")
    return public_key


@lru_cache(REMEMBERED)
def _read(der: bytes) -> tuple[PublicKey, datetime, datetime]:
    """The identity that a certificate proves, and from when till when. Raises HandshakeError.

    A host makes its certificate once, so peers that meet again show the same. What is remembered is the outcome for
    just these bytes; failures are not.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        signed_key = _find_signed_key(certificate)
        _check_self_signature(certificate)
        identity, signature = _decode_signed_key(signed_key)
        public_key = PublicKey.decode(identity)
        public_key.verify(SIGNATURE_PREFIX + _spki(certificate.public_key()), signature)
        return public_key, certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (InvalidKey, InvalidSignature) as fault:
        raise HandshakeError(f"the certificate proves no identity: {fault}") from None
    except _MALFORMED as fault:
        raise HandshakeError(f"a malformed certificate: {fault}") from None


def _find_signed_key(certificate: x509.Certificate) -> bytes:
    """The value of the libp2p extension; no other may be critical, but for what a self-signed leaf can ignore."""
    found = None
    for extension in certificate.extensions:
        if extension.oid == EXTENSION:
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            found = extension.value.value
        elif extension.critical and not _is_harmless(extension.value):
            raise HandshakeError(f"a certificate with an unknown critical extension {extension.oid.dotted_string}")
    if found is None:
        raise HandshakeError("a certificate without the libp2p extension")
    return found


def _is_harmless(value: x509.ExtensionType) -> bool:
    """Whether it is understood and allows what the certificate is used for."""
    return isinstance(value, x509.BasicConstraints) or (isinstance(value, x509.KeyUsage) and value.digital_signature)


def _check_self_signature(certificate: x509.Certificate) -> None:
    """The size of a key is checked before it verifies anything (CVE-2023-39533)."""
    public, signature, signed = certificate.public_key(), certificate.signature, certificate.tbs_certificate_bytes
    algorithm = certificate.signature_hash_algorithm
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, signed)
            return
        if not isinstance(algorithm, _HASHES):
            raise HandshakeError("a certificate signed over another hash than SHA-256, -384 or -512")
        parameters = certificate.signature_algorithm_parameters
        if isinstance(public, ec.EllipticCurvePublicKey):
            if isinstance(public.curve, _CURVES) and isinstance(parameters, ec.ECDSA):
                public.verify(signature, signed, parameters)
                return
        elif isinstance(public, rsa.RSAPublicKey):
            sized = _MIN_RSA <= public.key_size <= _MAX_RSA
            if sized and isinstance(parameters, (padding.PKCS1v15, padding.PSS)):
                public.verify(signature, signed, parameters, algorithm)
                return
    except _Invalid:
        raise HandshakeError("a certificate whose self-signature does not verify") from None
    raise HandshakeError("a certificate with a key of a kind or size we refuse")


def _spki(public: object) -> bytes:
    """The SubjectPublicKeyInfo that the identity signs."""
    assert isinstance(public, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, rsa.RSAPublicKey))
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# --- SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }, in DER ------------------------------

_SEQUENCE, _OCTET_STRING = 0x30, 0x04


def _encode_signed_key(identity: bytes, signature: bytes) -> bytes:
    return _tlv(_SEQUENCE, _tlv(_OCTET_STRING, identity) + _tlv(_OCTET_STRING, signature))


def _decode_signed_key(data: bytes) -> tuple[bytes, bytes]:
    body, rest = _cut(data, _SEQUENCE)
    identity, body = _cut(body, _OCTET_STRING)
    signature, body = _cut(body, _OCTET_STRING)
    if rest or body:
        raise HandshakeError("a libp2p extension with bytes behind its end")
    return identity, signature


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def _cut(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The value of the first element, and what is behind it."""
    if len(data) >= 2 and data[0] == tag:
        start, size = 2, data[1]
        if 0x80 < size <= 0x82:  # no more than two bytes of length: the whole certificate is smaller
            start += size - 0x80
            size = int.from_bytes(data[2:start], "big")
        end = start + size
        value = data[start:end]
        if _tlv(tag, value) == data[:end]:  # whole, and the shortest form of its length: DER allows no other
            return value, data[end:]
    raise HandshakeError("a libp2p extension that is no DER of a key and a signature")
