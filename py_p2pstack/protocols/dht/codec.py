"""DHT messages ↔ values, bounded before anything is walked.

What we send fits the 16 KiB that rust-libp2p reads. What we read may be larger, but a large message made of many tiny
elements costs far more memory parsed than as bytes (CVE-2026-86040), so the elements of large ones are counted first.
Source: libp2p/specs kad-dht, "RPC messages".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from itertools import islice

from google.protobuf.message import DecodeError

from py_p2pstack.addresses import Multiaddr, PeerInfo, parse_bytes
from py_p2pstack.errors import InvalidAddress, InvalidPeerId, RemoteProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.wire import varint
from py_p2pstack.wire.pb.dht_pb2 import Message as PbMessage
from py_p2pstack.wire.pb.dht_pb2 import Record as PbRecord

MAX_SENT = 16 * 1024  # rust-libp2p: DEFAULT_PACKET_SIZE
ROOM_BESIDE = 4 * 1024  # for peers, in a message that rust-libp2p does not read anyway
PROVIDER_ROOM = 512  # for one provider, as long as there is any: the fair share of hundreds would hold no address
MAX_KEY = 1024
MAX_ADDRESSES = 64  # of one peer that we look at (go-libp2p's peerstore keeps as many)
CACHED_SIZE = 256  # bytes of a peer; larger ones are read anew each time, so what is remembered stays below 16 MB
MAX_ELEMENTS = 8192  # fields in a message above MAX_SENT, which by its size alone cannot hold more than as many
_PEER_FIELDS = (8, 9)


class MessageType(IntEnum):
    """What is asked, and what is answered."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


class ConnectionType(IntEnum):
    """What the sender knows about reaching a peer."""

    NOT_CONNECTED = 0
    CONNECTED = 1
    CAN_CONNECT = 2
    CANNOT_CONNECT = 3


@dataclass(frozen=True, slots=True)
class KadPeer:
    """A peer as told in a message."""

    info: PeerInfo
    connection: ConnectionType = ConnectionType.NOT_CONNECTED
    _framed: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)
    """Its bytes behind their length, once it was sent whole: a server tells of the same peers over and over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A value under its key."""

    key: bytes
    value: bytes
    time_received: str = ""
    """When the sender got it, RFC 3339; "" if it does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request or an answer; absent fields are empty or None."""

    type: MessageType
    key: bytes = b""
    record: Record | None = None
    closer_peers: tuple[KadPeer, ...] = ()
    provider_peers: tuple[KadPeer, ...] = ()
    cluster_level: int = 0
    """Coral's clusters, used by nobody; answers echo it."""


def encode(message: Message) -> bytes:
    """Return the bytes of a message, at most MAX_SENT if its record leaves room for that.

    Peers that have many addresses lose the last of them first; peers that still find no room are left out from the end.
    Beside providers, the closer peers (by which lookups go on) take at most half of the room, the providers the rest.
    Beside a record that is too large in itself they get ROOM_BESIDE: a lookup must go on where large values are kept.
    """
    kind = PbMessage.MessageType.ValueType(message.type)
    head = PbMessage(type=kind, key=message.key, clusterLevelRaw=message.cluster_level)
    if message.record is not None:
        record = message.record
        head.record.CopyFrom(PbRecord(key=record.key, value=record.value, timeReceived=record.time_received))
    parts = [head.SerializeToString()]
    left = MAX_SENT - len(parts[0]) if len(parts[0]) <= MAX_SENT else ROOM_BESIDE
    closer_room = left // 2 if message.provider_peers else left
    left -= closer_room - _encode_peers(parts, b"\x42", message.closer_peers, closer_room, 0)
    _encode_peers(parts, b"\x4a", message.provider_peers, left, PROVIDER_ROOM)
    return b"".join(parts)


