"""Two machines, arbitrary chunking, arbitrary bytes: what was sent is what arrives, and nothing else is ever raised."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.muxers.machine import Event, StreamOpened
from py_p2pstack.muxers.stream_state import StreamState
from py_p2pstack.muxers.yamux import YamuxConfig, YamuxMachine
from py_p2pstack.muxers.yamux.codec import pack
from tests.muxers.yamux.wire import WINDOW_SIZE

SIZES = st.sampled_from([0, 1, 5, 511, 4095, 4096, 9_000, 65_519, 65_536, 200_000])


class Side:
    """A machine, its wire to the other side, and what its streams sent and read."""

    def __init__(self, *, client: bool) -> None:
        self.machine = YamuxMachine(YamuxConfig(max_unacknowledged=8, max_inbound_streams=16), client=client)
        self.wire = bytearray()
        self.sent: dict[int, bytearray] = {}
        self.closed: set[int] = set()
        self.read: dict[int, bytearray] = {}
        self.reset: set[int] = set()
        self.known: dict[int, StreamState] = {}


class Conversation(RuleBasedStateMachine):
    """Opens, sends, reads, closes and resets on both sides, with the wire cut into arbitrary pieces."""

    @initialize()
    def connect(self) -> None:
        self.now = 0.0
        self.sides = (Side(client=True), Side(client=False))

    def pick(self, side: int, index: int) -> tuple[Side, StreamState] | None:
        one = self.sides[side]
        known = list(one.known.values())
        return (one, known[index % len(known)]) if known else None

    @rule(side=st.integers(0, 1))
    def open(self, side: int) -> None:
        one = self.sides[side]
        if one.machine.open_slots > 0:
            stream = one.machine.open_stream()
            one.known[stream.id] = stream

    @rule(side=st.integers(0, 1), index=st.integers(0, 31), size=SIZES, fill=st.integers(0, 255))
    def send(self, side: int, index: int, size: int, fill: int) -> None:
        if picked := self.pick(side, index):
            one, stream = picked
            if stream.fault is None and not stream.fin_queued and stream.queued < 2**20:
                data = bytes([fill]) * size
                one.machine.send_data(stream, data)
                one.sent.setdefault(stream.id, bytearray()).extend(data)

    @rule(side=st.integers(0, 1), index=st.integers(0, 31), max_bytes=st.sampled_from([1, 100, 5000, 65536]))
    def read(self, side: int, index: int, max_bytes: int) -> None:
        if picked := self.pick(side, index):
            one, stream = picked
            if stream.unread:
                data = one.machine.read(stream, max_bytes)
                assert 0 < len(data) <= max_bytes
                one.read.setdefault(stream.id, bytearray()).extend(data)
                if stream.consumed * 2 >= stream.capacity:
                    one.machine.update_window(stream, self.now)

    @rule(side=st.integers(0, 1), index=st.integers(0, 31))
    def close(self, side: int, index: int) -> None:
        if picked := self.pick(side, index):
            one, stream = picked
            one.machine.send_eof(stream)
            if stream.fin_queued:
                one.closed.add(stream.id)

    @rule(side=st.integers(0, 1), index=st.integers(0, 31))
    def reset(self, side: int, index: int) -> None:
        if picked := self.pick(side, index):
            one, stream = picked
            events: list[Event] = []
            one.machine.reset(stream, 7, events)
            for each in self.sides:
                each.reset.add(stream.id)

    @rule(side=st.integers(0, 1))
    def ping(self, side: int) -> None:
        self.sides[side].machine.ping(self.now)

    @rule(side=st.integers(0, 1), room=st.sampled_from([2048, 16_384, 65_519]))
    def pull(self, side: int, room: int) -> None:
        one = self.sides[side]
        if one.machine.has_output:
            one.wire += b"".join(one.machine.next_record(room))

    @precondition(lambda self: any(side.wire for side in self.sides))
    @rule(side=st.integers(0, 1), count=st.sampled_from([1, 7, 12, 13, 4_000, 65_519, 10**6]))
    def carry(self, side: int, count: int) -> None:
        self.now += 0.001
        one, other = self.sides[side], self.sides[1 - side]
        piece, one.wire = bytes(one.wire[:count]), one.wire[count:]
        events: list[Event] = []
        while piece:
            piece = other.machine.receive_data(piece, self.now, events)
        for event in events:
            if isinstance(event, StreamOpened):
                other.known[event.stream.id] = event.stream

    @invariant()
    def what_is_read_is_what_was_sent(self) -> None:
        for one, other in (self.sides, self.sides[::-1]) if hasattr(self, "sides") else ():
            for stream_id, data in one.read.items():
                assert other.sent.get(stream_id, b"")[: len(data)] == data

    @invariant()
    def the_books_balance(self) -> None:
        for one in getattr(self, "sides", ()):
            machine = one.machine
            assert machine.buffered == sum(stream.unread for stream in one.known.values())
            assert machine.queued == sum(stream.queued for stream in one.known.values())
            assert machine._inbound == sum(stream.inbound for stream in machine.streams.values())
            assert machine._unacknowledged == sum(stream.unacknowledged for stream in machine.streams.values())
            for stream in machine.streams.values():
                assert stream.unread + stream.receive_window <= stream.capacity
                assert sum(map(len, stream.received)) == stream.unread
                assert sum(map(len, stream.to_send)) == stream.queued

    def teardown(self) -> None:
        """In the end everything that was sent on streams nobody reset has arrived."""
        if not hasattr(self, "sides"):
            return
        for _ in range(2000):
            idle = True
            for side in (0, 1):
                one = self.sides[side]
                while one.machine.has_output:
                    self.pull(side, 65_519)
                    idle = False
                if one.wire:
                    self.carry(side, 10**6)
                    idle = False
                for index in range(len(one.known)):
                    while list(one.known.values())[index].unread:
                        self.read(side, index, 65_536)
                        idle = False
            if idle:
                break
        for one, other in (self.sides, self.sides[::-1]):
            for stream_id, data in one.sent.items():
                if stream_id not in one.reset:
                    assert other.read.get(stream_id, b"") == data
            for stream_id in one.closed - one.reset:
                assert other.known[stream_id].remote_fin
        self.the_books_balance()


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


FRAMES = st.builds(
    lambda version, kind, flags, stream, length, body: pack(version, kind, flags, stream, length) + body,
    st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]),
    st.integers(0, 4),
    st.integers(0, 31),
    st.integers(0, 9),
    st.one_of(st.integers(0, 40), st.sampled_from([WINDOW_SIZE, WINDOW_SIZE + 1, 2**31, 2**32 - 1])),
    st.binary(max_size=40),
)


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.one_of(FRAMES, st.binary(max_size=60)), max_size=40), client=st.booleans())
def test_arbitrary_bytes_raise_nothing_but_a_remote_protocol_error(pieces: list[bytes], client: bool) -> None:
    machine = YamuxMachine(YamuxConfig(max_inbound_streams=4), client=client)
    machine.open_stream()
    try:
        for now, piece in enumerate(pieces):
            machine.receive_data(piece, float(now), [])
            while machine.has_output:
                machine.next_record(65_519)
    except RemoteProtocolError:
        pass
    assert machine.buffered <= 4096
    assert len(machine.streams) <= 5


@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=1, max_size=2000), cuts=st.lists(st.integers(1, 300), min_size=1, max_size=50))
def test_the_cutting_of_the_wire_changes_nothing(data: bytes, cuts: list[int]) -> None:
    wire = pack(0, 0, 1, 1, len(data)) + data + pack(0, 1, 4, 1, 0)
    machine = YamuxMachine(YamuxConfig(), client=False)
    position = index = 0
    while position < len(wire):
        size = cuts[index % len(cuts)]
        machine.receive_data(wire[position : position + size], 0.0, [])
        position += size
        index += 1
    stream = machine.streams[1]
    received = bytearray()
    while stream.unread:
        received += machine.read(stream, 77)
    assert received == data
    assert stream.remote_fin
