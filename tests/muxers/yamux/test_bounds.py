"""What a hostile peer can make us hold, and how it ends."""

from __future__ import annotations

import sys

import pytest

from py_p2pstack.core.error_codes import ConnectionCode
from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.muxers.stream_state import StreamState
from py_p2pstack.muxers.yamux import YamuxConfig
from tests.muxers.yamux.wire import DATA, PING, RST, SYN, WINDOW, WINDOW_SIZE, feed, frame, sent, server


def test_pings_without_end_are_cut_off() -> None:
    # GHSA-ppxx-5m9h-6vxf: replies nobody reads must not pile up
    bob = server(YamuxConfig(max_pending_pongs=32))
    with pytest.raises(RemoteProtocolError) as caught:
        feed(bob, frame(PING, SYN, 0, 1) * 33)
    assert caught.value.code == ConnectionCode.RATE_LIMITED


def test_pings_that_are_read_may_go_on() -> None:
    bob = server(YamuxConfig(max_pending_pongs=2))
    for _ in range(100):
        feed(bob, frame(PING, SYN, 0, 1))
        sent(bob)


def test_rapid_resets_are_cut_off() -> None:
    # CVE-2023-44487: opening and resetting costs the peer two frames and us a handler
    bob = server(YamuxConfig(max_resets=100, resets_per_second=10.0))
    with pytest.raises(RemoteProtocolError) as caught:
        for index in range(200):
            feed(bob, frame(WINDOW, SYN, 1 + 2 * index, 0) + frame(WINDOW, RST, 1 + 2 * index, 0), now=1.0)
            sent(bob)
    assert caught.value.code == ConnectionCode.RATE_LIMITED
    assert index >= 99


def test_resets_at_a_human_pace_may_go_on() -> None:
    bob = server(YamuxConfig(max_resets=10, resets_per_second=10.0))
    for index in range(200):
        feed(bob, frame(WINDOW, SYN, 1 + 2 * index, 0) + frame(WINDOW, RST, 1 + 2 * index, 0), now=index / 10)
        sent(bob)


def test_streams_refused_for_their_number_count_like_resets() -> None:
    bob = server(YamuxConfig(max_inbound_streams=1, max_resets=100, resets_per_second=1.0))
    with pytest.raises(RemoteProtocolError) as caught:
        for index in range(200):
            feed(bob, frame(WINDOW, SYN, 1 + 2 * index, 0))
            sent(bob)
    assert caught.value.code == ConnectionCode.RATE_LIMITED


def test_streams_refused_by_the_application_count_like_resets() -> None:
    bob = server(YamuxConfig(max_resets=100, resets_per_second=1.0))
    with pytest.raises(RemoteProtocolError):
        for index in range(200):
            feed(bob, frame(WINDOW, SYN, 1 + 2 * index, 0))
            bob.refuse(bob.streams[1 + 2 * index], 0x1002, 0.0, [])
            sent(bob)


def test_control_frames_for_a_peer_that_reads_none_are_bounded() -> None:
    config = YamuxConfig(max_control=1200, max_resets=10**6)
    bob = server(config)
    with pytest.raises(RemoteProtocolError) as caught:
        for index in range(1000):
            feed(bob, frame(WINDOW, SYN, 1 + 2 * index, 0))
            bob.reset(bob.streams[1 + 2 * index], 0, [])
    assert caught.value.code == ConnectionCode.RATE_LIMITED
    assert len(bob._control) <= config.max_control + 12


def test_one_byte_frames_cost_about_a_byte() -> None:
    bob = server()
    feed(bob, frame(WINDOW, SYN, 1, 0))
    stream = bob.streams[1]
    for _ in range(20):
        feed(bob, frame(DATA, 0, 1, body=b"x") * 1000)
    held = sum(sys.getsizeof(chunk) for chunk in stream.received)
    assert stream.unread == 20_000
    assert held < 2 * stream.unread


@pytest.mark.parametrize("size", [1, 100, 4095, 4096, 10_000, 65_519])
def test_a_piece_of_a_shared_buffer_is_copied_once(size: int) -> None:
    buffer = bytearray(b"a" * 65_519)
    stream = StreamState(1, inbound=True, flags=0)
    stream.deliver(memoryview(buffer), 0, size)
    (chunk,) = stream.received
    buffer[:] = bytes(65_519)
    data = stream.read(65_536)
    assert data == b"a" * size
    assert data is chunk


def test_a_piece_that_is_a_whole_record_is_handed_out_as_it_is() -> None:
    record = bytes(10_000)
    stream = StreamState(1, inbound=True, flags=0)
    stream.deliver(record, 0, len(record))
    assert stream.read(10_000) is record


def test_the_rest_of_a_piece_does_not_keep_the_whole_alive() -> None:
    record = bytes(60_000)
    stream = StreamState(1, inbound=True, flags=0)
    stream.deliver(record, 0, len(record))
    stream.read(59_999)
    (rest,) = stream.received
    assert type(rest) is bytes
    assert rest == b"\0"


def test_an_idle_stream_is_small() -> None:
    stream = StreamState(1, inbound=True, flags=0)
    size = sys.getsizeof(stream) + sys.getsizeof(stream.to_send) + sys.getsizeof(stream.received)
    assert size < 600


def test_a_large_write_is_not_copied() -> None:
    data = bytes(100_000)
    stream = StreamState(1, inbound=False, flags=0)
    stream.queue(data)
    assert stream.to_send[0] is data
    out: list[bytes | bytearray | memoryview] = []
    stream.take(65_536, out)
    assert isinstance(out[0], memoryview)
    assert out[0].obj is data


def test_what_the_writer_changes_later_is_not_sent() -> None:
    stream = StreamState(1, inbound=False, flags=0)
    for size in (10, 50_000):
        buffer = bytearray(b"a" * size)
        stream.queue(buffer)
        stream.queue(memoryview(buffer))
        buffer[:] = b"b" * size
    out: list[bytes | bytearray | memoryview] = []
    stream.take(stream.queued, out)
    assert set(b"".join(out)) == {ord("a")}


def test_bytes_for_streams_long_gone_are_dropped_without_a_trace() -> None:
    bob = server()
    for _ in range(64):
        feed(bob, frame(DATA, 0, 9, body=bytes(WINDOW_SIZE)))
    assert bob.buffered == 0
    assert not bob.streams
    assert not bob.has_output
