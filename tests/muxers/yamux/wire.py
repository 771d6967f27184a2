"""Two yamux machines and the frames between them, for tests."""

from __future__ import annotations

from typing import NamedTuple

from py_p2pstack.muxers.machine import Event
from py_p2pstack.muxers.yamux import YamuxConfig, YamuxMachine
from py_p2pstack.muxers.yamux.codec import HEADER_SIZE, VERSION, pack, unpack_from

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
WINDOW_SIZE = 256 * 1024
RECORD = 65519


class Frame(NamedTuple):
    """One frame as it stands on the wire."""

    kind: int
    flags: int
    stream: int
    length: int
    body: bytes = b""


def frame(kind: int, flags: int, stream: int, length: int | None = None, body: bytes = b"") -> bytes:
    """The bytes of one frame; `length` is that of the body unless said otherwise."""
    return pack(VERSION, kind, flags, stream, len(body) if length is None else length) + body


def frames(data: bytes) -> list[Frame]:
    """Take whole frames apart."""
    found = []
    position = 0
    while position < len(data):
        _, kind, flags, stream, length = unpack_from(data, position)
        position += HEADER_SIZE
        size = length if kind == DATA else 0
        found.append(Frame(kind, flags, stream, length, data[position : position + size]))
        position += size
    assert position == len(data)
    return found


def client(config: YamuxConfig | None = None) -> YamuxMachine:
    """The side that dialled."""
    return YamuxMachine(config or YamuxConfig(), client=True)


def server(config: YamuxConfig | None = None) -> YamuxMachine:
    """The side that was dialled."""
    return YamuxMachine(config or YamuxConfig(), client=False)


def sent(machine: YamuxMachine, room: int = RECORD) -> bytes:
    """Everything the machine has to say."""
    out = bytearray()
    while machine.has_output:
        pieces = machine.next_record(room)
        size = sum(map(len, pieces))
        assert size <= room
        out += b"".join(pieces)
    return bytes(out)


def feed(machine: YamuxMachine, data: bytes, now: float = 0.0) -> list[Event]:
    """Let the machine receive `data`."""
    events: list[Event] = []
    while data:
        data = machine.receive_data(data, now, events)
    return events


def settle(alice: YamuxMachine, bob: YamuxMachine, now: float = 0.0) -> tuple[list[Event], list[Event]]:
    """Carry bytes to and fro until both are silent; the events of both."""
    of_alice: list[Event] = []
    of_bob: list[Event] = []
    while alice.has_output or bob.has_output:
        of_bob += feed(bob, sent(alice), now)
        of_alice += feed(alice, sent(bob), now)
    return of_alice, of_bob
