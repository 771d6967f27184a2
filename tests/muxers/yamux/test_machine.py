"""What the machine does with streams and their bytes, frame by frame."""

from __future__ import annotations

import pytest

from py_p2pstack.errors import (
    RemoteProtocolError,
    ResourceLimitExceeded,
    StreamClosed,
)
from py_p2pstack.muxers.machine import Event, StreamEnded, StreamOpened, StreamReadable
from py_p2pstack.muxers.yamux import YamuxConfig
from py_p2pstack.muxers.yamux.codec import GoAway
from tests.muxers.yamux.wire import (
    ACK,
    DATA,
    FIN,
    RST,
    SYN,
    WINDOW,
    Frame,
    client,
    feed,
    frame,
    frames,
    sent,
    server,
    settle,
)

# --- opening ------------------------------------------------------------------------------------------


def test_a_client_opens_odd_streams_and_a_server_even_ones() -> None:
    alice, bob = client(), server()
    assert [alice.open_stream().id for _ in range(3)] == [1, 3, 5]
    assert [bob.open_stream().id for _ in range(3)] == [2, 4, 6]


def test_the_syn_rides_on_the_first_bytes() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, b"hello")
    assert frames(sent(alice)) == [Frame(DATA, SYN, 1, 5, b"hello")]


def test_a_silent_stream_announces_itself() -> None:
    alice = client()
    alice.open_stream()
    assert frames(sent(alice)) == [Frame(WINDOW, SYN, 1, 0)]


def test_the_ack_rides_on_the_answer() -> None:
    bob = server()
    (opened, readable) = feed(bob, frame(DATA, SYN, 1, body=b"ping"))
    assert isinstance(opened, StreamOpened)
    assert isinstance(readable, StreamReadable)
    bob.send_data(opened.stream, b"pong")
    assert frames(sent(bob)) == [Frame(DATA, ACK, 1, 4, b"pong")]


def test_a_stream_nobody_answers_on_is_acknowledged_all_the_same() -> None:
    bob = server()
    feed(bob, frame(WINDOW, SYN, 1, 0))
    assert frames(sent(bob)) == [Frame(WINDOW, ACK, 1, 0)]


def test_an_acknowledgement_makes_room_for_one_more_stream() -> None:
    alice = client(YamuxConfig(max_unacknowledged=2))
    alice.open_stream()
    alice.open_stream()
    with pytest.raises(ResourceLimitExceeded, match="unacknowledged"):
        alice.open_stream()
    feed(alice, frame(WINDOW, ACK, 1, 0))
    assert alice.open_slots == 1
    assert alice.open_stream().id == 5


def test_a_stream_that_ends_unacknowledged_makes_room_too() -> None:
    alice = client(YamuxConfig(max_unacknowledged=1))
    stream = alice.open_stream()
    alice.reset(stream, 0, [])
    assert alice.open_slots == 1


def test_outbound_streams_are_bounded() -> None:
    alice, bob = client(YamuxConfig(max_outbound_streams=2)), server()
    alice.open_stream()
    alice.open_stream()
    settle(alice, bob)
    with pytest.raises(ResourceLimitExceeded, match="outbound streams"):
        alice.open_stream()


def test_stream_ids_run_out_with_an_error() -> None:
    alice = client(YamuxConfig(max_unacknowledged=10))
    alice._next_id = 2**32 - 1
    alice.open_stream()
    with pytest.raises(ResourceLimitExceeded, match="stream ids"):
        alice.open_stream()


def test_inbound_streams_are_bounded_and_the_surplus_is_reset() -> None:
    bob = server(YamuxConfig(max_inbound_streams=2))
    events = feed(bob, b"".join(frame(WINDOW, SYN, stream_id, 0) for stream_id in (1, 3, 5)))
    assert [type(event) for event in events] == [StreamOpened, StreamOpened]
    assert Frame(WINDOW, RST, 5, 0x1002) in frames(sent(bob))
    # the bytes of a refused stream are dropped
    assert feed(bob, frame(DATA, 0, 5, body=b"x" * 100)) == []
    assert bob.buffered == 0


@pytest.mark.parametrize("stream_id", [0, 2, 4])
def test_the_peer_may_not_open_a_stream_of_our_kind(stream_id: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        feed(server(), frame(WINDOW, SYN, stream_id, 0))
    assert caught.value.code == GoAway.PROTOCOL_ERROR


def test_the_peer_may_not_open_a_stream_twice() -> None:
    bob = server()
    feed(bob, frame(WINDOW, SYN, 1, 0))
    with pytest.raises(RemoteProtocolError):
        feed(bob, frame(WINDOW, SYN, 1, 0))


def test_a_stream_opened_and_reset_in_one_frame_leaves_nothing() -> None:
    bob = server()
    assert feed(bob, frame(DATA, SYN | RST, 1, body=b"gone")) == []
    assert not bob.streams
    assert not bob.has_output


# --- bytes, and the end of a direction ----------------------------------------------------------------


def test_bytes_arrive_in_order_and_both_ends_close() -> None:
    alice, bob = client(), server()
    stream = alice.open_stream()
    alice.send_data(stream, b"one ")
    alice.send_data(stream, b"two")
    alice.send_eof(stream)
    _, events = settle(alice, bob)
    remote = bob.streams[1]
    assert [type(event) for event in events] == [StreamOpened, StreamReadable, StreamReadable]
    assert bob.read(remote, 100) == b"one two"
    assert remote.remote_fin
    bob.send_data(remote, b"three")
    bob.send_eof(remote)
    events, _ = settle(alice, bob)
    assert StreamEnded(stream) in events
    assert bob.ended == [remote]
    assert alice.read(stream, 100) == b"three"
    assert not alice.streams
    assert not bob.streams


def test_an_end_never_travels_with_bytes() -> None:
    # go-yamux acts on the FIN of a data frame before its body, js-libp2p drops the body.
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, b"last words")
    alice.send_eof(stream)
    assert frames(sent(alice)) == [Frame(DATA, SYN, 1, 10, b"last words"), Frame(WINDOW, FIN, 1, 0)]


