"""Flow control both ways: nobody sends beyond a window, and windows open with consumption only."""

from __future__ import annotations

import pytest

from py_p2pstack.core.muxer import MemoryBudget
from py_p2pstack.errors import RemoteProtocolError, ResourceLimitExceeded, StreamReset
from py_p2pstack.muxers.stream_state import StreamState
from py_p2pstack.muxers.yamux import YamuxConfig, YamuxMachine
from tests.muxers.yamux.wire import (
    ACK,
    DATA,
    PING,
    SYN,
    WINDOW,
    WINDOW_SIZE,
    Frame,
    client,
    feed,
    frame,
    frames,
    sent,
    server,
    settle,
)


def opened(bob: YamuxMachine, stream_id: int = 1) -> StreamState:
    feed(bob, frame(WINDOW, SYN, stream_id, 0))
    sent(bob)
    return bob.streams[stream_id]


def consume(machine: YamuxMachine, stream: StreamState, now: float) -> None:
    """Read all there is, as a session does."""
    while stream.unread:
        machine.read(stream, 65536)
        if stream.consumed * 2 >= stream.capacity:
            machine.update_window(stream, now)


def test_we_send_no_more_than_the_peers_window() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, bytes(WINDOW_SIZE + 1000))
    assert sum(one.length for one in frames(sent(alice)) if one.kind == DATA) == WINDOW_SIZE
    assert not alice.has_output
    feed(alice, frame(WINDOW, ACK, 1, 600))
    assert [one.length for one in frames(sent(alice))] == [600]


def test_a_full_window_holds_up_no_other_stream() -> None:
    alice = client()
    full, other = alice.open_stream(), alice.open_stream()
    alice.send_data(full, bytes(2 * WINDOW_SIZE))
    sent(alice)
    alice.send_data(other, b"free")
    assert frames(sent(alice)) == [Frame(DATA, 0, other.id, 4, b"free")]


def test_an_end_waits_for_the_window_with_the_bytes_before_it() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, bytes(WINDOW_SIZE + 1))
    alice.send_eof(stream)
    assert all(not one.flags & 4 for one in frames(sent(alice)))
    feed(alice, frame(WINDOW, ACK, 1, 1))
    assert [(one.kind, one.flags) for one in frames(sent(alice))] == [(DATA, 0), (WINDOW, 4)]


def test_the_peer_may_fill_the_window_to_the_last_byte_and_no_more() -> None:
    bob = server()
    stream = opened(bob)
    feed(bob, frame(DATA, 0, 1, body=bytes(WINDOW_SIZE)))
    assert stream.unread == WINDOW_SIZE
    with pytest.raises(RemoteProtocolError, match="window"):
        feed(bob, frame(DATA, 0, 1, body=b"x"))


def test_a_frame_over_the_window_is_refused_by_its_header_alone() -> None:
    # CVE-2026-32314: nothing is stored, not even what would have fitted.
    bob = server()
    stream = opened(bob)
    with pytest.raises(RemoteProtocolError):
        feed(bob, frame(DATA, 0, 1, WINDOW_SIZE + 1, b"x" * 100))
    assert stream.unread == 0


def test_a_syn_with_a_body_over_the_window_makes_no_stream() -> None:
    bob = server()
    with pytest.raises(RemoteProtocolError):
        feed(bob, frame(DATA, SYN, 1, WINDOW_SIZE + 1))
    assert not bob.streams


@pytest.mark.parametrize("delta", [0xFFFFFFFF, 0xFFFFFFFF - WINDOW_SIZE + 1])
def test_a_window_update_that_overflows_breaks_the_rules(delta: int) -> None:
    # CVE-2026-31814
    bob = server()
    opened(bob)
    with pytest.raises(RemoteProtocolError, match="overflow"):
        feed(bob, frame(WINDOW, 0, 1, delta))


def test_a_window_may_reach_the_largest_number() -> None:
    bob = server()
    stream = opened(bob)
    feed(bob, frame(WINDOW, 0, 1, 0xFFFFFFFF - WINDOW_SIZE))
    assert stream.send_window == 0xFFFFFFFF


def test_a_huge_frame_for_no_stream_breaks_the_rules() -> None:
    with pytest.raises(RemoteProtocolError):
        feed(server(), frame(DATA, 0, 7, 16 * 1024 * 1024 + 1))


