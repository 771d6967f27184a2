"""What QUIC has to know of our identity, and how it judges others'; node.py brings it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from py_p2pstack.identity import PeerId, PublicKey


class VerifyChain(Protocol):
    """Who sent a chain of DER certificates, if it proves `expected` (None: anyone). Raises HandshakeError."""

    def __call__(self, chain: Sequence[bytes], *, expected: PeerId | None) -> PublicKey: ...


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QuicIdentity:
    """Our certificate with its key, and the judge of others'."""

    peer: PeerId
    certificate: bytes
    """DER, with the libp2p extension."""
    key: bytes
    """Its private key, PKCS #8 in DER."""
    verify: VerifyChain
    reset_key: bytes
    """A secret that outlives a restart: who knows it can end our connections (RFC 9000 §10.3)."""


MakeIdentity = Callable[[], QuicIdentity]
"""Called at the first need: a certificate takes a signature, and its module OpenSSL's bindings."""
