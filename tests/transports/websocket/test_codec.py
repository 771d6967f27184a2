"""Frames as a stream."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.transports.websocket.codec import CLOSE, FRAMES, PING, PONG, FrameReader, FrameWriter
from py_p2pstack.transports.websocket.machine import require

MASK = require()


def read(reader: FrameReader, data: bytes) -> bytes:
    buffer, got = memoryview(bytearray(data)), b""
    while buffer:
        kept, used = reader.receive(buffer)
        got += buffer[:kept]
        buffer = buffer[used:]
    return got


def writer(*, masked: bool, max_frame: int = 1000) -> FrameWriter:
    return FrameWriter(MASK, masked=masked, max_frame=max_frame, random_bytes=random.Random(1).randbytes)


def write(frames: FrameWriter, data: bytes, room: random.Random | None = None) -> bytes:
    """All of `data` in frames; the pipe takes pieces of chance size."""
    out, done = bytearray(), 0
    while done < len(data):
        offered = frames.frame(memoryview(data)[done:])
        count = len(offered) if room is None else room.randrange(len(offered) + 1)
        out += offered[:count]
        done += frames.sent(count)
    return bytes(out)


@given(st.binary(min_size=1, max_size=5000), st.booleans(), st.integers(), st.integers(1, 3000))
def test_bytes_come_out_as_they_went_in_however_they_are_cut(
    data: bytes, masked: bool, seed: int, max_frame: int
) -> None:
    chance = random.Random(seed)
    wire = write(writer(masked=masked, max_frame=max_frame), data, chance)
    reader, got = FrameReader(MASK, masked=masked), b""
    while wire:
        size = chance.randrange(1, 200)
        got += read(reader, wire[:size])
        wire = wire[size:]
    assert got == data


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 200_000])
def test_frames_are_those_of_the_websockets_package(size: int, masked: bool) -> None:
    data = random.Random(size).randbytes(size)
    theirs = Frame(Opcode.BINARY, data).serialize(mask=masked)
    assert read(FrameReader(MASK, masked=masked), theirs) == data
    ours = write(writer(masked=masked, max_frame=1 << 20), data)
    assert len(ours) == len(theirs)
    assert ours[:2] == theirs[:2]


def test_what_follows_a_told_size_fills_it_up_even_if_it_is_something_else() -> None:
    frames = writer(masked=True)
    offered = frames.frame(memoryview(b"aaaa"))
    frames.sent(len(offered) - 3)
    out = offered[:-3] + frames.frame(memoryview(b"bbbbbb"))
    assert read(FrameReader(MASK, masked=True), out) == b"abbb"


@pytest.mark.parametrize("masked", [False, True])
def test_control_frames_pass_between_fragments_and_the_last_ping_is_kept(masked: bool) -> None:
    reader = FrameReader(MASK, masked=masked)
    wire = [
        Frame(Opcode.BINARY, b"one ", fin=False),
        Frame(Opcode.PING, b"first"),
        Frame(Opcode.PONG, b"unasked"),
        Frame(Opcode.PING, b"second"),
        Frame(Opcode.CONT, b"", fin=False),
        Frame(Opcode.CONT, b"two"),
        Frame(Opcode.CLOSE, b"\x03\xe8"),
        Frame(Opcode.BINARY, b"behind the end"),
    ]
    data = b"".join(frame.serialize(mask=masked) for frame in wire)
    got = b"".join(read(reader, data[at : at + 1]) for at in range(len(data)))
    assert got == b"one two"
    assert reader.pong == b"second"
    assert reader.closed == b"\x03\xe8"


def test_our_control_frames_are_whole() -> None:
    for masked in (False, True):
        for opcode, body in ((PONG, b"x" * 125), (CLOSE, b""), (PING, b"hi")):
            frames = writer(masked=masked)
            frames.control(opcode, body)
            reader = FrameReader(MASK, masked=masked)
            assert read(reader, frames.head) == b""
            assert (reader.pong, reader.closed) == (
                (body, None) if opcode == PING else (None, body) if opcode == CLOSE else (None, None)
            )
            assert not frames.between
            frames.sent(len(frames.head))
            assert frames.between


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\x82\x01a", id="unmasked, from a client"),
        pytest.param(b"\xc2\x81aaaaa", id="of an extension"),
        pytest.param(b"\x81\x81aaaaa", id="text"),
        pytest.param(b"\x83\x80aaaa", id="of an unknown kind"),
        pytest.param(b"\x80\x80aaaa", id="a continuation of nothing"),
        pytest.param(b"\x02\x80aaaa\x82\x80aaaa", id="a message within a message"),
        pytest.param(b"\x09\x80aaaa", id="a ping in fragments"),
        pytest.param(b"\x89\xfe\x00\x7eaaaa", id="a ping of 126 bytes"),
        pytest.param(b"\x82\xff" + b"\xff" * 8 + b"aaaa", id="of a negative size"),
    ],
)
def test_a_frame_against_the_rules_is_refused_by_its_header(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(FrameReader(MASK, masked=True), wire)


def test_a_frame_of_any_size_passes_and_nothing_of_it_is_held() -> None:
    reader = FrameReader(MASK, masked=False)
    assert read(reader, b"\x82\x7f" + (1 << 62).to_bytes(8, "big")) == b""
    for _ in range(100):
        assert len(read(reader, bytes(1000))) == 1000
    assert len(reader._held) == 0


@pytest.mark.parametrize("frame", [b"\x89\x00", b"\x82\x00", b"\x82\x01x"], ids=["pings", "empty", "one byte"])
def test_of_many_frames_some_are_read_and_the_rest_is_for_the_next_call(frame: bytes) -> None:
    reader = FrameReader(MASK, masked=False)
    buffer = memoryview(bytearray(frame * 3 * FRAMES))
    for turn in range(3):
        assert reader.receive(buffer[turn * len(frame) * FRAMES :])[1] == len(frame) * FRAMES
    assert read(reader, b"\x82\x05later") == b"later"


@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_a_remote_protocol_error(data: bytes, masked: bool) -> None:
    reader = FrameReader(MASK, masked=masked)
    try:
        assert len(read(reader, data)) <= len(data)  # and comes to an end
    except RemoteProtocolError:
        pass
    assert len(reader._held) <= 131