def test_an_end_that_travels_with_bytes_counts_behind_them() -> None:
    bob = server()
    whole = frame(DATA, SYN | FIN, 1, body=b"all of it")
    ends = []
    for piece in (whole[:15], whole[15:]):
        feed(bob, piece)
        ends.append(bob.streams[1].remote_fin)
    assert ends == [False, True]
    assert bob.read(bob.streams[1], 100) == b"all of it"


def test_send_eof_twice_says_it_once() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_eof(stream)
    alice.send_eof(stream)
    assert frames(sent(alice)) == [Frame(WINDOW, SYN, 1, 0), Frame(WINDOW, FIN, 1, 0)]


def test_nothing_can_be_sent_behind_the_end() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_eof(stream)
    with pytest.raises(StreamClosed):
        alice.send_data(stream, b"too late")


def test_bytes_behind_the_end_break_the_rules() -> None:
    bob = server()
    feed(bob, frame(WINDOW, SYN | FIN, 1, 0))
    with pytest.raises(RemoteProtocolError):
        feed(bob, frame(DATA, 0, 1, body=b"more"))


def test_a_frame_cut_anywhere_is_put_together_from_a_buffer_that_others_use() -> None:
    wire = frame(DATA, SYN, 1, body=b"some body")
    for cut in range(1, len(wire)):
        bob = server()
        buffer = bytearray(wire[:cut])
        bob.receive_data(memoryview(buffer), 0.0, [])
        buffer[:] = bytes(cut)
        bob.receive_data(wire[cut:], 0.0, [])
        stream = bob.streams[1]
        assert stream.read(4096) + (stream.read(4096) if stream.unread else b"") == b"some body"


def test_a_reader_is_told_once_until_it_has_read() -> None:
    bob = server()
    feed(bob, frame(WINDOW, SYN, 1, 0))
    stream = bob.streams[1]
    assert feed(bob, frame(DATA, 0, 1, body=b"one") + frame(DATA, 0, 1, body=b"two")) == [StreamReadable(stream)]
    assert bob.read(stream, 100) == b"onetwo"
    assert feed(bob, frame(DATA, 0, 1, body=b"three")) == [StreamReadable(stream)]


def test_an_empty_data_frame_is_nothing() -> None:
    bob = server()
    feed(bob, frame(WINDOW, SYN, 1, 0))
    assert feed(bob, frame(DATA, 0, 1)) == []


def test_small_writes_make_large_frames() -> None:
    alice = client()
    stream = alice.open_stream()
    for _ in range(200):
        alice.send_data(stream, b"x" * 512)
    sizes = [one.length for one in frames(sent(alice))]
    assert sum(sizes) == 200 * 512
    assert len(sizes) <= 3


def test_streams_take_turns() -> None:
    alice = client()
    bulk, quick = alice.open_stream(), alice.open_stream()
    alice.send_data(bulk, bytes(200_000))
    alice.send_data(quick, b"ping")
    order = [one.stream for one in frames(sent(alice))]
    assert order.index(quick.id) <= 1


def test_a_frame_stays_within_the_configured_size() -> None:
    alice = client(YamuxConfig(max_frame=1000))
    stream = alice.open_stream()
    alice.send_data(stream, bytes(4500))
    assert max(one.length for one in frames(sent(alice))) == 1000


# --- frames that are none -----------------------------------------------------------------------------


@pytest.mark.parametrize("header", [b"\x01" + bytes(11), b"\x00\x04" + bytes(10), b"\x00\xff" + bytes(10)])
def test_a_foreign_version_or_type_breaks_the_rules(header: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        feed(server(), header)
    assert caught.value.code == GoAway.PROTOCOL_ERROR


@pytest.mark.parametrize("kind", [DATA, WINDOW])
def test_stream_0_is_no_stream(kind: int) -> None:
    with pytest.raises(RemoteProtocolError):
        feed(server(), frame(kind, 0, 0, 0))


def test_a_record_of_thousands_of_frames_is_taken_in_parts() -> None:
    """What is left to be handed in again is not lost when others use the buffer."""
    bob = server()
    record = b"".join(frame(WINDOW, SYN, 1 + 2 * index, 0) for index in range(1000)) + frame(DATA, 0, 1, body=b"last")
    buffer = bytearray(record)
    parts = []
    rest: bytes | memoryview = memoryview(buffer)
    while rest:
        events: list[Event] = []
        rest = bob.receive_data(rest, 0.0, events)
        parts.append(len(events))
        buffer[:] = bytes(len(buffer))
    assert sum(parts) == 1001
    assert max(parts) <= 256
    assert bob.read(bob.streams[1], 100) == b"last"
