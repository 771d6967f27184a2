"""Whole hosts over the memory transport, for tests that want the real stack without a socket."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from py_p2pstack import Host, PrivateKey, Stream
from py_p2pstack.transports.memory import MemoryNetwork, MemoryTransport

ECHO = "/echo/1.0.0"


def key(number: int) -> PrivateKey:
    """The identity of the host with this number."""
    return PrivateKey.from_seed(number.to_bytes(32, "big"))


def memory_host(network: MemoryNetwork, number: int, **options: Any) -> Host:
    """A host named by its number that listens at /memory/<1000 + number>."""
    options.setdefault("listen", [f"/memory/{1000 + number}"])
    return Host(
        identity=key(number),
        transports=[MemoryTransport(network, str(number))],
        clock=anyio.current_time,
        **options,
    )


@asynccontextmanager
async def memory_hosts(
    count: int, *, latency: float = 0.0, options: Sequence[dict[str, Any]] = ()
) -> AsyncIterator[list[Host]]:
    """`count` hosts on a network of their own; `options[i]` go to host i."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(MemoryNetwork(random.Random(1), latency=latency))
        hosts = []
        for number in range(count):
            extra = options[number] if number < len(options) else {}
            hosts.append(await stack.enter_async_context(memory_host(network, number, **extra)))
        yield hosts


async def echo(stream: Stream) -> None:
    """Send every byte back; end when the peer ends."""
    async for data in stream:
        await stream.send(data)
    await stream.send_eof()


async def exchange(host: Host, other: Host, data: bytes = b"hello") -> bytes:
    """Send `data` to the other's echo and return what comes back."""
    async with await host.new_stream(other.id, [ECHO]) as stream:
        await stream.send(data)
        await stream.send_eof()
        received = bytearray()
        async for piece in stream:
            received += piece
    return bytes(received)


async def until_quiet() -> None:
    """Let every other task run until it waits."""
    await anyio.wait_all_tasks_blocked()
