"""The payload of the noise handshake, and the signature in it.

Protobuf, 3 MiB, is loaded with the first handshake: a host that meets nobody needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import HandshakeError, InvalidKey, InvalidSignature
from py_p2pstack.identity import PrivateKey, PublicKey

SIGNATURE_PREFIX = b"noise-libp2p-static-key:"
MAX_PAYLOAD = 4096  # ours: an 8192-bit RSA key with its signature has 2.2 kB
MAX_MUXERS = 32  # ours: names of muxers we look at
REMEMBERED = 1024  # proofs of peers met before: as many as a busy node meets again, below 1 MB for keys of usual size


@dataclass(frozen=True, slots=True)
class Payload:
    """Who the sender is, proved, and which muxers it offers."""

    public_key: PublicKey
    muxers: tuple[ProtocolId, ...]


def sign_static(private_key: PrivateKey, static: bytes) -> bytes:
    """Bind a noise static key to an identity."""
    return private_key.sign(SIGNATURE_PREFIX + static)


def encode(public_key: PublicKey, signature: bytes, muxers: Sequence[ProtocolId]) -> bytes:
    """The payload in bytes."""
    from py_p2pstack.wire.pb.noise_pb2 import NoiseExtensions, NoiseHandshakePayload

    message = NoiseHandshakePayload(identity_key=public_key.encode(), identity_sig=signature)
    if muxers:
        message.extensions.CopyFrom(NoiseExtensions(stream_muxers=muxers))
    return message.SerializeToString(deterministic=True)


@lru_cache(REMEMBERED)
def decode(data: bytes, static: bytes) -> Payload:
    """Read a payload and verify that its identity signed `static`. Raises HandshakeError.

    A host signs its static key once, so peers that meet again show the same proof. What is remembered is the outcome
    for just these bytes; that the remote holds `static` is proved by each handshake anew. Failures are not remembered.
    """
    from google.protobuf.message import DecodeError

    from py_p2pstack.wire.pb.noise_pb2 import NoiseHandshakePayload

    if len(data) > MAX_PAYLOAD:
        raise HandshakeError(f"a noise payload of {len(data)} bytes; the limit is {MAX_PAYLOAD}")
    message = NoiseHandshakePayload()
    try:
        message.ParseFromString(data)
        key = PublicKey.decode(message.identity_key)
        key.verify(SIGNATURE_PREFIX + static, message.identity_sig)
    except DecodeError:
        raise HandshakeError("the noise payload is no protobuf") from None
    except (InvalidKey, InvalidSignature) as fault:
        raise HandshakeError(f"the noise payload proves no identity: {fault}") from None
    names = message.extensions.stream_muxers[:MAX_MUXERS]
    return Payload(key, tuple(name for name in names if isinstance(name, str)))  # bytes: it was no UTF-8
