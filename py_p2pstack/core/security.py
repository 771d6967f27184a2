"""Secure channels, sans-IO: a handshake machine that ends in a record layer.

Every security protocol is pure: bytes in, bytes out. The upgrader moves the bytes, so noise and TLS share one driver,
and a handshake can be tested, truncated, replayed and fuzzed without a socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from py_p2pstack.core.types import Buffer, ProtocolId
from py_p2pstack.identity import PeerId, PublicKey


class RecordLayer(Protocol):
    """The transport phase of a secure channel: it seals plaintext into records and opens them, in order."""

    max_plaintext: int
    """The most plaintext bytes one record carries."""

    overhead: int
    """The most bytes a record adds to its plaintext."""

    def seal_into(self, plaintext: Buffer, out: memoryview) -> int:
        """Seal at most `max_plaintext` bytes as one record at the start of `out`; returns the record's size."""
        ...

    def open_record(self, data: memoryview, start: int) -> tuple[Buffer, int]:
        """Open the record at `start` of `data`: its plaintext, maybe none, and where the next one begins.

        That is `start` itself while the record is not whole: offer it again with more behind it. The plaintext may
        stand in a buffer that all channels of a thread share: use it before the next record, and before any await.
        Raises DecryptError; the channel is dead from then on. Its counters do not move for a record that fails.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """What a finished handshake proved and agreed on."""

    remote_peer: PeerId
    remote_public_key: PublicKey
    records: RecordLayer
    muxer: ProtocolId | None
    """The muxer agreed on inside the handshake; None: negotiate it with multistream-select."""
    unread: bytes
    """Bytes that came behind the handshake; the first input of `records`."""


class Handshake(Protocol):
    """One run of a security handshake."""

    def bytes_to_send(self) -> bytes:
        """Take what is to be sent now (b"" if nothing)."""
        ...

    def receive_data(self, data: bytes) -> Secured | None:
        """Take in bytes from the peer; returns the outcome once, when both sides are done.

        `bytes_to_send` may hold a last message at that time: send it first. Raises HandshakeError (PeerIdMismatch
        included); the machine is dead from then on.
        """
        ...


class SecurityTransport(Protocol):
    """A security protocol, bound to our identity key."""

    protocol: ProtocolId

    def handshake(self, *, initiator: bool, peer: PeerId | None, muxers: Sequence[ProtocolId]) -> Handshake:
        """Begin. `peer`: the identity the remote must prove; `muxers`: ours, in order of preference."""
        ...
