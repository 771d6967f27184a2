"""Identify messages ↔ values, bounded on both sides.

A peer may spread one message over several parts, which are merged as protobuf merges: lists grow, single fields are
replaced. We send everything rust-libp2p needs in the first part, because it reads only that, 4 KiB of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from py_p2pstack.addresses import Multiaddr, parse_bytes
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import InvalidAddress, RecordError, RemoteProtocolError
from py_p2pstack.identity import Envelope

MAX_SENT_PART = 4096  # rust-libp2p reads one part of 4 KiB and no more
MAX_RECEIVED_PART = 8192  # go-libp2p: signedIDSize
MAX_PARTS = 10  # go-libp2p: maxMessages
MAX_PROTOCOLS = 1024  # go-libp2p: maxPeerProtocols
MAX_ADDRESSES = 500  # go-libp2p: connectedPeerMaxAddrs
MAX_VERSION = 256  # characters of an agent or protocol version we keep


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyMessage:
    """What one peer tells of itself; absent fields are empty or None."""

    public_key: bytes = b""
    """The peer's public key in its protobuf form."""
    listen_addresses: tuple[Multiaddr, ...] = ()
    protocols: tuple[ProtocolId, ...] = ()
    observed_address: Multiaddr | None = None
    """The address the sender sees the receiver at."""
    protocol_version: str = ""
    agent_version: str = ""
    signed_peer_record: Envelope | None = None


def decode(parts: Iterable[bytes]) -> IdentifyMessage:
    """Merge and read the parts of one message. Addresses, records and texts that are malformed are left out.

    Raises RemoteProtocolError for what is no protobuf.
    """
    from google.protobuf.message import DecodeError

    from py_p2pstack.wire.pb.identify_pb2 import Identify

    message = Identify()
    try:
        for part in parts:
            message.MergeFromString(part)
    except DecodeError as fault:
        raise RemoteProtocolError(f"malformed identify message: {fault}") from None
    envelope = None
    if message.signedPeerRecord:
        try:
            envelope = Envelope.decode(message.signedPeerRecord)
        except RecordError:
            pass  # as go does: a broken record loses the record, not the rest
    observed = decode_addresses([message.observedAddr]) if message.observedAddr else ()
    return IdentifyMessage(
        public_key=message.publicKey,
        listen_addresses=decode_addresses(message.listenAddrs[:MAX_ADDRESSES]),
        protocols=tuple(dict.fromkeys(filter(None, map(_text, message.protocols[:MAX_PROTOCOLS])))),
        observed_address=observed[0] if observed else None,
        protocol_version=_text(message.protocolVersion)[:MAX_VERSION],
        agent_version=_text(message.agentVersion)[:MAX_VERSION],
        signed_peer_record=envelope,
    )


def _text(value: object) -> str:
    """Text as it is; "" for what protobuf hands out as bytes because it is no UTF-8."""
    return value if isinstance(value, str) else ""


def decode_addresses(encoded: Sequence[bytes]) -> tuple[Multiaddr, ...]:
    """Read binary multiaddrs, leaving out malformed and repeated ones."""
    addresses = []
    for data in encoded:
        try:
            addresses.append(parse_bytes(data))
        except InvalidAddress:
            continue
    return tuple(dict.fromkeys(addresses))


def encode(message: IdentifyMessage) -> list[bytes]:
    """Return the message in parts of at most MAX_SENT_PART bytes, the most needed fields first.

    Protocols come before addresses and addresses before the signed record. What a single part cannot hold at all (a
    record above 4 KiB) is left out; so is what would need more than MAX_PARTS parts.
    """
    from py_p2pstack.wire.pb.identify_pb2 import Identify

    head = Identify(
        publicKey=message.public_key,
        protocolVersion=message.protocol_version,
        agentVersion=message.agent_version,
    )
    if message.observed_address is not None:
        head.observedAddr = message.observed_address.to_bytes()
    fields = [Identify(protocols=[protocol]) for protocol in message.protocols]
    fields += [Identify(listenAddrs=[address.to_bytes()]) for address in message.listen_addresses]
    if message.signed_peer_record is not None:
        fields.append(Identify(signedPeerRecord=message.signed_peer_record.encode()))
    parts = [bytearray(head.SerializeToString())]
    for field in fields:
        data = field.SerializeToString()
        if len(parts[-1]) + len(data) > MAX_SENT_PART:
            if len(data) > MAX_SENT_PART:
                continue
            if len(parts) == MAX_PARTS:
                break
            parts.append(bytearray())
        parts[-1] += data  # protobuf messages concatenate to their merge
    return [bytes(part) for part in parts]
