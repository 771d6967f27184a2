"""Length-prefixed messages: however the stream is cut, the same messages come out, and none above the bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import MessageTooLarge, RemoteProtocolError
from py_p2pstack.wire import framing, varint


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_messages_come_out_whole_however_the_stream_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(framing.encode(message) for message in messages)
    decoder = framing.FrameDecoder(300)
    received = []
    position = turn = 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        decoder.feed(stream[position : position + step])
        received += list(decoder)
        position += step
        turn += 1
    assert received == messages
    decoder.finish()


@given(st.binary(max_size=64))
def test_any_stream_gives_messages_or_a_protocol_error(data: bytes) -> None:
    decoder = framing.FrameDecoder(16)
    decoder.feed(data)
    try:
        received = list(decoder)
        decoder.finish()
    except RemoteProtocolError:
        return
    assert b"".join(framing.encode(message) for message in received) == data


def test_a_message_of_exactly_the_bound_passes_and_one_byte_more_does_not() -> None:
    decoder = framing.FrameDecoder(5)
    decoder.feed(framing.encode(b"x" * 5))
    assert decoder.next() == b"x" * 5
    decoder.feed(framing.encode(b"x" * 6))
    with pytest.raises(MessageTooLarge, match="6 bytes; the limit is 5"):
        decoder.next()


def test_a_large_message_is_refused_on_its_length_alone() -> None:
    decoder = framing.FrameDecoder(1000)
    decoder.feed(varint.encode(1001))
    with pytest.raises(MessageTooLarge):
        decoder.next()


def test_a_length_that_never_ends_is_refused() -> None:
    decoder = framing.FrameDecoder(1000)
    for _ in range(8):
        decoder.feed(b"\x80")
        assert decoder.next() is None
    decoder.feed(b"\x80")
    with pytest.raises(RemoteProtocolError, match="longer than 9"):
        decoder.next()


def test_the_end_inside_a_message_is_an_error() -> None:
    decoder = framing.FrameDecoder(10)
    decoder.finish()
    decoder.feed(b"\x03ab")
    assert decoder.next() is None
    with pytest.raises(RemoteProtocolError, match="inside a message"):
        decoder.finish()


def test_what_lies_behind_a_message_is_given_back_unread() -> None:
    decoder = framing.FrameDecoder(10)
    decoder.feed(framing.encode(b"abc") + b"raw bytes of another protocol")
    assert decoder.next() == b"abc"
    assert decoder.unread == b"raw bytes of another protocol"


def test_empty_messages_are_messages() -> None:
    decoder = framing.FrameDecoder(0)
    decoder.feed(memoryview(b"\x00\x00"))
    assert list(decoder) == [b"", b""]
