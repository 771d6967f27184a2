"""The rows a DHT keeps: what was written is read, and nothing else gets through."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.errors import RecordError
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht.storage import StoredValue, rows
from tests.peer_ids import peer

ADDRESSES = tuple(
    Multiaddr.parse(text) for text in ("/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/udp/1/quic-v1", "/dns/a.b/tcp/1")
)
times = st.floats(min_value=0, max_value=4e9)
some_addresses = st.lists(st.sampled_from(ADDRESSES), max_size=rows.MAX_ADDRESSES).map(tuple)
peers = st.integers(0, 2**32).map(peer)


@given(st.binary(max_size=300), times, st.booleans())
def test_values_come_back(value: bytes, received: float, published: bool) -> None:
    header = rows.ValueHeader(received, published, len(value))
    assert rows.decode_header(rows.encode_header(header)) == header
    assert rows.decode_value(rows.encode_header(header) + value) == StoredValue(value, received, published)


@given(times, times, some_addresses)
def test_providers_come_back(added: float, addresses_added: float, addresses: tuple[Multiaddr, ...]) -> None:
    row = rows.ProviderRow(added, addresses_added, addresses)
    assert rows.decode_provider(rows.encode_provider(row)) == row


@given(st.binary(min_size=1, max_size=80), peers)
def test_a_providers_row_tells_its_key_and_peer(key: bytes, who: PeerId) -> None:
    assert rows.split_provider(rows.providers_of(key) + who.to_bytes()) == (key, who.to_bytes())


def test_no_key_begins_another_ones_rows() -> None:
    assert not rows.providers_of(b"ab").startswith(rows.providers_of(b"a"))


@given(st.binary(min_size=1, max_size=80), times)
def test_our_own_keys_come_back(key: bytes, provided: float) -> None:
    assert rows.split_own(rows.own_row(key)) == key
    assert rows.decode_own(rows.encode_own(provided)) == provided


@given(st.lists(st.builds(PeerInfo, peers, some_addresses), max_size=20))
def test_snapshots_come_back(table: list[PeerInfo]) -> None:
    assert rows.decode_snapshot(rows.encode_snapshot(table)) == table


def test_a_snapshot_is_bounded() -> None:
    table = [PeerInfo(peer(number), ADDRESSES * 10) for number in range(rows.MAX_SNAPSHOT + 5)]
    kept = rows.decode_snapshot(rows.encode_snapshot(table))
    assert [each.peer_id for each in kept] == [each.peer_id for each in table[: rows.MAX_SNAPSHOT]]
    assert {len(each.addresses) for each in kept} == {rows.MAX_ADDRESSES}
    one_more = rows.encode_snapshot(table[:1])[1:]
    with pytest.raises(RecordError, match="more than"):
        rows.decode_snapshot(rows.encode_snapshot(table) + one_more)


DECODERS = [
    rows.decode_header,
    rows.decode_value,
    rows.decode_provider,
    rows.decode_own,
    rows.decode_snapshot,
    rows.decode_peer,
    rows.split_provider,
    rows.split_own,
]
GOOD = [
    rows.encode_header(rows.ValueHeader(1e9, True, 3)) + b"abc",
    rows.encode_provider(rows.ProviderRow(1e9, 1e9, ADDRESSES)),
    rows.encode_own(1e9),
    rows.encode_snapshot([PeerInfo(peer(number), ADDRESSES) for number in range(3)]),
]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(row: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(row)
        except RecordError:
            pass


@given(st.sampled_from(GOOD), st.data())
def test_changed_rows_are_read_or_refused(row: bytes, data: st.DataObject) -> None:
    changed = bytearray(row[: data.draw(st.integers(0, len(row)))])
    if changed:
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    for decode in DECODERS:
        try:
            decode(bytes(changed))
        except RecordError:
            pass


@pytest.mark.parametrize("row", GOOD)
def test_rows_cut_off_or_too_long_are_refused(row: bytes) -> None:
    decode = {GOOD[0]: rows.decode_value, GOOD[1]: rows.decode_provider, GOOD[2]: rows.decode_own}.get(row)
    wrong = [row[:end] for end in range(len(row))] + [row + b"\0"]
    if decode is None:  # a snapshot has no end of its own, but where a peer ends
        decode = rows.decode_snapshot
        wrong = [each for each in wrong if (len(each) - 1) % ((len(row) - 1) // 3)]
    assert decode is not None
    decode(row)
    for each in wrong:
        with pytest.raises(RecordError):
            decode(each)


def test_other_versions_are_refused() -> None:
    decoders = (rows.decode_value, rows.decode_provider, rows.decode_own, rows.decode_snapshot)
    for row, decode in zip(GOOD, decoders, strict=True):
        with pytest.raises(RecordError):
            decode(bytes((rows.VERSION + 1,)) + row[1:])


def test_times_that_are_none_are_old() -> None:
    assert rows.is_current(100.0, 110.0, 10.0)
    assert not rows.is_current(100.0, 110.1, 10.0)
    assert rows.is_current(105.0, 100.0, 10.0)  # a clock that was set back a little
    assert not rows.is_current(1e12, 100.0, 10.0)
    assert not rows.is_current(math.nan, 100.0, 10.0)
    with pytest.raises(RecordError):
        rows.decode_own(struct.pack(">Bd", rows.VERSION, math.nan))
