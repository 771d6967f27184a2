"""The handshake state of Noise_XX_25519_ChaChaPoly_SHA256: the framework's CipherState, SymmetricState, HandshakeState.

Only what XX needs: -> e; <- e, ee, s, es; -> s, se. Nothing here knows of libp2p; the published vectors run against it.
"""

from __future__ import annotations

import struct
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from py_p2pstack.errors import HandshakeError, LocalProtocolError

NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"  # 32 bytes: it is its own first hash
KEY_SIZE = 32
TAG_SIZE = 16
_nonce = struct.Struct("<4xQ").pack
_SHA256 = SHA256()

# What each message carries, and in which order (Noise §7.5, XX).
PATTERN = (("e",), ("e", "ee", "s", "es"), ("s", "se"))


class HandshakeState:
    """One run of XX. `write` and `read` take turns, the initiator writing first; then `split`.

    After any error the state is of no further use.
    """

    __slots__ = ("_cipher", "_ck", "_e", "_h", "_initiator", "_n", "_re", "_rs", "_s", "_turn")

    def __init__(
        self,
        *,
        initiator: bool,
        static: X25519PrivateKey,
        ephemeral: X25519PrivateKey | None = None,
        prologue: bytes = b"",
    ) -> None:
        """Begin. `ephemeral` is for test vectors; a fresh one is made otherwise."""
        self._initiator = initiator
        self._s = static
        self._e = ephemeral or X25519PrivateKey.generate()
        self._re: X25519PublicKey | None = None
        self._rs: X25519PublicKey | None = None
        self._ck = NAME
        self._h = sha256(NAME + prologue).digest()
        self._cipher: ChaCha20Poly1305 | None = None
        self._n = 0
        self._turn = 0

    @property
    def done(self) -> bool:
        """Whether all three messages went by."""
        return self._turn == len(PATTERN)

    @property
    def hash(self) -> bytes:
        """The handshake hash: the same on both sides, unique to this run."""
        return self._h

    @property
    def remote_static(self) -> bytes:
        """The peer's static public key, once received."""
        if self._rs is None:
            raise LocalProtocolError("the peer's static key has not come yet")
        return self._rs.public_bytes_raw()

    def write(self, payload: bytes) -> bytes:
        """Make our next message, with `payload` in it (encrypted from the second message on)."""
        self._check_turn(writing=True)
        out = b""
        for step in PATTERN[self._turn]:
            if step == "e":
                public = self._e.public_key().public_bytes_raw()
                self._mix_hash(public)
                out += public
            elif step == "s":
                out += self._encrypt_and_hash(self._s.public_key().public_bytes_raw())
            else:
                self._mix_key(step)
        out += self._encrypt_and_hash(payload)
        self._turn += 1
        return out

    def read(self, message: bytes) -> bytes:
        """Take in the peer's next message; returns its payload. Raises HandshakeError."""
        self._check_turn(writing=False)
        offset = 0
        for step in PATTERN[self._turn]:
            if step == "e":
                public = message[offset : offset + KEY_SIZE]
                offset += KEY_SIZE
                if len(public) < KEY_SIZE:
                    raise HandshakeError("a noise message too short for its ephemeral key")
                self._re = X25519PublicKey.from_public_bytes(public)
                self._mix_hash(public)
            elif step == "s":
                size = KEY_SIZE + TAG_SIZE
                sealed = message[offset : offset + size]
                offset += size
                if len(sealed) < size:
                    raise HandshakeError("a noise message too short for its static key")
                self._rs = X25519PublicKey.from_public_bytes(self._decrypt_and_hash(sealed))
            else:
                self._mix_key(step)
        payload = self._decrypt_and_hash(message[offset:])
        self._turn += 1
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """The two transport keys: ours to send with, ours to receive with."""
        if not self.done:
            raise LocalProtocolError("the noise handshake is not done")
        first, second = _hkdf(self._ck, b"")
        return (first, second) if self._initiator else (second, first)

    def _check_turn(self, *, writing: bool) -> None:
        ours = (self._turn % 2 == 0) == self._initiator
        if self.done or writing != ours:
            raise LocalProtocolError("a noise message out of turn")

    def _mix_hash(self, data: bytes) -> None:
        self._h = sha256(self._h + data).digest()

    def _mix_key(self, step: str) -> None:
        """The Diffie-Hellman of a step: its first letter names the initiator's key, its second the responder's."""
        ours, theirs = (step[0], step[1]) if self._initiator else (step[1], step[0])
        private = self._e if ours == "e" else self._s
        public = self._re if theirs == "e" else self._rs
        assert public is not None
        try:
            shared = private.exchange(public)
        except ValueError:  # an all-zero result: the peer sent a point of low order
            raise HandshakeError("the peer's noise key is a point of low order") from None
        self._ck, key = _hkdf(self._ck, shared)
        self._cipher = ChaCha20Poly1305(key)
        self._n = 0

    def _encrypt_and_hash(self, plaintext: bytes) -> bytes:
        if self._cipher is None:
            self._mix_hash(plaintext)
            return plaintext
        sealed = self._cipher.encrypt(_nonce(self._n), plaintext, self._h)
        self._n += 1
        self._mix_hash(sealed)
        return sealed

    def _decrypt_and_hash(self, sealed: bytes) -> bytes:
        if self._cipher is None:
            self._mix_hash(sealed)
            return sealed
        try:
            plaintext = self._cipher.decrypt(_nonce(self._n), sealed, self._h)
        except InvalidTag:
            raise HandshakeError("a noise message that does not authenticate") from None
        self._n += 1
        self._mix_hash(sealed)
        return plaintext


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (Noise §4.3): RFC 5869's with the chaining key as its salt."""
    output = HKDF(algorithm=_SHA256, length=64, salt=chaining_key, info=b"").derive(material)
    return output[:32], output[32:]
