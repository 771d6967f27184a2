"""TLS 1.3 records by hand, from a secret in a key log: what no library sends unasked (RFC 8446 §4.6.3, §7)."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, APPLICATION_DATA = 22, 23


class Traffic:
    """One direction of a connection under AES-GCM, from its first record of application traffic on."""

    def __init__(self, key_log: str, label: str = "CLIENT_TRAFFIC_SECRET_0") -> None:
        [line] = (line for line in key_log.splitlines() if line.startswith(f"{label} "))
        self._use(bytes.fromhex(line.split()[2]))

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._derive(b"key", 16 if len(secret) == 32 else 32))
        self._iv = int.from_bytes(self._derive(b"iv", 12), "big")
        self._count = 0

    def _derive(self, label: bytes, length: int) -> bytes:
        info = struct.pack("!HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
        return HKDFExpand(SHA256() if len(self._secret) == 32 else SHA384(), length, info).derive(self._secret)

    def record(self, kind: int, content: bytes) -> bytes:
        """The next record."""
        header = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(content) + 17)
        nonce = (self._iv ^ self._count).to_bytes(12, "big")
        self._count += 1
        return header + self._key.encrypt(nonce, content + bytes([kind]), header)

    def key_update(self, *, wanted: bool) -> bytes:
        """A new key from now on; `wanted`: of the other side too."""
        record = self.record(HANDSHAKE, bytes([24, 0, 0, 1, wanted]))
        self._use(self._derive(b"traffic upd", len(self._secret)))
        return record
