"""Claims about identify messages: what goes in comes out, in parts that others can read, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.identity import PeerRecord, PrivateKey
from py_p2pstack.protocols.identify import codec
from py_p2pstack.protocols.identify.codec import IdentifyMessage
from py_p2pstack.wire.pb.identify_pb2 import Identify

KEY = PrivateKey.from_seed(bytes(32))
ADDRESSES = tuple(Multiaddr.parse(f"/ip4/10.0.{n // 250}.{n % 250}/tcp/4001") for n in range(600))


def message(*, addresses: int, protocols: int) -> IdentifyMessage:
    """A message with so many addresses and protocols."""
    listen = ADDRESSES[:addresses]
    record = PeerRecord(KEY.public_key.peer_id(), 7, tuple(address.to_bytes() for address in listen))
    return IdentifyMessage(
        public_key=KEY.public_key.encode(),
        listen_addresses=listen,
        protocols=tuple(f"/protocol/{number}/1.0.0" for number in range(protocols)),
        observed_address=Multiaddr.parse("/ip4/1.2.3.4/tcp/5"),
        protocol_version="network/1.0.0",
        agent_version="software/1.2.3",
        signed_peer_record=record.seal(KEY),
    )


@given(st.integers(0, 120), st.integers(0, 300))
def test_what_goes_in_comes_out(addresses: int, protocols: int) -> None:
    sent = message(addresses=addresses, protocols=protocols)
    assert codec.decode(codec.encode(sent)) == sent


@given(st.integers(0, 500), st.integers(0, 1000))
def test_no_part_is_larger_than_rust_reads_and_none_too_many(addresses: int, protocols: int) -> None:
    parts = codec.encode(message(addresses=addresses, protocols=protocols))
    assert all(len(part) <= codec.MAX_SENT_PART for part in parts)
    assert len(parts) <= codec.MAX_PARTS


def test_the_first_part_alone_tells_who_we_are_and_what_we_speak() -> None:
    sent = message(addresses=150, protocols=60)
    parts = codec.encode(sent)
    first = codec.decode(parts[:1])
    assert len(parts) > 1
    assert first.public_key == sent.public_key
    assert first.protocols == sent.protocols
    assert first.observed_address == sent.observed_address
    assert first.listen_addresses


def test_a_record_too_large_for_any_part_is_left_out() -> None:
    sent = message(addresses=500, protocols=1)
    assert codec.decode(codec.encode(sent)).signed_peer_record is None


def test_malformed_addresses_and_records_are_left_out_and_the_rest_is_kept() -> None:
    raw = Identify(
        listenAddrs=[b"\xff\xff", ADDRESSES[0].to_bytes(), b""],
        observedAddr=b"\x04\x01",
        protocols=["/a/1"],
        signedPeerRecord=b"nonsense",
    )
    read = codec.decode([raw.SerializeToString()])
    assert read.listen_addresses == ADDRESSES[:1]
    assert read.observed_address is None
    assert read.protocols == ("/a/1",)
    assert read.signed_peer_record is None


def test_more_protocols_and_addresses_than_the_bounds_are_dropped() -> None:
    raw = Identify(
        listenAddrs=[address.to_bytes() for address in ADDRESSES] * 2,
        protocols=[f"/{number}" for number in range(2 * codec.MAX_PROTOCOLS)],
        agentVersion="x" * 100_000,
    )
    read = codec.decode([raw.SerializeToString()])
    assert len(read.listen_addresses) <= codec.MAX_ADDRESSES
    assert len(read.protocols) == codec.MAX_PROTOCOLS
    assert len(read.agent_version) == codec.MAX_VERSION


def test_repeats_count_once() -> None:
    raw = Identify(listenAddrs=[ADDRESSES[0].to_bytes()] * 5, protocols=["/a"] * 5)
    read = codec.decode([raw.SerializeToString()])
    assert (len(read.listen_addresses), len(read.protocols)) == (1, 1)


def test_text_that_is_no_utf8_is_left_out() -> None:
    read = codec.decode([b"\x1a\x02\xff\xfe\x1a\x02/a\x2a\x02\xff\xfe\x32\x02\xff\xfe"])
    assert read.protocols == ("/a",)
    assert (read.agent_version, read.protocol_version) == ("", "")


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\xff\xff\xff"])
def test_what_is_no_identify_message_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        codec.decode([data])


@given(st.lists(st.binary(max_size=300), max_size=3))
def test_arbitrary_bytes_raise_nothing_else(parts: list[bytes]) -> None:
    try:
        codec.decode(parts)
    except RemoteProtocolError:
        pass
