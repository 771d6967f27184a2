"""What is fuzzed: everything that reads bytes of strangers, each with valid inputs and what it may refuse with."""

from __future__ import annotations

import random
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode

from py_p2pstack.addresses import Multiaddr, PeerInfo, parse_bytes
from py_p2pstack.errors import (
    HandshakeError,
    InvalidAddress,
    InvalidKey,
    InvalidPeerId,
    InvalidRecord,
    InvalidSignature,
    ProtocolError,
    RecordError,
    SecurityError,
)
from py_p2pstack.identity import Envelope, KeyType, PeerId, PeerRecord, PrivateKey, PublicKey
from py_p2pstack.identity.peer_record import DOMAIN, PAYLOAD_TYPE
from py_p2pstack.muxers.machine import Event
from py_p2pstack.muxers.yamux.config import YamuxConfig
from py_p2pstack.muxers.yamux.machine import YamuxMachine
from py_p2pstack.protocols.dht import codec as dht
from py_p2pstack.protocols.dht.key_text import key_from_text, key_to_text
from py_p2pstack.protocols.dht.records.ipns import IpnsRecord
from py_p2pstack.protocols.dht.records.owned import OwnedRecord
from py_p2pstack.protocols.identify import codec
from py_p2pstack.protocols.identify.codec import IdentifyMessage
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.noise.machine import NoiseHandshake
from py_p2pstack.security.noise.records import NoiseRecords
from py_p2pstack.testing.contracts.security_case import open_records
from py_p2pstack.transports.websocket.codec import FrameReader
from py_p2pstack.transports.websocket.machine import ClientOpening, Opening, ServerOpening, require
from py_p2pstack.upgrade.multistream import LazyReply, Proposer, Responder, lazy_proposal
from py_p2pstack.wire.framing import FrameDecoder
from tests.hostile.mallory import ACK, FIN, GO_AWAY, PING, RST, SYN, WINDOW, data, frame, opening
from tests.soak.fuzz import Target, pieces


def _proposer(data: bytes, rng: random.Random) -> None:
    machine = Proposer(["/a/1.0.0", "/b/1.0.0"])
    for piece in pieces(data, rng):
        machine.bytes_to_send()
        machine.receive_data(piece)
        assert machine.protocol or len(machine.unread) <= 1034 + len(piece)


def _responder(data: bytes, rng: random.Random) -> None:
    machine = Responder(lambda protocol: protocol == "/b/1.0.0")
    for piece in pieces(data, rng):
        machine.receive_data(piece)
        assert len(machine.bytes_to_send()) <= 1024
        assert machine.protocol or len(machine.unread) <= 1034 + len(piece)


def _lazy_reply(data: bytes, rng: random.Random) -> None:
    machine = LazyReply("/a/1.0.0")
    for piece in pieces(data, rng):
        if machine.receive_data(piece):
            return


def _frames(data: bytes, rng: random.Random) -> None:
    decoder = FrameDecoder(4096)
    for piece in pieces(data, rng):
        decoder.feed(piece)
        for message in decoder:
            assert len(message) <= 4096
    decoder.finish()


_KEYS = random.Random("noise keys")


def _fixed_key() -> X25519PrivateKey:
    """Deterministic keys: the corpus is a transcript, and must still fit."""
    return X25519PrivateKey.from_private_bytes(_KEYS.randbytes(32))


_STATIC = [_fixed_key() for _ in range(2)]
_EPHEMERAL = [_fixed_key() for _ in range(2)]
_IDENTITIES = [PrivateKey.from_seed(bytes((number,)) * 32) for number in (1, 2)]


def _handshake(side: int) -> NoiseHandshake:
    keys = iter((_STATIC[side], _EPHEMERAL[side]))
    transport = NoiseTransport(_IDENTITIES[side], generate=lambda: next(keys))
    return transport.handshake(initiator=side == 0, peer=None, muxers=("/yamux/1.0.0",))


