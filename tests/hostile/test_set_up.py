"""Hostile dialers before there is a connection: those that drip, those that say nothing, those that talk nonsense.

Each dies within ten seconds (virtual ones), gives its place back, and honest peers connect meanwhile.
"""

from __future__ import annotations

from typing import cast

import anyio
import pytest

from py_p2pstack import HostConfig
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.errors import ConnectionClosed
from py_p2pstack.identity import PeerId
from py_p2pstack.network.resources import ResourceLimits
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.noise.records import NoiseRecords
from py_p2pstack.upgrade.multistream import lazy_proposal
from py_p2pstack.upgrade.negotiate import RawPipe, SealedPipe
from py_p2pstack.upgrade.upgrader import UpgraderConfig
from tests.hostile.mallory import Run, World, memory_world, secured_with, settle, tcp_world, until
from tests.hosts import ECHO, echo, exchange, key
from tests.soak.leaks import descriptors

SET_UP = 10.0  # seconds that set-up may take


def first_noise_message() -> bytes:
    """What an honest dialer says first: the header, the proposal, its ephemeral key."""
    handshake = NoiseTransport(key(66)).handshake(initiator=True, peer=None, muxers=())
    return lazy_proposal("/noise") + handshake.bytes_to_send()


async def hung_up(raw: RawConnection) -> float:
    """Read until the other end hangs up; returns the seconds that took."""
    start = anyio.current_time()
    pipe = RawPipe(raw)
    try:
        while True:
            await pipe.receive()
    except (ConnectionClosed, OSError):
        return anyio.current_time() - start


async def drip(raw: RawConnection, steadily: bytes, every: float) -> None:
    """Send a byte now and then, for as long as somebody listens."""
    try:
        for byte in steadily:
            raw.send_nowait(bytes((byte,)))
            await anyio.sleep(every)
    except OSError:
        return


async def dies_in_time(world: World, at_once: bytes, dripped: bytes) -> None:
    """Forty dialers say `at_once`, then drip; honest ones come through, and ten seconds later all is as before."""
    alice = world.alice
    alice.set_stream_handler(ECHO, echo)
    times: list[float] = []

    async def loris() -> None:
        raw = await world.connect()
        raw.send_nowait(at_once)
        async with anyio.create_task_group() as dripping:
            dripping.start_soon(drip, raw, dripped, 0.25)
            times.append(await hung_up(raw))
            dripping.cancel_scope.cancel()
        raw.close()

    async with anyio.create_task_group() as loris_group:
        for _ in range(40):
            loris_group.start_soon(loris)
        await anyio.sleep(1)
        assert world.held()[0] == 40
        for number in range(1, 6):  # honest peers meanwhile
            async with world.honest(number) as bob:
                await bob.connect(alice.peer_info)
                assert await exchange(bob, alice) == b"hello"
            await anyio.sleep(1)
    assert len(times) == 40
    assert max(times) <= SET_UP + 0.001
    assert world.held() == (0, 0, 0)


@pytest.mark.parametrize(
    ("at_once", "dripped"),
    [
        pytest.param(b"", b"", id="silence"),
        pytest.param(b"", lazy_proposal("/noise") * 20, id="in the first multistream token"),
        pytest.param(lazy_proposal("/tls/0.0.0"), lazy_proposal("/tls/0.0.0")[20:] * 40, id="in its proposals"),
        pytest.param(lazy_proposal("/noise"), b"\x00\x20" + bytes(31), id="in the first noise message"),
        pytest.param(first_noise_message(), b"\x01\x00" + bytes(254), id="in the third noise message"),
    ],
)
def test_a_slow_loris_dies_in_ten_seconds_and_honest_peers_connect_meanwhile(
    run: Run, at_once: bytes, dripped: bytes
) -> None:
    async def main() -> None:
        async with memory_world() as world:
            await dies_in_time(world, at_once, dripped)

    run(main)


