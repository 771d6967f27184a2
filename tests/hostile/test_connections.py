"""Hostile peers inside a connection: garbage, broken rules and floods.

Each ends its own connection at most, and is told why with a go-away where the rules have one.
"""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Stream, StreamReset
from py_p2pstack.errors import ConnectionClosed
from tests.hostile.mallory import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW,
    Run,
    data,
    frame,
    memory_world,
    opening,
    settle,
    unharmed,
)
from tests.hosts import ECHO, echo, exchange

MIB = 1024 * 1024
INITIAL_WINDOW = 256 * 1024
PROTOCOL_ERROR, RATE_LIMITED = 1, 0x1002
PIPE = 128 * 1024  # what the memory pipe holds each way


# --- broken rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x00\x10" + bytes(16), id="a forged record"),
        pytest.param(b"\x00\x00", id="a record without a tag"),
        pytest.param(b"\xff\xff" + bytes(65535), id="a forged record of the largest size"),
        pytest.param(b"GET / HTTP/1.1\r\n" * 2000, id="clear text"),
    ],
)
def test_garbage_behind_the_handshake_ends_the_connection(run: Run, garbage: bytes) -> None:
    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            await mallory.send(opening(1, ECHO, b"before"))
            await settle()
            connection = world.alice.network.conns()[0]
            await mallory.send_raw(garbage)
            await settle()
            assert connection.closed
            assert "does not authenticate" in str(connection.close_reason)
            await unharmed(world)

    run(main)


def test_a_replayed_record_ends_the_connection(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            record = mallory.seal(frame(PING, SYN, 0, 1))
            await mallory.send_raw(record + record)
            await settle()
            assert not world.alice.network.conns()
            await unharmed(world)

    run(main)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param(frame(DATA, 0, 1, 0, version=1), PROTOCOL_ERROR, id="another version"),
        pytest.param(frame(4, 0, 1, 0), PROTOCOL_ERROR, id="a frame of no known type"),
        pytest.param(frame(WINDOW, SYN, 2, 0), PROTOCOL_ERROR, id="a stream id of ours"),
        pytest.param(frame(WINDOW, SYN, 0, 0), PROTOCOL_ERROR, id="stream 0"),
        pytest.param(frame(WINDOW, SYN, 1, 0) * 2, PROTOCOL_ERROR, id="a stream opened twice"),
        pytest.param(
            data(1, bytes(INITIAL_WINDOW + 1), SYN), PROTOCOL_ERROR, id="a stream opened with more than its window"
        ),
        pytest.param(
            frame(WINDOW, SYN, 1, 0) + data(1, bytes(INITIAL_WINDOW)) + data(1, b"x"),
            PROTOCOL_ERROR,
            id="past the window",
        ),
        pytest.param(frame(DATA, SYN, 1, 2**32 - 1), PROTOCOL_ERROR, id="a frame of 4 GiB"),
        pytest.param(frame(DATA, 0, 99, 2**32 - 1), PROTOCOL_ERROR, id="4 GiB for no stream"),
        pytest.param(frame(WINDOW, SYN, 1, 2**32 - 1), PROTOCOL_ERROR, id="a window that overflows"),
        pytest.param(
            frame(WINDOW, SYN, 1, 0) + frame(WINDOW, FIN, 1, 0) + data(1, b"x"),
            PROTOCOL_ERROR,
            id="bytes behind the end",
        ),
        pytest.param(b"".join(frame(PING, SYN, 0, i) for i in range(5000)), RATE_LIMITED, id="a flood of pings"),
        pytest.param(
            b"".join(frame(WINDOW, SYN, i, 0) + frame(WINDOW, RST, i, 0) for i in range(1, 12001, 2)),
            RATE_LIMITED,
            id="rapid reset",
        ),
        pytest.param(
            b"".join(frame(WINDOW, SYN, i, 0) for i in range(1, 12001, 2)), RATE_LIMITED, id="a flood of streams"
        ),
    ],
)
def test_broken_rules_end_the_connection_with_their_code(run: Run, frames: bytes, code: int) -> None:
    async def main() -> None:
        async with memory_world(capacity=2 * MIB) as world:
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            async with anyio.create_task_group() as tasks:

                async def attack() -> None:
                    try:
                        await mallory.send(frames)
                    except OSError:
                        pass

                tasks.start_soon(attack)
                assert await mallory.goodbye() == code
            await unharmed(world)

    run(main)


def test_frames_that_break_no_rule_are_put_up_with(run: Run) -> None:
    """Frames of streams long gone, acknowledgements of nothing, pongs nobody asked for, a stream reset as it opens."""
    strange = (
        frame(WINDOW, 0, 77, 5)
        + frame(WINDOW, FIN, 77, 0)
        + frame(WINDOW, RST, 77, 0)
        + frame(WINDOW, ACK, 78, 0)
        + data(77, b"too late")
        + frame(PING, ACK, 0, 12345)
        + frame(WINDOW, SYN | RST, 79, 0)
        + frame(WINDOW, SYN | FIN, 81, 0)
    )

    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            await mallory.send(strange + opening(1, ECHO, b"still there"))
            found = await mallory.until(lambda frame: b"still there" in frame.body)
            assert found.stream == 1
            mallory.close()
            await unharmed(world)

    run(main)