def _transcript() -> tuple[bytes, bytes]:
    """What the responder, and what the initiator, hears in an honest handshake."""
    initiator, responder = _handshake(0), _handshake(1)
    first = initiator.bytes_to_send()
    responder.receive_data(first)
    second = responder.bytes_to_send()
    initiator.receive_data(second)
    return first + initiator.bytes_to_send(), second


def _noise(side: int) -> Callable[[bytes, random.Random], None]:
    def read(data: bytes, rng: random.Random) -> None:
        machine = _handshake(side)
        for piece in pieces(data, rng):
            if machine.receive_data(piece) is not None:
                return

    return read


def _records(data: bytes, rng: random.Random) -> None:
    opened, used = open_records(NoiseRecords(bytes(32), bytes(32)), data)
    assert used <= len(data)
    assert sum(map(len, opened)) <= used


def _sealed(*plaintexts: bytes) -> bytes:
    records = NoiseRecords(bytes(32), bytes(32))
    out = bytearray()
    for plaintext in plaintexts:
        room = memoryview(bytearray(len(plaintext) + records.overhead))
        out += room[: records.seal_into(plaintext, room)]
    return bytes(out)


def _yamux(data: bytes, rng: random.Random) -> None:
    config = YamuxConfig(max_inbound_streams=64, max_buffered=1 << 20)
    machine = YamuxMachine(config, client=rng.random() < 0.5)
    ours = [machine.open_stream() for _ in range(3)]
    now = 0.0
    for piece in pieces(data, rng):
        events: list[Event] = []
        while piece:
            piece = machine.receive_data(piece, now, events)
        now += rng.choice((0.0, 0.001, 1.0))
        for stream in list(machine.streams.values()):
            if stream.unread and rng.random() < 0.5:
                machine.read(stream, 1024)
            if stream.fault is None and rng.random() < 0.1:
                if rng.random() < 0.5:
                    machine.reset(stream, 0, events)
                elif not stream.fin_queued:
                    machine.send_data(stream, b"answer")
        if rng.random() < 0.5:
            while machine.has_output:
                machine.next_record(65519)
        assert machine.buffered <= config.max_buffered
        assert len(machine.streams) <= config.max_inbound_streams + len(ours)
        assert machine.buffered == sum(stream.unread for stream in machine.streams.values())


_MASK = require()
_WEBSOCKET_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


def _client_opening() -> ClientOpening:
    """With a fixed key: the corpus is a transcript, and must still fit."""
    opening = ClientOpening("node.example", 80, "/", secure=False, max_head=4096)
    protocol = opening._protocol
    assert isinstance(protocol, ClientProtocol)
    opening.outgoing = opening.outgoing.replace(protocol.key.encode(), _WEBSOCKET_KEY.encode())
    protocol.key = _WEBSOCKET_KEY
    return opening


def _websocket(*, client: bool) -> Callable[[bytes, random.Random], None]:
    def read(data: bytes, rng: random.Random) -> None:
        opening: Opening = _client_opening() if client else ServerOpening(max_head=4096)
        reader = FrameReader(_MASK, masked=not client)
        for piece in pieces(data, rng):
            if opening.unread is None:
                opening.receive_data(memoryview(piece))
                piece = opening.unread or b""
            buffer = memoryview(bytearray(piece))
            while buffer:
                kept, used = reader.receive(buffer)
                assert kept <= used
                assert len(reader._held) <= 131
                buffer = buffer[used:]

    return read


def _websocket_corpus(*, client: bool) -> list[bytes]:
    """What a client, or a server, hears in an honest run."""
    asked, granted = _client_opening(), ServerOpening(max_head=4096)
    granted.receive_data(memoryview(asked.outgoing))
    frames = [Frame(Opcode.PING, b"there?"), Frame(Opcode.BINARY, bytes(30_000)), Frame(Opcode.BINARY, bytes(300))]
    frames += [Frame(Opcode.BINARY, b"a", fin=False), Frame(Opcode.PONG, b""), Frame(Opcode.CONT, b"b")]
    frames += [Frame(Opcode.CLOSE, b"\x03\xe8")]
    head = granted.outgoing if client else asked.outgoing
    return [head + b"".join(each.serialize(mask=not client) for each in frames[at:]) for at in (0, 2, 3)]


