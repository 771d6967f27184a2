"""How streams and connections end: resets, closes, silence, go-aways."""

from __future__ import annotations

import pytest

from py_p2pstack.errors import (
    ConnectionClosed,
    LocalProtocolError,
    RemoteProtocolError,
    StreamReset,
)
from py_p2pstack.muxers.machine import Ponged, StreamEnded, WentAway
from py_p2pstack.muxers.yamux import YamuxConfig, YamuxMachine
from tests.muxers.yamux.wire import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
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

# --- resets -------------------------------------------------------------------------------------------


def test_a_reset_carries_its_code_both_ways() -> None:
    alice, bob = client(), server()
    stream = alice.open_stream()
    alice.send_data(stream, b"x")
    settle(alice, bob)
    remote = bob.streams[1]
    events: list[object] = []
    alice.reset(stream, 0x1234, events)  # type: ignore[arg-type]
    assert events == [StreamEnded(stream)]
    assert isinstance(stream.fault, StreamReset)
    assert (stream.fault.code, stream.fault.remote) == (0x1234, False)
    settle(alice, bob)
    assert isinstance(remote.fault, StreamReset)
    assert (remote.fault.code, remote.fault.remote) == (0x1234, True)
    assert bob.buffered == 0


def test_a_reset_without_a_code_is_code_0() -> None:
    bob = server()
    feed(bob, frame(DATA, SYN, 1, body=b"x"))
    stream = bob.streams[1]
    feed(bob, frame(DATA, RST, 1, body=b"body of a reset"))
    assert isinstance(stream.fault, StreamReset)
    assert stream.fault.code == 0
    assert bob.buffered == 0


def test_a_reset_is_said_once() -> None:
    alice, bob = client(), server()
    stream = alice.open_stream()
    settle(alice, bob)
    alice.reset(stream, 1, [])
    alice.reset(stream, 2, [])
    assert frames(sent(alice)) == [Frame(WINDOW, RST, 1, 1)]


def test_a_stream_the_peer_never_heard_of_is_reset_silently() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, b"unsent")
    alice.reset(stream, 1, [])
    assert sent(alice) == b""
    assert alice.queued == 0


def test_a_reset_drops_what_was_queued() -> None:
    alice, bob = client(), server()
    stream = alice.open_stream()
    settle(alice, bob)
    alice.send_data(stream, bytes(100_000))
    alice.reset(stream, 7, [])
    assert frames(sent(alice)) == [Frame(WINDOW, RST, 1, 7)]
    with pytest.raises(StreamReset):
        alice.send_data(stream, b"more")


def test_a_reset_of_an_ended_stream_gives_its_unread_bytes_back() -> None:
    bob = server()
    feed(bob, frame(DATA, SYN | FIN, 1, body=bytes(1000)))
    stream = bob.streams[1]
    bob.send_eof(stream)
    sent(bob)
    assert not bob.streams
    assert bob.buffered == 1000
    bob.reset(stream, 0, [])
    assert bob.buffered == 0


def test_frames_for_a_stream_that_is_gone_are_ignored() -> None:
    bob = server()
    late = [(DATA, 0), (WINDOW, 0), (WINDOW, ACK), (WINDOW, FIN), (WINDOW, RST), (DATA, FIN)]
    for kind, flags in late:
        assert feed(bob, frame(kind, flags, 99, body=b"late" if kind == DATA else b"")) == []
    assert not bob.has_output


# --- closing ------------------------------------------------------------------------------------------


def test_a_closed_stream_drops_what_comes_and_still_sends() -> None:
    alice, bob = client(), server()
    stream = alice.open_stream()
    alice.send_data(stream, b"question")
    alice.send_eof(stream)
    alice.discard(stream, 0.0)
    settle(alice, bob)
    remote = bob.streams[1]
    assert bob.read(remote, 100) == b"question"
    bob.send_data(remote, bytes(1000))
    bob.send_eof(remote)
    settle(alice, bob)
    assert alice.buffered == 0
    assert not alice.streams
    assert not bob.streams


def test_a_closed_stream_the_peer_keeps_open_is_reset_in_time() -> None:
    alice, bob = client(YamuxConfig(close_timeout=60.0)), server()
    stream = alice.open_stream()
    alice.send_eof(stream)
    alice.discard(stream, 0.0)
    settle(alice, bob)
    events: list[object] = []
    alice.handle_timeout(59.0, events)  # type: ignore[arg-type]
    assert events == []
    alice.handle_timeout(60.0, events)  # type: ignore[arg-type]
    assert events == [StreamEnded(stream)]
    assert Frame(WINDOW, RST, 1, 0) in frames(sent(alice))


def test_a_closed_stream_is_forgotten_when_it_ends() -> None:
    alice, bob = client(), server()
    for _ in range(50):
        stream = alice.open_stream()
        alice.send_eof(stream)
        alice.discard(stream, 0.0)
        settle(alice, bob)
        bob.send_eof(bob.streams[stream.id])
        settle(alice, bob)
        bob.ended.clear()
    assert not alice._closing
    assert not alice.streams


# --- pings, and the end of a connection ---------------------------------------------------------------