def test_a_flood_of_mute_streams_is_refused_above_the_bound_and_over_in_ten_seconds(run: Run) -> None:
    """Others go on meanwhile, with the streams they have and with new ones."""

    async def main() -> None:
        async with memory_world() as world, world.honest(1) as bob:
            alice = world.alice
            alice.set_stream_handler(ECHO, echo)
            await bob.connect(alice.peer_info)
            healthy = await bob.new_stream(alice.id, ECHO)
            await healthy.send(b"before")
            assert await healthy.receive_exactly(6) == b"before"
            mallory = await world.mallory()
            await mallory.send(b"".join(frame(WINDOW, SYN, i, 0) for i in range(1, 2001, 2)))
            await settle()
            limits = alice.network.resources.limits
            bound = limits.max_undecided_streams_per_peer
            assert bound <= limits.transient.streams_inbound // 2
            assert bound <= world.held()[1] <= bound + 3
            assert await exchange(bob, alice) == b"hello"
            await healthy.send(b"during")
            assert await healthy.receive_exactly(6) == b"during"
            resets = 0
            with anyio.move_on_after(10.1):
                async for each in mallory.frames():
                    resets += bool(each.flags & RST and each.stream % 2)
            assert resets == 1000
            assert await exchange(bob, alice) == b"hello"
            mallory.close()
            await healthy.aclose()
        assert world.held() == (0, 0, 0)

    run(main)


def test_a_stream_that_drips_its_proposal_dies_in_ten_seconds(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            proposal = opening(1, ECHO)[12:] * 5
            await mallory.send(frame(WINDOW, SYN, 1, 0))
            start = anyio.current_time()
            async with anyio.create_task_group() as tasks:

                async def drip() -> None:
                    for byte in b"\x13/multistream/1.0.0\n\xff\x07" + proposal * 10:
                        await mallory.send(data(1, bytes((byte,))))
                        await anyio.sleep(0.3)

                tasks.start_soon(drip)
                await mallory.until(lambda frame: frame.stream == 1 and bool(frame.flags & RST))
                tasks.cancel_scope.cancel()
            assert anyio.current_time() - start < 10.1
            assert world.held()[1:] == (0, 0)
            mallory.close()
            await unharmed(world)

    run(main)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n", id="no UTF-8"),
        pytest.param(b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\x07", id="oversize"),
        pytest.param(b"\x13/multistream/1.0.0\n" + b"\x03na\n" * 100, id="endless na"),
        pytest.param(b"\x13/multistream/9.0.0\n", id="another version"),
        pytest.param(b"\x05hello", id="no newline"),
    ],
)
def test_nonsense_in_a_streams_negotiation_resets_that_stream(run: Run, token: bytes) -> None:
    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            await mallory.send(data(1, token, SYN))
            refused = await mallory.until(lambda frame: frame.stream == 1 and bool(frame.flags & RST))
            assert refused.length == 0x1001
            await mallory.send(opening(3, ECHO, b"still there"))
            await mallory.until(lambda frame: b"still there" in frame.body)
            mallory.close()
            await unharmed(world)

    run(main)


def test_a_peer_that_falls_silent_is_gone_within_a_minute(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            await world.mallory()
            await settle()
            assert world.held()[0] == 1
            await anyio.sleep(60)
            assert world.held() == (0, 0, 0)
            assert not world.alice.network.conns()

    run(main)


def test_a_peer_that_goes_away_and_stays_costs_no_stream_of_ours(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            alice = world.alice
            mallory = await world.mallory()
            await settle()
            await mallory.send(frame(GO_AWAY, 0, 0, 0))
            await settle()
            with pytest.raises(ConnectionClosed):
                await alice.network.conns()[0].new_stream([ECHO])
            with anyio.fail_after(60):
                await mallory.until_hung_up()
            await settle()
            assert world.held() == (0, 0, 0)

    run(main)


# --- staying in step ---------------------------------------------------------------------------------


def test_a_cancelled_write_leaves_the_connection_in_step(run: Run) -> None:
    """Cancelled in the middle of sending, everything handed over arrives whole, and the connection goes on."""
    item = bytes(range(256)) * 1024
    progress: list[int] = []

    async def give_up(stream: Stream) -> None:
        for number in range(8):
            with anyio.move_on_after(0.01):
                await stream.send(item)
            progress.append(number)
        await stream.send_eof()

    async def main() -> None:
        async with memory_world(capacity=PIPE) as world, world.honest(66) as mallory:
            alice = world.alice
            alice.set_stream_handler(ECHO, echo)
            alice.set_stream_handler("/give-up/1.0.0", give_up)
            await mallory.connect(alice.peer_info)
            stream = await mallory.new_stream(alice.id, "/give-up/1.0.0")
            await stream.send(b"x")
            received = bytearray()
            try:
                await anyio.sleep(1)  # nobody reads while alice gives up again and again
                async for piece in stream:
                    received += piece
            except StreamReset:
                pass  # what was handed over in part would be worse
            else:
                assert len(received) % len(item) == 0
            assert received == (item * 8)[: len(received)]
            assert progress
            assert await exchange(mallory, alice) == b"hello"

    run(main)


def test_a_message_in_thousands_of_fragments_is_read_whole(run: Run) -> None:
    body = bytes(range(250)) * 20
    received: list[bytes] = []

    async def take(stream: Stream) -> None:
        received.append(await stream.receive_exactly(len(body)))
        received.append(await stream.receive_message(len(body)))

    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler("/take/1.0.0", take)
            mallory = await world.mallory()
            await mallory.send(opening(1, "/take/1.0.0"))
            for byte in body + b"\x88\x27" + body:
                await mallory.send(data(1, bytes((byte,))))
                await anyio.sleep(0.0001)
            await settle()
            assert received == [body, body]
            mallory.close()

    run(main)