def _identify(data: bytes, _: random.Random) -> None:
    message = codec.decode([data[: codec.MAX_RECEIVED_PART]])
    assert len(message.protocols) <= codec.MAX_PROTOCOLS
    assert len(message.listen_addresses) <= codec.MAX_ADDRESSES
    assert all(isinstance(protocol, str) for protocol in message.protocols)


def _envelope(data: bytes, _: random.Random) -> None:
    PeerRecord.open(Envelope.decode(data))


def _peer_record(data: bytes, _: random.Random) -> None:
    """What the right key signed, and is a mess all the same."""
    record = PeerRecord.open(Envelope.seal(_IDENTITIES[0], DOMAIN, PAYLOAD_TYPE, data))
    assert record.peer_id == _IDENTITIES[0].public_key.peer_id()


def _dht(data: bytes, _: random.Random) -> None:
    message = dht.decode(data, max_peers=40)
    assert len(message.closer_peers) <= 40
    for peer in message.closer_peers:
        assert len(peer.info.addresses) <= dht.MAX_ADDRESSES


def _ipns(data: bytes, _: random.Random) -> None:
    record = IpnsRecord.parse(data)
    assert record.sequence >= 0 <= record.ttl


def _owned(data: bytes, _: random.Random) -> None:
    """What the owner signed, and is a mess all the same."""
    envelope = Envelope.seal(_IDENTITIES[0], "p2pstack-owned-record", b"/p2pstack/owned-record", data)
    assert OwnedRecord.parse(envelope.encode()).owner == _IDENTITIES[0].public_key.peer_id()


def _key_text(data: bytes, _: random.Random) -> None:
    key = key_from_text(data.decode("utf-8", "replace"))
    assert key_from_text(key_to_text(key)) == key


def _address_bytes(data: bytes, _: random.Random) -> None:
    address = parse_bytes(data)
    assert Multiaddr.parse(str(address)) == address


def _address_text(data: bytes, _: random.Random) -> None:
    address = Multiaddr.parse(data.decode("utf-8", "replace"))
    assert parse_bytes(address.to_bytes()) == address


def _peer_bytes(data: bytes, _: random.Random) -> None:
    peer = PeerId(data)
    assert PeerId.parse(str(peer)) == peer


def _peer_text(data: bytes, _: random.Random) -> None:
    PeerId.parse(data.decode("utf-8", "replace"))


def _public_key(data: bytes, _: random.Random) -> None:
    found = PublicKey.decode(data)
    assert PublicKey.decode(found.encode()) == found


