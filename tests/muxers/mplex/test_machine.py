"""mplex, message by message: what is said on the wire, and what a peer may not do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py_p2pstack.core.error_codes import ConnectionCode
from py_p2pstack.errors import (
    ConnectionClosed,
    LocalProtocolError,
    RemoteProtocolError,
    ResourceLimitExceeded,
    StreamClosed,
    StreamReset,
)
from py_p2pstack.muxers.machine import Event, StreamEnded, StreamOpened, StreamReadable
from py_p2pstack.muxers.mplex import MplexConfig
from py_p2pstack.muxers.mplex.codec import Flag, decode_header, encode_header
from py_p2pstack.muxers.mplex.config import MAX_MESSAGE
from py_p2pstack.muxers.mplex.machine import MplexMachine
from py_p2pstack.muxers.stream_state import StreamState
from py_p2pstack.wire import varint

ROOM = 65519


def message(stream: int, flag: int, body: bytes = b"") -> bytes:
    return encode_header(stream, flag, len(body)) + body


def said(machine: MplexMachine, room: int = ROOM) -> list[tuple[int, Flag, bytes]]:
    """Everything the machine has to say, taken apart."""
    data = bytearray()
    while machine.has_output:
        pieces = machine.next_record(room)
        assert sum(map(len, pieces)) <= room
        data += b"".join(pieces)
    found = []
    position = 0
    while position < len(data):
        header = decode_header(bytes(data), position)
        assert header is not None
        stream, flag, size, start = header
        found.append((stream, Flag(flag), bytes(data[start : start + size])))
        position = start + size
    return found


def feed(machine: MplexMachine, data: bytes, now: float = 0.0) -> list[Event]:
    events: list[Event] = []
    while data:
        data = machine.receive_data(data, now, events)
    return events


def opened(machine: MplexMachine, number: int = 0) -> StreamState:
    """A stream the peer opens."""
    [event] = feed(machine, message(number, Flag.NEW_STREAM, b"name"))
    assert isinstance(event, StreamOpened)
    return event.stream


def machine(**config: float) -> MplexMachine:
    return MplexMachine(MplexConfig(**config))  # type: ignore[arg-type]


# --- what is said -----------------------------------------------------------------------------------


def test_a_stream_is_told_of_with_its_first_bytes_and_closed_behind_its_last() -> None:
    alice = machine()
    first, second = alice.open_stream(), alice.open_stream()
    alice.send_data(first, b"hello")
    alice.send_eof(first)
    alice.send_eof(first)
    assert said(alice) == [
        (0, Flag.NEW_STREAM, b""),
        (0, Flag.MESSAGE_INITIATOR, b"hello"),
        (0, Flag.CLOSE_INITIATOR, b""),
        (1, Flag.NEW_STREAM, b""),
    ]
    assert (first.id, second.id) == (0, 1)
    with pytest.raises(StreamClosed):
        alice.send_data(first, b"more")


def test_answers_carry_the_receivers_flags() -> None:
    bob = machine()
    stream = opened(bob, 7)
    bob.send_data(stream, b"answer")
    bob.send_eof(stream)
    assert said(bob) == [(7, Flag.MESSAGE_RECEIVER, b"answer"), (7, Flag.CLOSE_RECEIVER, b"")]


def test_both_sides_count_their_streams_for_themselves() -> None:
    alice = machine()
    mine, theirs = alice.open_stream(), opened(alice, 0)
    feed(alice, message(0, Flag.MESSAGE_RECEIVER, b"mine") + message(0, Flag.MESSAGE_INITIATOR, b"theirs"))
    assert (alice.read(mine, 100), alice.read(theirs, 100)) == (b"mine", b"theirs")


def test_large_writes_are_cut_and_streams_take_turns() -> None:
    alice = machine(max_frame=10_000)
    one, other = alice.open_stream(), alice.open_stream()
    alice.send_data(one, bytes(25_000))
    alice.send_data(other, bytes(5_000))
    sizes = [(stream, len(body)) for stream, flag, body in said(alice) if flag is Flag.MESSAGE_INITIATOR]
    assert sizes == [(0, 10_000), (1, 5_000), (0, 10_000), (0, 5_000)]


def test_resets_go_first_and_one_never_heard_of_needs_none() -> None:
    alice = machine()
    known, unknown = alice.open_stream(), alice.open_stream()
    alice.send_data(known, b"x")
    alice.next_record(ROOM)
    fresh = alice.open_stream()
    theirs = opened(alice, 5)
    events: list[Event] = []
    for stream in (known, theirs, fresh):
        alice.reset(stream, 9, events)
    assert unknown.fault is None
    assert said(alice) == [(0, Flag.RESET_INITIATOR, b""), (5, Flag.RESET_RECEIVER, b"")]
    assert len([event for event in events if isinstance(event, StreamEnded)]) == 3


# --- what comes -------------------------------------------------------------------------------------


def test_bytes_and_ends_are_told_and_both_ends_forget_the_stream() -> None:
    bob = machine()
    stream = opened(bob)
    events = feed(bob, message(0, Flag.MESSAGE_INITIATOR, b"bytes") + message(0, Flag.CLOSE_INITIATOR))
    assert events == [StreamReadable(stream), StreamReadable(stream)]
    assert bob.read(stream, 3) + bob.read(stream, 3) == b"bytes"
    bob.send_eof(stream)
    said(bob)
    assert bob.ended == [stream]
    assert not bob.streams


def test_a_reset_by_the_peer_drops_what_was_not_read() -> None:
    bob = machine()
    stream = opened(bob)
    feed(bob, message(0, Flag.MESSAGE_INITIATOR, b"unread"))
    assert feed(bob, message(0, Flag.RESET_INITIATOR)) == [StreamEnded(stream)]
    assert isinstance(stream.fault, StreamReset)
    assert stream.fault.remote
    assert (bob.buffered, stream.unread, len(bob.streams)) == (0, 0, 0)
    with pytest.raises(StreamReset):
        bob.send_data(stream, b"x")


def test_messages_of_streams_that_have_ended_are_dropped() -> None:
    bob = machine()
    late = b"".join(message(3, flag, b"late" * (flag < 3)) for flag in list(Flag)[1:])
    assert feed(bob, late) == []
    assert bob.buffered == 0


@settings(max_examples=60)
@given(st.lists(st.integers(1, 9), max_size=40))
def test_any_cuts_give_the_same(cuts: list[int]) -> None:
    bob = machine()
    wire = message(300, Flag.NEW_STREAM, b"a name") + message(300, Flag.MESSAGE_INITIATOR, bytes(range(200)))
    wire += message(300, Flag.CLOSE_INITIATOR)
    events: list[Event] = []
    for cut in cuts or [1] * len(wire):
        events += feed(bob, wire[:cut])
        wire = wire[cut:]
    events += feed(bob, wire)
    stream = next(event.stream for event in events if isinstance(event, StreamOpened))
    assert b"".join(iter(lambda: bob.read(stream, 64) if stream.unread else b"", b"")) == bytes(range(200))
    assert stream.remote_fin


@given(st.binary(max_size=400))
def test_garbage_is_a_typed_error_or_understood(data: bytes) -> None:
    try:
        feed(machine(), data)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        varint.encode(7) + b"\x00",
        encode_header(0, Flag.NEW_STREAM, MAX_MESSAGE + 1),
        b"\xff" * 10,
        b"\x80\x00\x00",
        message(1, Flag.NEW_STREAM) * 2,
        message(1, Flag.NEW_STREAM) + message(1, Flag.CLOSE_INITIATOR) + message(1, Flag.MESSAGE_INITIATOR, b"x"),
    ],
    ids=["unknown flag", "over a mebibyte", "long varint", "long form", "opened twice", "bytes behind the end"],
)
def test_violations_end_the_connection(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        feed(machine(), data)


def test_a_message_of_a_mebibyte_is_taken_in_pieces() -> None:
    bob = machine()
    stream = opened(bob)
    feed(bob, encode_header(0, Flag.MESSAGE_INITIATOR, MAX_MESSAGE))
    for _ in range(16):
        feed(bob, bytes(65536))
        assert len(bob.read(stream, 65536)) == 65536
    assert (bob.buffered, bob._body_left) == (0, 0)


# --- bounds -----------------------------------------------------------------------------------------


def test_a_stream_nobody_reads_is_full_until_half_of_it_is_read() -> None:
    bob = machine(max_unread=1000)
    rooms: list[int] = []
    bob.on_room = lambda: rooms.append(len(bob.full))
    stream, other = opened(bob, 0), opened(bob, 1)
    feed(bob, message(0, Flag.MESSAGE_INITIATOR, bytes(1000)))
    assert not bob.full
    feed(bob, message(0, Flag.MESSAGE_INITIATOR, bytes(200)) + message(1, Flag.MESSAGE_INITIATOR, bytes(1001)))
    assert list(bob.full) == [stream, other]
    bob.read(stream, 600)
    assert list(bob.full) == [stream, other]
    bob.read(stream, 100)
    assert list(bob.full) == [other]
    assert rooms == []
    bob.discard(other, 0.0)
    assert rooms == [0]


def test_all_streams_together_hold_no_more_than_their_bound() -> None:
    bob = machine(max_buffered=1000, max_unread=900)
    first, second = opened(bob, 0), opened(bob, 1)
    feed(bob, message(0, Flag.MESSAGE_INITIATOR, bytes(800)))
    feed(bob, message(1, Flag.MESSAGE_INITIATOR, bytes(300)))
    assert first.fault is None
    assert isinstance(second.fault, StreamReset)
    assert bob.buffered == 800


def test_streams_of_the_peer_are_bounded_and_so_is_their_refusal() -> None:
    bob = machine(max_inbound_streams=2, max_resets=3, resets_per_second=1.0)
    opened(bob, 0)
    opened(bob, 1)
    feed(bob, message(2, Flag.NEW_STREAM))
    assert said(bob) == [(2, Flag.RESET_RECEIVER, b"")]
    feed(bob, message(3, Flag.NEW_STREAM) + message(4, Flag.NEW_STREAM))
    with pytest.raises(RemoteProtocolError) as caught:
        feed(bob, message(5, Flag.NEW_STREAM))
    assert caught.value.code == ConnectionCode.RATE_LIMITED


def test_resets_by_the_peer_are_rated_and_earned_back() -> None:
    bob = machine(max_resets=2, resets_per_second=1.0)
    for number in range(2):
        feed(bob, message(number, Flag.NEW_STREAM) + message(number, Flag.RESET_INITIATOR))
    feed(bob, message(2, Flag.NEW_STREAM) + message(2, Flag.RESET_INITIATOR), now=5.0)
    with pytest.raises(RemoteProtocolError):
        feed(bob, b"".join(message(n, Flag.NEW_STREAM) + message(n, Flag.RESET_INITIATOR) for n in (3, 4)), now=5.0)


def test_a_peer_that_opens_streams_and_reads_no_answer_is_cut_off() -> None:
    bob = machine(max_inbound_streams=0, max_control=100, max_resets=10_000)
    with pytest.raises(RemoteProtocolError, match="reads no answer"):
        feed(bob, b"".join(message(number, Flag.NEW_STREAM) for number in range(200)))


def test_our_own_streams_are_bounded() -> None:
    alice = machine(max_outbound_streams=2)
    streams = [alice.open_stream() for _ in range(2)]
    assert alice.open_slots == 0
    with pytest.raises(ResourceLimitExceeded):
        alice.open_stream()
    alice.reset(streams[0], 0, [])
    assert alice.open_slots == 1


def test_streams_opened_and_reset_leave_nothing_while_nobody_sends() -> None:
    alice = machine()
    for _ in range(5000):
        alice.reset(alice.open_stream(), 0, [])
    assert len(alice._ready) < 100
    assert said(alice) == []


def test_a_flood_of_small_messages_is_taken_in_turns() -> None:
    bob = machine()
    stream = opened(bob)
    rest = bob.receive_data(message(0, Flag.MESSAGE_INITIATOR, b"x") * 1000, 0.0, [])
    assert 0 < len(rest) < 3000
    assert stream.unread == 256


# --- ends -------------------------------------------------------------------------------------------


def test_a_stream_we_closed_is_reset_when_the_peer_never_closes_it() -> None:
    bob = machine(close_timeout=60.0)
    stream = opened(bob)
    bob.send_eof(stream)
    bob.discard(stream, 0.0)
    feed(bob, message(0, Flag.MESSAGE_INITIATOR, bytes(1000)))
    assert bob.buffered == 0
    said(bob)
    events: list[Event] = []
    bob.handle_timeout(59.0, events)
    assert events == []
    bob.handle_timeout(60.0, events)
    assert events == [StreamEnded(stream)]
    assert said(bob) == [(0, Flag.RESET_RECEIVER, b"")]


def test_after_a_go_away_nothing_is_opened_by_either_side() -> None:
    alice = machine()
    alice.go_away(0)
    with pytest.raises(LocalProtocolError):
        alice.open_stream()
    assert feed(alice, message(0, Flag.NEW_STREAM)) == []
    assert said(alice) == [(0, Flag.RESET_RECEIVER, b"")]


@pytest.mark.parametrize("flush", [True, False])
def test_the_end_of_a_connection_ends_all_streams_and_may_let_out_what_was_queued(flush: bool) -> None:
    alice = machine()
    stream = alice.open_stream()
    alice.send_data(stream, b"last words")
    events: list[Event] = []
    alice.fail_all(ConnectionClosed("over"), events, flush=flush)
    assert events == [StreamEnded(stream)]
    assert [body for _, _, body in said(alice)] == ([b"", b"last words"] if flush else [])
    assert (len(alice.streams), alice.queued) == (0, 0)


def test_it_has_no_pings_and_no_windows() -> None:
    alice = machine()
    assert alice.ping(0.0) == 0
    alice.update_window(alice.open_stream(), 0.0)
    assert (alice.rtt, alice.went_away) == (None, None)
    assert (alice.stall_timeout, alice.open_timeout) == (5.0, 10.0)