def test_a_ping_is_answered_with_its_value() -> None:
    bob = server()
    feed(bob, frame(PING, SYN, 0, 0xDEADBEEF))
    assert frames(sent(bob)) == [Frame(PING, ACK, 0, 0xDEADBEEF)]


def test_a_ping_of_ours_measures_the_round_trip() -> None:
    alice, bob = client(), server()
    alice.ping(10.0)
    feed(bob, sent(alice), 10.1)
    (answered,) = feed(alice, sent(bob), 10.25)
    assert isinstance(answered, Ponged)
    assert alice.round_trips.last == pytest.approx(0.25)


def test_an_answer_to_no_ping_is_ignored() -> None:
    alice = client()
    assert feed(alice, frame(PING, ACK, 0, 1)) == []
    alice.ping(0.0)
    assert feed(alice, frame(PING, ACK, 0, 999)) == []
    assert alice.round_trips.last is None


def test_one_ping_is_on_its_way_at_a_time() -> None:
    alice = client()
    assert alice.ping(0.0) == alice.ping(1.0)
    assert len(frames(sent(alice))) == 1


def test_the_keepalive_pings_every_interval() -> None:
    alice, bob = client(YamuxConfig(keepalive_interval=30.0)), server()
    pings = 0
    for second in range(100):
        alice.handle_timeout(float(second), [])
        pings += len(frames(sent_and_answered(alice, bob, float(second))))
    assert pings == 4  # at 0, 30, 60 and 90 s


def sent_and_answered(alice: YamuxMachine, bob: YamuxMachine, now: float) -> bytes:
    """What alice said; bob has answered it."""
    said = sent(alice)
    feed(bob, said, now)
    feed(alice, sent(bob), now)
    return said


def test_a_silent_peer_is_dead_after_the_timeout() -> None:
    alice = client(YamuxConfig(keepalive_timeout=20.0))
    alice.ping(0.0)
    alice.handle_timeout(19.9, [])
    with pytest.raises(RemoteProtocolError, match="ping"):
        alice.handle_timeout(20.0, [])


def test_any_byte_is_a_sign_of_life() -> None:
    alice = client(YamuxConfig(keepalive_timeout=20.0))
    alice.ping(0.0)
    feed(alice, frame(WINDOW, 0, 99, 0), now=15.0)
    alice.handle_timeout(34.9, [])
    with pytest.raises(RemoteProtocolError):
        alice.handle_timeout(35.0, [])


def test_a_go_away_stands_behind_everything_queued() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, bytes(100_000))
    alice.go_away(0x1006)
    alice.go_away(0x1007)
    alice.send_eof(stream)
    said = frames(sent(alice))
    assert said[-1] == Frame(GO_AWAY, 0, 0, 0x1006)
    assert said[-2] == Frame(WINDOW, FIN, 1, 0)
    assert [one.kind for one in said].count(GO_AWAY) == 1


def test_a_go_away_does_not_wait_for_the_peers_window() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, bytes(300_000))
    alice.go_away(0)
    assert frames(sent(alice))[-1].kind == GO_AWAY


def test_after_our_go_away_nobody_opens_a_stream() -> None:
    alice = client()
    alice.go_away(0)
    with pytest.raises(LocalProtocolError):
        alice.open_stream()
    feed(alice, frame(WINDOW, SYN, 2, 0))
    assert Frame(WINDOW, RST, 2, 0x1007) in frames(sent(alice))


def test_after_the_peers_go_away_streams_go_on_but_none_is_opened() -> None:
    alice, bob = client(), server()
    stream = alice.open_stream()
    settle(alice, bob)
    assert feed(alice, frame(GO_AWAY, 0, 0, 0)) == [WentAway(0)]
    with pytest.raises(LocalProtocolError):
        alice.open_stream()
    alice.send_data(stream, b"still here")
    settle(alice, bob)
    assert bob.read(bob.streams[1], 100) == b"still here"


def test_the_end_of_a_connection_ends_every_stream() -> None:
    alice, bob = client(), server()
    open_one, ended_one = alice.open_stream(), alice.open_stream()
    settle(alice, bob)
    bob.send_data(bob.streams[ended_one.id], b"complete")
    bob.send_eof(bob.streams[ended_one.id])
    settle(alice, bob)
    alice.send_data(open_one, b"unsent")
    events: list[object] = []
    alice.fail_all(ConnectionClosed(code=3), events)  # type: ignore[arg-type]
    assert events == [StreamEnded(open_one), StreamEnded(ended_one)]
    assert not alice.has_output
    assert alice.queued == 0
    # what had arrived to its end can still be read
    assert alice.read(ended_one, 100) == b"complete"
    assert ended_one.remote_fin
    assert isinstance(open_one.fault, ConnectionClosed)


def test_a_closing_connection_flushes_what_its_streams_queued() -> None:
    alice = client()
    stream = alice.open_stream()
    alice.send_data(stream, b"last words")
    alice.send_eof(stream)
    alice.fail_all(ConnectionClosed(), [], flush=True)
    alice.go_away(0)
    assert frames(sent(alice)) == [
        Frame(DATA, SYN, 1, 10, b"last words"),
        Frame(WINDOW, FIN, 1, 0),
        Frame(GO_AWAY, 0, 0, 0),
    ]
    assert alice.queued == 0