def targets() -> list[Target]:
    """Every reader, with valid inputs."""
    keys = [_IDENTITIES[0], *(PrivateKey.generate(kind) for kind in (KeyType.SECP256K1, KeyType.ECDSA, KeyType.RSA))]
    peers = [key.public_key.peer_id() for key in keys]
    addresses = [
        Multiaddr.parse(text)
        for text in (
            "/ip4/127.0.0.1/tcp/4001",
            "/ip6/2001:db8::1/udp/4001/quic-v1",
            "/dns4/alice.example/tcp/443/wss",
            "/ip6zone/eth0/ip6/fe80::1/tcp/1",
            "/memory/1000",
            f"/ip4/1.2.3.4/tcp/4001/p2p/{peers[0]}/p2p-circuit/p2p/{peers[1]}",
        )
    ]
    raw = tuple(address.to_bytes() for address in addresses)
    envelopes = [PeerRecord(peer, 7, raw).seal(key) for peer, key in zip(peers, keys, strict=True)]
    messages = [
        codec.encode(
            IdentifyMessage(
                public_key=key.public_key.encode(),
                listen_addresses=tuple(addresses),
                protocols=("/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"),
                observed_address=addresses[0],
                protocol_version="x/1",
                agent_version="y/1",
                signed_peer_record=envelope,
            )
        )[0]
        for key, envelope in zip(keys, envelopes, strict=True)
    ]
    heard_by_responder, heard_by_initiator = _transcript()
    multistream = [lazy_proposal("/a/1.0.0"), lazy_proposal("/b/1.0.0"), lazy_proposal("na")]
    multistream += [lazy_proposal("na") + lazy_proposal("/b/1.0.0")[20:] + b"behind"]
    yamux = [
        opening(1, "/echo/1.0.0", b"hello") + data(1, b"more") + frame(WINDOW, FIN, 1, 0),
        frame(WINDOW, SYN, 1, 0) + frame(WINDOW, 0, 1, 100_000) + frame(WINDOW, RST, 1, 5),
        frame(PING, SYN, 0, 1) + frame(PING, ACK, 0, 1) + frame(GO_AWAY, 0, 0, 0),
        b"".join(opening(number, "/a/1.0.0") for number in range(1, 60, 2)),
        b"".join(frame(WINDOW, SYN, number, 0) for number in range(2, 60, 2)),
        frame(WINDOW, ACK, 1, 0) + data(1, bytes(5000)) + frame(WINDOW, ACK | FIN, 2, 0),
    ]
    closer = tuple(dht.KadPeer(PeerInfo(peer, tuple(addresses))) for peer in peers)
    queries = [
        dht.encode(dht.Message(type=dht.MessageType.FIND_NODE, key=peers[0].to_bytes())),
        dht.encode(dht.Message(type=dht.MessageType.FIND_NODE, key=b"key", closer_peers=closer)),
        dht.encode(dht.Message(type=dht.MessageType.PING)),
    ]
    names = [IpnsRecord.create(key, "/ipfs/bafkqaaa", 3, now=1e9) for key in keys]
    owned = [OwnedRecord.create(_IDENTITIES[0], name, b"value", 7, expires=2e9) for name in ("", "profile")]
    framed = [bytes((len(body),)) + body for body in (b"", b"x", bytes(100))]
    return [
        Target("multistream proposer", _proposer, multistream, (ProtocolError,)),
        Target("multistream responder", _responder, multistream, (ProtocolError,)),
        Target("multistream lazy reply", _lazy_reply, multistream, (ProtocolError,)),
        Target("framing", _frames, framed, (ProtocolError,)),
        Target("noise initiator", _noise(0), [heard_by_initiator], (HandshakeError,)),
        Target("noise responder", _noise(1), [heard_by_responder], (HandshakeError,)),
        Target("noise records", _records, [_sealed(b"", b"x", bytes(5000))], (SecurityError,)),
        Target("yamux machine", _yamux, yamux, (ProtocolError,)),
        Target("websocket server", _websocket(client=False), _websocket_corpus(client=False), (ProtocolError,)),
        Target("websocket client", _websocket(client=True), _websocket_corpus(client=True), (ProtocolError,)),
        Target("identify", _identify, messages, (ProtocolError,)),
        Target("envelope", _envelope, [e.encode() for e in envelopes], (RecordError, InvalidKey, InvalidSignature)),
        Target("peer record", _peer_record, [envelopes[0].payload], (RecordError,)),
        Target("dht message", _dht, queries, (ProtocolError,)),
        Target("ipns record", _ipns, [value for _, value in names], (InvalidRecord,)),
        Target("owned record", _owned, [Envelope.decode(value).payload for _, value in owned], (InvalidRecord,)),
        Target("dht key text", _key_text, [key_to_text(key).encode() for key, _ in names + owned], (InvalidRecord,)),
        Target("multiaddr bytes", _address_bytes, raw, (InvalidAddress,)),
        Target("multiaddr text", _address_text, [str(a).encode() for a in addresses], (InvalidAddress,)),
        Target("peer id bytes", _peer_bytes, [peer.to_bytes() for peer in peers], (InvalidPeerId,)),
        Target("peer id text", _peer_text, [str(peer).encode() for peer in peers], (InvalidPeerId,)),
        Target("public key", _public_key, [key.public_key.encode() for key in keys], (InvalidKey,)),
    ]
