"""DHT messages: what goes over the wire, what is left out, what is refused before it costs anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import ConnectionType, KadPeer, Message, MessageType, Record
from py_p2pstack.wire import varint
from py_p2pstack.wire.pb.dht_pb2 import Message as PbMessage
from tests.peer_ids import peer


def address(number: int) -> Multiaddr:
    return Multiaddr.parse(f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/4001")


def kad_peer(number: int, addresses: int = 1) -> KadPeer:
    return KadPeer(PeerInfo(peer(number), tuple(address(number * 100 + each) for each in range(addresses))))


def decode(data: bytes) -> Message:
    return codec.decode(data, max_peers=40)


def test_a_find_node_request_is_these_bytes() -> None:
    message = Message(type=MessageType.FIND_NODE, key=b"abc")
    assert codec.encode(message) == bytes.fromhex("0804 1203 616263")


def test_an_answer_with_a_connected_peer_is_these_bytes() -> None:
    info = PeerInfo(peer(1), (Multiaddr.parse("/ip4/127.0.0.1/tcp/4001"),))
    message = Message(type=MessageType.FIND_NODE, closer_peers=(KadPeer(info, ConnectionType.CONNECTED),))
    inner = b"\x0a\x22" + peer(1).to_bytes() + b"\x18\x01" + b"\x12\x08" + bytes.fromhex("047f000001060fa1")
    assert codec.encode(message) == b"\x08\x04\x42" + bytes([len(inner)]) + inner
    assert decode(codec.encode(message)) == message


PEERS = st.builds(
    lambda info, connection: KadPeer(info, connection),
    st.builds(
        lambda number, addresses: PeerInfo(peer(number), tuple(dict.fromkeys(map(address, addresses)))),
        st.integers(0, 2**64),
        st.lists(st.integers(0, 2**24 - 1), max_size=3),
    ),
    st.sampled_from(ConnectionType),
)
MESSAGES = st.builds(
    Message,
    type=st.sampled_from(MessageType),
    key=st.binary(max_size=100),
    record=st.none() | st.builds(Record, key=st.binary(), value=st.binary(), time_received=st.text(max_size=20)),
    closer_peers=st.lists(PEERS, max_size=6).map(tuple),
    provider_peers=st.lists(PEERS, max_size=3).map(tuple),
    cluster_level=st.integers(-(2**31), 2**31 - 1),
)


@given(MESSAGES)
def test_messages_round_trip(message: Message) -> None:
    assert decode(codec.encode(message)) == message


@given(MESSAGES)
def test_our_bytes_are_what_the_generated_code_reads(message: Message) -> None:
    pb = PbMessage.FromString(codec.encode(message))
    assert [each.id for each in pb.closerPeers] == [each.info.peer_id.to_bytes() for each in message.closer_peers]
    assert int(pb.type) == message.type.value


@given(MESSAGES, st.data())
def test_mutated_messages_raise_nothing_but_remote_protocol_error(message: Message, data: st.DataObject) -> None:
    raw = bytearray(codec.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    try:
        decode(bytes(raw[:cut]))
    except RemoteProtocolError:
        pass


@given(st.binary(max_size=200))
def test_the_count_of_elements_takes_any_bytes(data: bytes) -> None:
    try:
        codec._count_elements(data)
    except RemoteProtocolError:
        pass


def test_forty_peers_of_fifty_addresses_fit_what_rust_reads() -> None:
    message = Message(type=MessageType.FIND_NODE, closer_peers=tuple(kad_peer(number, 50) for number in range(40)))
    data = codec.encode(message)
    assert 12_000 < len(data) <= codec.MAX_SENT
    told = decode(data).closer_peers
    assert [each.info.peer_id for each in told] == [peer(number) for number in range(40)]
    assert all(each.info.addresses for each in told)


def test_closer_peers_find_their_room_before_providers_and_leave_half_of_it() -> None:
    closer = tuple(kad_peer(number, 60) for number in range(20))
    providers = tuple(kad_peer(number, 2) for number in range(100, 700))
    data = codec.encode(Message(type=MessageType.GET_PROVIDERS, closer_peers=closer, provider_peers=providers))
    assert codec.MAX_SENT - 100 < len(data) <= codec.MAX_SENT
    answer = codec.decode(data, max_peers=40, max_providers=512)
    assert [each.info.peer_id for each in answer.closer_peers] == [each.info.peer_id for each in closer]
    assert all(len(each.info.addresses) > 20 for each in answer.closer_peers)
    # As many of the first providers as fit, whole.
    assert len(answer.provider_peers) > 100
    assert answer.provider_peers == providers[: len(answer.provider_peers)]


def test_one_provider_with_hundreds_of_addresses_takes_no_more_than_its_share() -> None:
    providers = (kad_peer(1, 60), *(kad_peer(number) for number in range(100, 300)))
    data = codec.encode(Message(type=MessageType.GET_PROVIDERS, provider_peers=providers))
    answer = codec.decode(data, max_peers=40, max_providers=512)
    assert len(answer.provider_peers[0].info.addresses) >= 45
    assert len(answer.provider_peers) == 201


def test_room_one_peer_does_not_need_serves_the_others() -> None:
    few = tuple(kad_peer(number) for number in range(20))
    message = Message(type=MessageType.FIND_NODE, closer_peers=(*few, kad_peer(99, 60)))
    assert len(decode(codec.encode(message)).closer_peers[-1].info.addresses) == 60


def test_peers_that_find_no_room_at_all_are_left_out() -> None:
    long = Multiaddr.parse(("/dns4/" + ".".join(["a" * 60] * 4)) * 3 + "/tcp/1")
    peers = tuple(KadPeer(PeerInfo(peer(number), (long,))) for number in range(40))
    data = codec.encode(Message(type=MessageType.FIND_NODE, closer_peers=peers))
    assert len(data) <= codec.MAX_SENT
    record = Record(key=b"k", value=bytes(codec.MAX_SENT - 20))
    assert (
        decode(codec.encode(Message(type=MessageType.GET_VALUE, record=record, closer_peers=peers))).closer_peers == ()
    )


def test_beside_a_record_that_is_too_large_for_some_there_is_room_for_peers_all_the_same() -> None:
    peers = tuple(KadPeer(PeerInfo(peer(number), (Multiaddr.parse("/ip4/127.0.0.1/tcp/1"),))) for number in range(20))
    record = Record(key=b"k", value=bytes(4 * codec.MAX_SENT))
    data = codec.encode(Message(type=MessageType.GET_VALUE, record=record, closer_peers=peers))
    assert len(data) <= 4 * codec.MAX_SENT + 20 + codec.ROOM_BESIDE
    assert len(decode(data).closer_peers) == 20


def test_invalid_peers_and_addresses_are_left_out() -> None:
    good, other = peer(1), peer(2)
    pb = PbMessage(type=PbMessage.FIND_NODE)
    pb.closerPeers.add(id=b"no peer id", addrs=[address(1).to_bytes()])
    pb.closerPeers.add(
        id=good.to_bytes(),
        addrs=[
            b"",
            b"\xff\xff",
            address(1).to_bytes(),
            address(1).with_peer(good).to_bytes(),
            address(2).with_peer(good).to_bytes(),
            address(3).with_peer(other).to_bytes(),
            Multiaddr.parse(f"/p2p/{good}").to_bytes(),
        ],
        connection=77,  # a value nobody knows
    )
    (told,) = decode(pb.SerializeToString()).closer_peers
    assert told == KadPeer(PeerInfo(good, (address(1), address(2))))


def test_of_a_list_only_the_first_peers_and_of_a_peer_the_first_addresses_are_considered() -> None:
    pb = PbMessage(type=PbMessage.FIND_NODE)
    for number in range(100):
        pb.closerPeers.add(id=peer(number).to_bytes())
    assert len(decode(pb.SerializeToString()).closer_peers) == 40
    pb = PbMessage(type=PbMessage.FIND_NODE)
    pb.closerPeers.add(id=peer(1).to_bytes(), addrs=[address(each).to_bytes() for each in range(500)])
    assert len(decode(pb.SerializeToString()).closer_peers[0].info.addresses) == codec.MAX_ADDRESSES


@pytest.mark.parametrize(
    "tag", [b"\x42\x00", b"\x4a\x00", b"\x08\x04", b"\x12\x00", b"\xa2\x06\x00", b"\x0d\x00\x00\x00\x00"]
)
def test_a_message_of_millions_of_elements_is_refused_at_once(tag: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tag * (4 * 1024 * 1024 // len(tag))
    monkeypatch.setattr(codec, "PbMessage", None)  # nothing is parsed of it
    with pytest.raises(RemoteProtocolError, match="elements"):
        decode(bomb)


def test_a_peer_of_millions_of_empty_addresses_is_refused_at_once() -> None:
    inner = b"\x12\x00" * 2_000_000
    with pytest.raises(RemoteProtocolError, match="elements"):
        decode(b"\x42" + varint.encode(len(inner)) + inner)


def test_a_large_message_of_few_elements_is_taken() -> None:
    pb = PbMessage(type=PbMessage.GET_VALUE, key=b"k")
    pb.record.value = bytes(3 * 1024 * 1024)
    pb.closerPeers.add(id=peer(1).to_bytes(), addrs=[address(1).to_bytes()])
    pb.MergeFromString(b"\xa1\x06" + bytes(8) + b"\xa5\x06" + bytes(4))  # unknown fixed-size fields
    message = decode(pb.SerializeToString())
    assert message.record is not None
    assert len(message.record.value) == 3 * 1024 * 1024
    assert len(message.closer_peers) == 1


@pytest.mark.parametrize(
    "tail",
    [b"\x43", b"\x42\xff", b"\x42\x7f\x00", b"\x80" * 11, b"\x42\x02\x0a\x7f", b"\x42\x01\x0b"],
    ids=["group", "cut length", "cut body", "endless varint", "cut inside a peer", "group inside a peer"],
)
def test_large_malformed_messages_are_refused_while_counting(tail: bytes) -> None:
    padding = b"\x12" + varint.encode(codec.MAX_SENT) + bytes(codec.MAX_SENT)
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode(padding + tail)


def test_an_unknown_type_and_a_long_key_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="type 6"):
        decode(b"\x08\x06")
    with pytest.raises(RemoteProtocolError, match="key"):
        decode(codec.encode(Message(type=MessageType.FIND_NODE, key=bytes(codec.MAX_KEY + 1))))


def test_a_message_that_is_no_protobuf_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode(b"\x42\x7f\x00")


def test_inlined_peer_ids_are_taken() -> None:
    inlined = PeerId(b"\x00\x24\x08\x01\x12\x20" + bytes(32))
    message = Message(type=MessageType.FIND_NODE, closer_peers=(KadPeer(PeerInfo(inlined)),))
    assert decode(codec.encode(message)) == message


def test_what_is_remembered_of_peers_is_bounded_in_number_and_size() -> None:
    cache = codec._decode_known
    before = cache.cache_info().currsize
    pb = PbMessage(type=PbMessage.FIND_NODE)
    pb.closerPeers.add(id=peer(1).to_bytes(), addrs=[bytes(10_000)])
    pb.closerPeers.add(id=bytes(10_000))
    pb.closerPeers.add(id=peer(1).to_bytes(), addrs=[address(each).to_bytes() for each in range(60)])
    assert len(decode(pb.SerializeToString()).closer_peers) == 2
    assert cache.cache_info().currsize == before
    for number in range(5000):
        decode(codec.encode(Message(type=MessageType.FIND_NODE, closer_peers=(kad_peer(number),))))
    assert cache.cache_info().currsize == 4096
