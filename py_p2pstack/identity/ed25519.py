"""Ed25519: 32-byte public keys; private keys are seed ‖ public key, 64 bytes."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature as _Invalid
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from py_p2pstack.errors import InvalidKey, InvalidSignature


def generate() -> Ed25519PrivateKey:
    """Make a fresh private key."""
    return Ed25519PrivateKey.generate()


def from_seed(seed: bytes) -> Ed25519PrivateKey:
    """Make the private key of a 32-byte seed (RFC 8032 §5.1.5)."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def load_private(raw: bytes) -> Ed25519PrivateKey:
    """Read seed ‖ public key (64 bytes), or that with the public key once more (96 bytes, an old form)."""
    if len(raw) not in (64, 96):
        raise InvalidKey(f"an Ed25519 private key has 64 bytes, not {len(raw)}")
    private = from_seed(raw[:32])
    public = private.public_key().public_bytes_raw()
    if any(raw[start : start + 32] != public for start in range(32, len(raw), 32)):
        raise InvalidKey("the public half of the Ed25519 private key is not its own")
    return private


def load_public(raw: bytes) -> Ed25519PublicKey:
    """Read 32 bytes."""
    if len(raw) != 32:
        raise InvalidKey(f"an Ed25519 public key has 32 bytes, not {len(raw)}")
    return Ed25519PublicKey.from_public_bytes(raw)


def private_raw(private: Ed25519PrivateKey) -> bytes:
    """Seed ‖ public key."""
    return private.private_bytes_raw() + private.public_key().public_bytes_raw()


def public_raw(private: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public half."""
    return private.public_key().public_bytes_raw()


def sign(private: Ed25519PrivateKey, data: bytes) -> bytes:
    """Sign; 64 bytes."""
    return private.sign(data)


def verify(public: Ed25519PublicKey, data: bytes, signature: bytes) -> None:
    """Check a signature."""
    try:
        public.verify(signature, data)
    except _Invalid:
        raise InvalidSignature("the Ed25519 signature does not verify") from None