def test_the_window_opens_with_consumption_not_with_arrival() -> None:
    bob = server()
    stream = opened(bob)
    feed(bob, frame(DATA, 0, 1, body=bytes(WINDOW_SIZE)))
    assert not bob.has_output
    consume(bob, stream, 1.0)
    assert sum(one.length for one in frames(sent(bob))) == WINDOW_SIZE


def test_an_update_comes_at_half_a_window() -> None:
    bob = server()
    stream = opened(bob)
    feed(bob, frame(DATA, 0, 1, body=bytes(WINDOW_SIZE // 2 - 1)))
    consume(bob, stream, 1.0)
    assert not bob.has_output
    feed(bob, frame(DATA, 0, 1, body=b"x"))
    consume(bob, stream, 1.0)
    assert frames(sent(bob)) == [Frame(WINDOW, 0, 1, WINDOW_SIZE // 2)]


def test_no_update_follows_the_peers_end() -> None:
    bob = server()
    stream = opened(bob)
    feed(bob, frame(DATA, 4, 1, body=bytes(WINDOW_SIZE)))
    consume(bob, stream, 1.0)
    assert not bob.has_output


def measure(bob: YamuxMachine, now: float, seconds: float) -> None:
    """Let a ping of bob's be answered at `now`, having taken so long."""
    opaque = bob.ping(now - seconds)
    sent(bob)
    feed(bob, frame(PING, ACK, 0, opaque), now=now)


def quick_reader(config: YamuxConfig, streams: int = 1, budget: MemoryBudget | None = None) -> YamuxMachine:
    """A server with a round trip of 150 ms, whose application reads half a window each 100 ms."""
    bob = server(config)
    if budget is not None:
        bob.charge(budget)
    measure(bob, 0.0, 0.15)
    for index in range(streams):
        feed(bob, frame(WINDOW, SYN, 1 + 2 * index, 0))
    for turn in range(1, 13):
        now = turn * 0.1
        for stream in bob.streams.values():
            room = min(stream.receive_window, stream.capacity // 2)
            feed(bob, frame(DATA, 0, stream.id, body=bytes(room)), now=now)
            consume(bob, stream, now)
            sent(bob)
        measure(bob, now + 0.09, 0.15)
    return bob


def test_the_window_of_a_quick_reader_doubles_up_to_its_bound() -> None:
    (stream,) = quick_reader(YamuxConfig(max_window=1024 * 1024)).streams.values()
    assert stream.capacity == 1024 * 1024
    assert stream.receive_window <= stream.capacity


def half_a_window(bob: YamuxMachine, stream: StreamState, now: float) -> None:
    """Receive half of the window and consume it."""
    feed(bob, frame(DATA, 0, stream.id, body=bytes(stream.capacity // 2)), now=now)
    consume(bob, stream, now)


def test_each_doubling_of_a_window_waits_for_a_round_trip_measured_since_the_last() -> None:
    bob = server()
    measure(bob, 0.0, 0.1)
    stream = opened(bob)
    half_a_window(bob, stream, 0.05)
    assert stream.capacity == 2 * WINDOW_SIZE
    sent(bob)
    for now in (0.1, 0.15):
        half_a_window(bob, stream, now)
        assert stream.capacity == 2 * WINDOW_SIZE
    (ping,) = [each for each in frames(sent(bob)) if each.kind == PING]
    feed(bob, frame(PING, ACK, 0, ping.length), now=0.19)
    half_a_window(bob, stream, 0.2)
    assert stream.capacity == 4 * WINDOW_SIZE


def test_a_window_grows_while_half_of_it_lasts_less_than_two_round_trips_and_a_large_one_than_one() -> None:
    bob = server()
    stream = opened(bob)
    now = 0.0
    for round_trips, capacity in ((2.0, 1), (1.9, 2), (1.9, 4), (1.1, 4), (0.9, 8)):
        measure(bob, now + 0.05, 0.1)
        now += round_trips * 0.1
        half_a_window(bob, stream, now)
        sent(bob)
        assert stream.capacity == capacity * WINDOW_SIZE


def test_a_round_trip_inflated_by_load_lets_no_window_grow() -> None:
    bob = server()
    measure(bob, 0.0, 0.01)
    measure(bob, 1.0, 1.0)
    stream = opened(bob)
    half_a_window(bob, stream, 0.9)
    half_a_window(bob, stream, 1.1)
    assert stream.capacity == WINDOW_SIZE
    assert bob.round_trips.last == pytest.approx(1.0)


def test_the_best_round_trip_is_forgotten_after_a_minute() -> None:
    bob = server()
    measure(bob, 0.0, 0.01)
    measure(bob, 30.0, 0.5)
    assert bob.round_trips.best == pytest.approx(0.01)
    measure(bob, 61.0, 0.5)
    assert bob.round_trips.best == pytest.approx(0.5)


def test_the_window_of_a_slow_reader_stays() -> None:
    bob = server()
    measure(bob, 0.0, 0.1)
    stream = opened(bob)
    for second in range(1, 20):
        feed(bob, frame(DATA, 0, 1, body=bytes(WINDOW_SIZE // 2)), now=float(second))
        consume(bob, stream, float(second))
        sent(bob)
    assert stream.capacity == WINDOW_SIZE


def test_without_a_round_trip_time_no_window_grows() -> None:
    bob = server()
    stream = opened(bob)
    for _ in range(10):
        feed(bob, frame(DATA, 0, 1, body=bytes(WINDOW_SIZE // 2)))
        consume(bob, stream, 0.0)
        sent(bob)
    assert stream.capacity == WINDOW_SIZE


def test_all_windows_together_grow_no_further_than_their_bound() -> None:
    bob = quick_reader(YamuxConfig(max_total_growth=1024 * 1024), streams=8)
    grown = sum(stream.capacity - WINDOW_SIZE for stream in bob.streams.values())
    assert grown == 1024 * 1024
    # and it comes back with the streams
    for stream in list(bob.streams.values()):
        bob.reset(stream, 0, [])
    assert bob._growth.total == 0


class Budget:
    """A `MemoryBudget` of so many bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def reserve_memory(self, size: int, priority: int) -> None:
        if self.held + size > self.limit * (priority + 1) // 256:
            raise ResourceLimitExceeded("memory", self.limit, self.held + size)
        self.held += size

    def release_memory(self, size: int) -> None:
        self.held -= size


def test_what_windows_grow_by_is_charged_and_what_the_budget_has_not_got_they_do_without() -> None:
    budget = Budget(2 * 1024 * 1024)
    bob = quick_reader(YamuxConfig(), streams=8, budget=budget)
    grown = sum(stream.capacity - WINDOW_SIZE for stream in bob.streams.values())
    assert grown == budget.held == 1024 * 1024  # half of it: windows never take all
    for stream in list(bob.streams.values()):
        bob.reset(stream, 0, [])
    assert budget.held == 0


def test_unread_bytes_of_all_streams_together_are_bounded() -> None:
    bob = server(YamuxConfig(max_buffered=300_000))
    first, second = opened(bob, 1), opened(bob, 3)
    feed(bob, frame(DATA, 0, 1, body=bytes(200_000)))
    feed(bob, frame(DATA, 0, 3, body=bytes(100_001)))
    assert isinstance(second.fault, StreamReset)
    assert first.fault is None
    assert bob.buffered == 200_000
    assert Frame(WINDOW, 8, 3, 0x1002) in frames(sent(bob))


def test_a_transfer_passes_a_small_window_whole() -> None:
    alice, bob = client(), server()
    stream = alice.open_stream()
    payload = bytes(range(256)) * 8192  # 2 MiB
    alice.send_data(stream, payload)
    alice.send_eof(stream)
    received = bytearray()
    for _ in range(1000):
        settle(alice, bob)
        remote = bob.streams[1]
        while remote.unread:
            received += bob.read(remote, 50_000)
            if remote.consumed * 2 >= remote.capacity:
                bob.update_window(remote, 0.0)
        if remote.remote_fin:
            break
    assert received == payload


def test_what_is_dropped_on_a_closed_stream_opens_its_window_again() -> None:
    bob = server()
    stream = opened(bob)
    bob.discard(stream, 0.0)
    for _ in range(4):
        feed(bob, frame(DATA, 0, 1, body=bytes(WINDOW_SIZE // 2)))
        sent(bob)
    assert bob.buffered == 0
    assert stream.receive_window == WINDOW_SIZE