def _encode_peers(parts: list[bytes], tag: bytes, peers: Sequence[KadPeer], room: int, least: int) -> int:
    """Append peers, each in an equal share of the room, or in `least` while there is that; returns the room left."""
    known = [peer._framed[0] for peer in peers if peer._framed]
    if known and len(known) == len(peers) and max(map(len, known)) < room // len(peers):
        parts += (tag, tag.join(known))
        return room - sum(map(len, known)) - len(known)
    for index, peer in enumerate(peers):
        share = max(room // (len(peers) - index), min(least, room))
        framed = _encode_peer(peer, share - 4)  # 4: the tag and the length
        if framed:
            parts += (tag, framed)  # protobuf messages concatenate to their merge
            room -= 1 + len(framed)
    return room


def _encode_peer(peer: KadPeer, limit: int) -> bytes:
    """One Peer in at most `limit` bytes, behind its length; b"" if it has addresses and none fits."""
    peer_id = peer.info.peer_id.to_bytes()
    out = bytearray((0x0A, len(peer_id)))
    out += peer_id
    if peer.connection:
        out += bytes((0x18, peer.connection))
    bare = len(out)
    whole = True
    for address in peer.info.addresses:
        data = address.to_bytes()
        piece = b"\x12" + varint.encode(len(data)) + data
        whole = len(out) + len(piece) <= limit
        if not whole:
            break
        out += piece
    if bare > limit or (len(out) == bare and peer.info.addresses):
        return b""
    framed = varint.encode(len(out)) + out
    if whole:
        peer._framed[:] = [framed]
    return framed


def decode(data: bytes, *, max_peers: int, max_providers: int | None = None) -> Message:
    """Read a message; of the closer peers the first `max_peers` are considered, and (by default) of the providers.

    Peers without a valid id, and addresses that are malformed or lead to another peer, are left out.

    Raises:
        RemoteProtocolError: no protobuf, an unknown type, a key above MAX_KEY, more than MAX_ELEMENTS elements.
    """
    if len(data) > MAX_SENT:
        _count_elements(data)
    try:
        message = PbMessage.FromString(data)
        kind = MessageType(message.type)
    except DecodeError as fault:
        raise RemoteProtocolError(f"malformed DHT message: {fault}") from None
    except ValueError:
        raise RemoteProtocolError(f"unknown DHT message type {message.type}") from None
    if len(message.key) > MAX_KEY:
        raise RemoteProtocolError(f"a key of {len(message.key)} bytes; the limit is {MAX_KEY}")
    record = None
    if message.HasField("record"):
        pb = message.record
        record = Record(key=pb.key, value=pb.value, time_received=pb.timeReceived)
    return Message(
        type=kind,
        key=message.key,
        record=record,
        closer_peers=_decode_peers(message.closerPeers, max_peers),
        provider_peers=_decode_peers(message.providerPeers, max_peers if max_providers is None else max_providers),
        cluster_level=message.clusterLevelRaw,
    )


def _decode_peers(peers: Sequence[PbMessage.Peer], limit: int) -> tuple[KadPeer, ...]:
    decoded = []
    for peer in islice(peers, limit):
        data = peer.SerializeToString()  # of all its fields the cheapest to compare
        known = _decode_known(data) if len(data) <= CACHED_SIZE else _decode_peer(peer)
        if known is not None:
            decoded.append(known)
    return tuple(decoded)


# The answers of one lookup tell of the same peers over and over; reading one anew costs 7 µs, remembering it 1 µs.
@lru_cache(maxsize=4096)
def _decode_known(data: bytes) -> KadPeer | None:
    return _decode_peer(PbMessage.Peer.FromString(data))


def _decode_peer(peer: PbMessage.Peer) -> KadPeer | None:
    try:
        known = PeerId(peer.id)
    except InvalidPeerId:
        return None
    kind = ConnectionType(peer.connection) if 0 <= peer.connection <= 3 else ConnectionType.NOT_CONNECTED
    addresses = _decode_addresses(peer.addrs[:MAX_ADDRESSES], known)
    return KadPeer(PeerInfo(known, tuple(dict.fromkeys(addresses))), kind)


def _decode_addresses(encoded: Sequence[bytes], peer_id: PeerId) -> list[Multiaddr]:
    addresses = []
    for data in encoded:
        try:
            address = parse_bytes(data)
        except InvalidAddress:
            continue
        named = address.peer_id()
        if named is not None:
            if named != peer_id:
                continue
            address = address.without_peer()
            if not len(address):
                continue
        addresses.append(address)
    return addresses


def _count_elements(data: bytes) -> None:
    """Count the fields of a message and of its peers; raises RemoteProtocolError above MAX_ELEMENTS, or for nonsense.

    Stops at the bound: the work does not grow with the message.
    """
    count = 0
    pending = [(0, len(data), True)]
    while pending:
        offset, end, top = pending.pop()
        while offset < end:
            count += 1
            if count > MAX_ELEMENTS:
                raise RemoteProtocolError(f"a DHT message of more than {MAX_ELEMENTS} elements")
            tag, offset = _varint(data, offset)
            wire_type = tag & 7
            if wire_type == 0:
                _, offset = _varint(data, offset)
            elif wire_type == 2:
                size, offset = _varint(data, offset)
                if top and tag >> 3 in _PEER_FIELDS:
                    pending.append((offset, min(offset + size, end), False))
                offset += size
            elif wire_type in (1, 5):
                offset += 8 if wire_type == 1 else 4
            else:
                raise RemoteProtocolError("malformed DHT message: a group")
        if offset > end:
            raise RemoteProtocolError("malformed DHT message: truncated")


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """A protobuf varint: up to ten bytes, not necessarily minimal."""
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            break
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
    raise RemoteProtocolError("malformed DHT message: a truncated or endless varint")
