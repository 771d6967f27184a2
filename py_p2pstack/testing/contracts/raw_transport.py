"""What every raw transport must do, as async functions that assert it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

import anyio

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.transport import RawConnection, RawTransport
from py_p2pstack.errors import ListenError, UnsupportedAddress

_PATIENCE = 20.0  # seconds: a claim that takes longer has failed
_BULK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTransportCase:
    """A transport to try."""

    transport: RawTransport
    listen: Multiaddr
    """Where it can listen, with a free port to pick."""
    nobody: Multiaddr
    """Where nobody listens."""
    foreign: Multiaddr
    """An address of another kind."""


async def receive(connection: RawConnection, size: int = 65536) -> bytes:
    """Wait for input: 1..size bytes, b"" at the end. Raises OSError."""
    buffer = memoryview(bytearray(size))
    while (count := connection.receive_nowait(buffer)) is None:
        await connection.wait_readable()
    return bytes(buffer[:count])


async def receive_exactly(connection: RawConnection, count: int) -> bytes:
    """Wait for `count` bytes; fewer if the input ends before."""
    received = bytearray()
    while len(received) < count and (piece := await receive(connection, count - len(received))):
        received += piece
    return bytes(received)


async def receive_all(connection: RawConnection) -> bytes:
    """Everything until the end of input."""
    received = bytearray()
    while piece := await receive(connection):
        received += piece
    return bytes(received)


async def send_all(connection: RawConnection, data: bytes) -> int:
    """Send all of it; returns how often there was no room."""
    waits = 0
    view = memoryview(data)
    while view:
        count = connection.send_nowait(view)
        view = view[count:]
        if not count:
            waits += 1
            await connection.wait_writable()
    return waits


def fill(connection: RawConnection) -> int:
    """Send until nothing fits; returns how much did."""
    piece = bytes(65536)
    total = 0
    while count := connection.send_nowait(piece):
        total += count
    return total


@asynccontextmanager
async def connected(case: RawTransportCase) -> AsyncGenerator[tuple[RawConnection, RawConnection]]:
    """A fresh connection, set up at both ends if its kind needs that: the dialling end and the accepting end."""
    with anyio.fail_after(_PATIENCE):
        listener = await case.transport.listen(case.listen)
        accepted: list[RawConnection] = []

        async def accept() -> None:
            accepted.append(await listener.accept())
            await accepted[0].wait_writable()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(accept)
                dialled = await case.transport.dial(listener.address)
                await dialled.wait_writable()
        finally:
            listener.close()
        try:
            yield dialled, accepted[0]
        finally:
            dialled.close()
            accepted[0].close()


# --- the claims -------------------------------------------------------------------------------------


async def both_ends_agree_on_their_addresses(case: RawTransportCase) -> None:
    """What is local here is remote there."""
    async with connected(case) as (alice, bob):
        assert alice.remote_address == bob.local_address
        assert alice.local_address == bob.remote_address
        assert case.transport.can_dial(alice.remote_address)


async def bytes_arrive_in_order_both_ways(case: RawTransportCase) -> None:
    """Messages of all sizes come out as they went in."""
    async with connected(case) as (alice, bob):
        for size in (1, 2, 1000, 1, 70_000, 3):
            message = bytes(index % 251 for index in range(size))
            for sender, receiver in ((alice, bob), (bob, alice)):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(send_all, sender, message)
                    assert await receive_exactly(receiver, size) == message


async def one_byte_at_a_time_is_enough(case: RawTransportCase) -> None:
    """Tiny writes and tiny reads lose nothing."""
    async with connected(case) as (alice, bob):
        message = bytes(range(200))
        for index in range(len(message)):
            await send_all(alice, message[index : index + 1])
        assert [await receive(bob, 1) for _ in message] == [bytes([byte]) for byte in message]


async def nothing_is_there_before_it_is_sent(case: RawTransportCase) -> None:
    """An idle pipe says so."""
    async with connected(case) as (alice, bob):
        buffer = memoryview(bytearray(10))
        assert alice.receive_nowait(buffer) is None
        assert bob.receive_nowait(buffer) is None


async def big_transfers_wait_for_the_reader(case: RawTransportCase) -> None:
    """Megabytes get through under back-pressure, unharmed, both ways at once."""
    async with connected(case) as (alice, bob):
        data = sha256(b"seed").digest() * (_BULK // 32)
        fingerprint = sha256(data).digest()
        waits: list[int] = []

        async def send(connection: RawConnection) -> None:
            waits.append(await send_all(connection, data))

        async def check(connection: RawConnection) -> None:
            assert sha256(await receive_exactly(connection, len(data))).digest() == fingerprint

        async with anyio.create_task_group() as tasks:
            for end in (alice, bob):
                tasks.start_soon(send, end)
                tasks.start_soon(check, end)
        assert len(waits) == 2


async def a_full_pipe_takes_nothing_until_it_is_read(case: RawTransportCase) -> None:
    """Without a reader the pipe is bounded, and the writer sleeps."""
    async with connected(case) as (alice, bob):
        total = fill(alice)
        assert 0 < total < 64 * 1024 * 1024
        async with anyio.create_task_group() as tasks:
            received = 0
            writable = anyio.Event()

            async def write() -> None:
                nonlocal total
                await alice.wait_writable()
                count = alice.send_nowait(bytes(65536))  # what found no room is offered again
                assert count > 0
                total += count
                writable.set()

            tasks.start_soon(write)
            while not writable.is_set() or received < total:
                received += len(await receive(bob))
        assert received == total


async def the_end_follows_the_last_byte(case: RawTransportCase) -> None:
    """What was taken before a close is delivered, and then the end, again and again."""
    async with connected(case) as (alice, bob):
        sent = fill(alice)
        alice.close()
        assert len(await receive_all(bob)) == sent
        assert await receive(bob) == b""


async def unread_input_does_not_cost_the_output(case: RawTransportCase) -> None:
    """A close over unread input still delivers what was sent."""
    async with connected(case) as (alice, bob):
        await send_all(bob, b"never read")
        await alice.wait_readable()
        await send_all(alice, b"goodbye")
        alice.close()
        assert await receive_exactly(bob, 7) == b"goodbye"


async def sending_to_who_has_gone_fails(case: RawTransportCase) -> None:
    """The writer learns, with an OSError, and its wait ends."""
    async with connected(case) as (alice, bob):
        bob.close()
        try:
            for _ in range(1000):
                fill(alice)
                await alice.wait_writable()
        except OSError:
            return
        raise AssertionError("a thousand writes into nowhere")


async def cancelled_waits_lose_nothing(case: RawTransportCase) -> None:
    """A wait may be cancelled and taken up again."""
    async with connected(case) as (alice, bob):
        fill(alice)
        for wait in (alice.wait_writable, alice.wait_readable):
            with anyio.move_on_after(0.001) as scope:
                await wait()
            assert scope.cancelled_caught
        await send_all(bob, b"here")
        assert await receive_exactly(alice, 4) == b"here"


async def closing_wakes_both_waiters(case: RawTransportCase) -> None:
    """A close on our own side ends a reader's and a writer's wait; what they try then fails."""
    async with connected(case) as (alice, bob):
        fill(alice)
        woken = []

        async def wait(what: Callable[[], Awaitable[None]]) -> None:
            await what()
            woken.append(what)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, alice.wait_readable)
            tasks.start_soon(wait, alice.wait_writable)
            await anyio.wait_all_tasks_blocked()
            alice.close()
        assert len(woken) == 2
        assert await receive(bob)


async def a_closed_end_is_of_no_further_use(case: RawTransportCase) -> None:
    """Receive and send raise OSError, waits return, closing again does nothing."""
    async with connected(case) as (alice, _):
        alice.close()
        alice.close()
        await alice.wait_readable()
        await alice.wait_writable()
        await _raises_os_error(lambda: alice.receive_nowait(memoryview(bytearray(1))))
        await _raises_os_error(lambda: alice.send_nowait(b"x"))


async def _raises_os_error(call: Callable[[], object]) -> None:
    try:
        call()
    except OSError:
        return
    raise AssertionError("no OSError")


async def nobody_refuses(case: RawTransportCase) -> None:
    """A dial to where nobody listens fails at once."""
    with anyio.fail_after(_PATIENCE):
        try:
            await case.transport.dial(case.nobody)
        except ConnectionRefusedError:
            return
    raise AssertionError("connected to nobody")


async def foreign_addresses_are_declined(case: RawTransportCase) -> None:
    """An address of another kind is a typed error, for dialling and for listening."""
    transport = case.transport
    assert not transport.can_dial(case.foreign)
    assert not transport.can_listen(case.foreign)
    assert transport.can_listen(case.listen)
    assert not transport.can_dial(case.listen)  # no port to dial yet
    for address in (case.foreign, case.listen):
        try:
            await transport.dial(address)
        except UnsupportedAddress:
            continue
        raise AssertionError(f"dialled {address}")
    try:
        await transport.listen(case.foreign)
    except ListenError:
        return
    raise AssertionError(f"listens on {case.foreign}")


async def a_taken_address_is_an_error(case: RawTransportCase) -> None:
    """Two listeners never share a port; when the first has gone the second may have it."""
    listener = await case.transport.listen(case.listen)
    refusal = None
    try:
        await case.transport.listen(listener.address)
    except ListenError as fault:
        refusal = fault
    listener.close()
    assert refusal is not None
    assert refusal.reason == "address already in use"
    assert refusal.address == listener.address
    again = await case.transport.listen(listener.address)
    assert again.address == listener.address
    again.close()


async def closing_a_listener_wakes_accept(case: RawTransportCase) -> None:
    """Accept raises ClosedResourceError, waiting or called later."""
    listener = await case.transport.listen(case.listen)
    ended = []

    async def accept() -> None:
        try:
            await listener.accept()
        except anyio.ClosedResourceError:
            ended.append(True)

    with anyio.fail_after(_PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            await anyio.wait_all_tasks_blocked()
            listener.close()
        listener.close()
        await accept()
    assert ended == [True, True]


async def a_cancelled_accept_loses_no_connection(case: RawTransportCase) -> None:
    """Who dialled while nobody was accepting is accepted later."""
    listener = await case.transport.listen(case.listen)
    with anyio.fail_after(_PATIENCE):
        with anyio.move_on_after(0.001):
            await listener.accept()
        dialled = [await case.transport.dial(listener.address) for _ in range(3)]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await listener.accept()
        accepted = [await listener.accept() for _ in dialled]
        assert [end.remote_address for end in accepted] == [end.local_address for end in dialled]
        for end in (*dialled, *accepted):
            end.close()
    listener.close()


RAW_TRANSPORT: tuple[Callable[[RawTransportCase], Awaitable[None]], ...] = (
    both_ends_agree_on_their_addresses,
    bytes_arrive_in_order_both_ways,
    one_byte_at_a_time_is_enough,
    nothing_is_there_before_it_is_sent,
    big_transfers_wait_for_the_reader,
    a_full_pipe_takes_nothing_until_it_is_read,
    the_end_follows_the_last_byte,
    unread_input_does_not_cost_the_output,
    sending_to_who_has_gone_fails,
    cancelled_waits_lose_nothing,
    closing_wakes_both_waiters,
    a_closed_end_is_of_no_further_use,
    nobody_refuses,
    foreign_addresses_are_declined,
    a_taken_address_is_an_error,
    closing_a_listener_wakes_accept,
    a_cancelled_accept_loses_no_connection,
)