def test_a_slow_loris_in_the_negotiation_of_the_muxer_dies_in_ten_seconds(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            mallory = await secured_with(await world.connect(), key(66), muxers=())
            start = anyio.current_time()
            async with anyio.create_task_group() as tasks:

                async def drip_sealed() -> None:
                    try:
                        for byte in lazy_proposal("/yamux/1.0.0")[:-1] * 10:
                            await mallory.send(bytes((byte,)))
                            await anyio.sleep(0.5)
                    except OSError:
                        return

                tasks.start_soon(drip_sealed)
                await mallory.until_hung_up()
                assert anyio.current_time() - start <= SET_UP + 0.001
                tasks.cancel_scope.cancel()
            await settle()
            assert world.held() == (0, 0, 0)

    run(main)


@pytest.mark.anyio
async def test_on_tcp_a_slow_loris_gives_its_descriptor_back_too() -> None:
    """With a shorter time for set-up, as this one is spent on the wall clock."""
    async with tcp_world(config=HostConfig(upgrade=UpgraderConfig(handshake_timeout=0.3))) as world:
        alice = world.alice
        alice.set_stream_handler(ECHO, echo)
        before = descriptors()
        dialled = [await world.connect() for _ in range(20)]
        for number, raw in enumerate(dialled):
            raw.send_nowait(first_noise_message()[: 5 * number])
        async with world.honest(1) as bob:
            await bob.connect(alice.peer_info)
            assert await exchange(bob, alice) == b"hello"
        await until(lambda: world.held() == (0, 0, 0), within=10)
        for raw in dialled:
            raw.close()
        assert descriptors() == before


def test_a_peer_that_sends_faster_than_we_read_cannot_hold_the_event_loop() -> None:
    """Empty records inside the muxer's negotiation, without end and without a pause."""

    class Firehose:
        """A pipe that always has another empty record."""

        def __init__(self) -> None:
            self.records = NoiseRecords(bytes(32), bytes(32))
            self.room = memoryview(bytearray(64))

        def receive_nowait(self, buffer: memoryview) -> int:
            count = self.records.seal_into(b"", self.room)
            buffer[:count] = self.room[:count]
            return count

    async def main() -> None:
        pipe = SealedPipe(RawPipe(cast(RawConnection, Firehose())), NoiseRecords(bytes(32), bytes(32)), b"")
        with anyio.move_on_after(0.05) as scope:
            await pipe.receive()
        assert scope.cancelled_caught

    anyio.run(main)


def test_a_flood_of_slow_lorises_is_over_after_ten_seconds(run: Run) -> None:
    """More of them than strangers have places: the rest is refused at once, and all places come back."""

    async def main() -> None:
        limits = ResourceLimits()
        async with memory_world() as world:
            alice = world.alice
            alice.set_stream_handler(ECHO, echo)
            dialled = [await world.connect() for _ in range(100)]
            await anyio.sleep(0.1)
            assert world.held()[0] == limits.transient.connections_inbound < 100
            await anyio.sleep(SET_UP)
            assert world.held() == (0, 0, 0)
            async with world.honest(1) as bob:
                await bob.connect(alice.peer_info)
                assert await exchange(bob, alice) == b"hello"
            for raw in dialled:
                raw.close()

    run(main)


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: alice\r\nAccept: */*\r\nUser-Agent: mallory/1.0\r\nConnection: close\r\n\r\n",
            id="http",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="tls"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n" + bytes(100), id="ssh"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(b"\xff" * 100_000, id="a length that never ends"),
        pytest.param(b"\x80\x80\x80\x80\x10" + bytes(1000), id="a token of 4 GiB"),
        pytest.param(b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n", id="a protocol that is no UTF-8"),
        pytest.param(b"\x13/multistream/1.0.0\n\x07/noisee", id="a token without its newline"),
        pytest.param(b"\x13/multistream/1.0.0\n\x00", id="an empty token"),
        pytest.param(b"\x13/multistream/1.0.0\n" + b"\x03na\n" * 5000, id="endless na"),
        pytest.param(b"\x13/multistream/1.0.0\n" + b"\x03ls\n" * 5000, id="endless ls"),
        pytest.param(lazy_proposal("/noise") + b"\xff\xff" + bytes(70_000), id="a noise message of 64 KiB"),
        pytest.param(lazy_proposal("/noise") + b"\x00\x00", id="an empty noise message"),
        pytest.param(lazy_proposal("/noise") + b"\x00\x20" + bytes(32), id="a point of low order"),
        pytest.param(first_noise_message() + b"\x00\x40" + bytes(64), id="a forged third message"),
    ],
)
def test_nonsense_is_hung_up_on_at_once(run: Run, nonsense: bytes) -> None:
    async def main() -> None:
        async with memory_world() as world:
            raw = await world.connect()
            with anyio.move_on_after(60):
                try:
                    await RawPipe(raw).send(nonsense)
                except OSError:
                    pass  # it hung up before we had said all
            assert await hung_up(raw) < 0.1
            raw.close()
            await settle()
            assert world.held() == (0, 0, 0)

    run(main)


@pytest.mark.parametrize("protocol", ["/plaintext/2.0.0", "/plaintext/1.0.0", "/yamux/1.0.0", "/ipfs/ping/1.0.0"])
def test_a_proposal_to_speak_in_the_clear_is_refused(run: Run, protocol: str) -> None:
    async def main() -> None:
        async with memory_world() as world:
            pipe = RawPipe(raw := await world.connect())
            await pipe.send(lazy_proposal(protocol))
            with anyio.fail_after(5):
                said = b""
                while b"na\n" not in said:
                    said += await pipe.receive()
            assert said == lazy_proposal("na")
            assert not world.alice.network.conns()
            raw.close()

    run(main)


def test_a_dialer_of_our_own_id_is_refused(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            mallory = await world.mallory(0)  # alice's own key
            assert await mallory.goodbye() == 0x1007
            assert world.held() == (0, 0, 0)
            assert isinstance(mallory.peer, PeerId)

    run(main)


def test_connections_over_the_system_limit_are_refused_and_make_room_when_they_end(run: Run) -> None:
    async def main() -> None:
        tight = HostConfig(resources=ResourceLimits.scaled(0))
        bound = tight.resources.system.connections_inbound
        async with memory_world(config=tight) as world:
            alice = world.alice
            held = [await world.mallory(1000 + number) for number in range(bound)]
            await settle()
            assert world.held()[0] == len(alice.network.conns()) == bound
            for _ in range(20):
                assert await hung_up(await world.connect()) < 0.1
            held.pop().close()
            await settle()
            async with world.honest(1) as bob:
                await bob.connect(alice.peer_info)
            for mallory in held:
                mallory.close()
            await anyio.sleep(1)
            assert world.held() == (0, 0, 0)

    run(main)


def test_one_peer_has_eight_connections_and_the_ninth_is_told_why(run: Run) -> None:
    async def main() -> None:
        async with memory_world() as world:
            held = [await world.mallory(66) for _ in range(8)]
            ninth = await world.mallory(66)
            assert await ninth.goodbye() == 0x1001
            assert len(world.alice.network.conns()) == 8
            for mallory in held:
                mallory.close()
            await anyio.sleep(1)
            assert world.held() == (0, 0, 0)

    run(main)
