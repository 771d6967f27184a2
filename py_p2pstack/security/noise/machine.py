"""The libp2p noise handshake as a machine: three framed messages, both identities proved, a muxer agreed on.

    initiator                              responder
    ─ e ──────────────────────────────────────────▶   no payload
    ◀──────────────── e, ee, s, es, payload ────────   identity of the responder, its muxers
    ─ s, se, payload ─────────────────────────────▶   identity of the initiator, its muxers

Each side sees the other's payload encrypted to it, so both know the whole before the first application byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from py_p2pstack.core.security import Secured
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import HandshakeError, LocalProtocolError, PeerIdMismatch
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.security.noise import codec
from py_p2pstack.security.noise.records import LENGTH_SIZE, NoiseRecords
from py_p2pstack.security.noise.state import KEY_SIZE, TAG_SIZE, HandshakeState

PROTOCOL: ProtocolId = "/noise"
_MAX_MESSAGE = 2 * KEY_SIZE + 2 * TAG_SIZE + codec.MAX_PAYLOAD


class NoiseHandshake:
    """One run; implements `core.security.Handshake`. Its outcome, or its first error, ends it."""

    __slots__ = ("_buffer", "_expected", "_initiator", "_muxers", "_out", "_over", "_payload", "_remote", "_state")

    def __init__(
        self,
        state: HandshakeState,
        *,
        initiator: bool,
        payload: bytes,
        expected: PeerId | None,
        muxers: Sequence[ProtocolId],
    ) -> None:
        self._state = state
        self._initiator = initiator
        self._payload = payload
        self._expected = expected
        self._muxers = tuple(muxers)
        self._buffer = b""
        self._remote: codec.Payload | None = None
        self._out = _frame(state.write(b"")) if initiator else b""
        self._over = False

    def bytes_to_send(self) -> bytes:
        """Take what is to be sent now."""
        out, self._out = self._out, b""
        return out

    def receive_data(self, data: bytes) -> Secured | None:
        """Take in bytes from the peer; returns the outcome once. Raises HandshakeError, PeerIdMismatch.

        A second outcome would mean a second channel with the same keys and nonces: LocalProtocolError instead.
        """
        if self._over:
            raise LocalProtocolError("the noise handshake is over")
        try:
            secured = self._receive(data)
        except HandshakeError:
            self._over = True
            raise
        self._over = secured is not None
        return secured

    def _receive(self, data: bytes) -> Secured | None:
        self._buffer += data
        while not self._state.done:
            message = self._next_message()
            if message is None:
                return None
            self._take(message)
        unread, self._buffer = self._buffer, b""
        assert self._remote is not None
        return Secured(
            remote_peer=self._remote.public_key.peer_id(),
            remote_public_key=self._remote.public_key,
            records=NoiseRecords(*self._state.split()),
            muxer=self._common_muxer(self._remote.muxers),
            unread=unread,
        )

    def _next_message(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < LENGTH_SIZE:
            return None
        end = LENGTH_SIZE + int.from_bytes(buffer[:LENGTH_SIZE], "big")
        if end > LENGTH_SIZE + _MAX_MESSAGE:
            raise HandshakeError(f"a noise handshake message of {end - LENGTH_SIZE} bytes; the limit is {_MAX_MESSAGE}")
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        return buffer[LENGTH_SIZE:end]

    def _take(self, message: bytes) -> None:
        """Read one message of the peer; write ours if it is our turn then."""
        payload = self._state.read(message)
        if self._initiator or self._state.done:  # messages two and three carry the sender's identity
            remote = codec.decode(payload, self._state.remote_static)
            peer = remote.public_key.peer_id()
            if self._expected is not None and peer != self._expected:
                raise PeerIdMismatch(self._expected, peer)
            self._remote = remote
        if not self._state.done:
            self._out += _frame(self._state.write(self._payload))

    def _common_muxer(self, theirs: Sequence[ProtocolId]) -> ProtocolId | None:
        """The initiator's first muxer that both have."""
        ranked, other = (self._muxers, theirs) if self._initiator else (theirs, self._muxers)
        return next((muxer for muxer in ranked if muxer in other), None)


class NoiseTransport:
    """Noise bound to an identity; implements `core.security.SecurityTransport`.

    The static key is made once, so its signature, the costliest step but one, is too, and the payload with it.
    """

    protocol: ProtocolId = PROTOCOL

    def __init__(
        self,
        private_key: PrivateKey,
        *,
        generate: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate,
    ) -> None:
        """`generate` makes the static and ephemeral keys."""
        self._generate = generate
        self._static = generate()
        signature = codec.sign_static(private_key, self._static.public_key().public_bytes_raw())
        self._payload = lru_cache(maxsize=4)(partial(codec.encode, private_key.public_key, signature))

    def handshake(self, *, initiator: bool, peer: PeerId | None, muxers: Sequence[ProtocolId]) -> NoiseHandshake:
        """Begin a handshake; see `SecurityTransport.handshake`."""
        return NoiseHandshake(
            HandshakeState(initiator=initiator, static=self._static, ephemeral=self._generate()),
            initiator=initiator,
            payload=self._payload(tuple(muxers)),
            expected=peer,
            muxers=muxers,
        )


def _frame(message: bytes) -> bytes:
    return len(message).to_bytes(LENGTH_SIZE, "big") + message
