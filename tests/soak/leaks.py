"""What a process holds, before and after much work: descriptors, tasks, threads, objects, bytes.

Used by the short leak tests of the suite and by the long run of `python -m tests.soak`.
"""

from __future__ import annotations

import gc
import mmap
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack import Host
from py_p2pstack.muxers.session import Session
from py_p2pstack.muxers.stream import SessionStream
from py_p2pstack.network.connection import SwarmConnection
from py_p2pstack.network.stream import SwarmStream
from py_p2pstack.transports.memory_pipe import MemoryConnection
from py_p2pstack.transports.sockets import SocketConnection
from tests.hosts import ECHO, echo, exchange, key

NAMED = (
    4  # objects of a kind, and threads, that waiting loops and the backend may still hold: never a function of the work
)
TRACKED: tuple[type, ...] = (
    Session,
    SessionStream,
    SwarmConnection,
    SwarmStream,
    SocketConnection,
    MemoryConnection,
)


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds at one moment."""

    descriptors: int
    """-1 where the system does not tell."""
    tasks: int
    threads: int
    objects: dict[str, int]
    """Live objects of the tracked kinds."""
    resident: int
    """Bytes; 0 where the system does not tell."""

    def __str__(self) -> str:
        objects = " ".join(f"{name} {count}" for name, count in self.objects.items() if count) or "none tracked"
        return (
            f"{self.descriptors} fds, {self.tasks} tasks, {self.threads} threads, "
            f"{self.resident / 1024**2:.1f} MiB; {objects}"
        )


def descriptors() -> int:
    """How many file descriptors are open; -1 where that cannot be told."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(directory):
            return len(os.listdir(directory)) - 1  # but for the one that reads it
    return -1


def resident() -> int:
    """Bytes of memory the process has now; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def live(kinds: Collection[type] = TRACKED) -> dict[str, int]:
    """How many objects of some kinds the collector finds alive."""
    gc.collect()
    counts = Counter(type(each) for each in gc.get_objects())
    return {kind.__name__: counts[kind] for kind in kinds}


def take() -> Held:
    """What is held now; to be called inside an event loop."""
    objects = live()
    return Held(descriptors(), len(anyio.get_running_tasks()), threading.active_count(), objects, resident())


async def quiet(*hosts: Host) -> None:
    """Wait until no host has a connection, a stream or a running handler in its books."""
    with anyio.fail_after(20):
        while any(
            host.network.conns()
            or host.network._workers.running
            or any(
                (
                    (stats := host.network.resources.stats().system).connections_inbound,
                    stats.connections_outbound,
                    stats.streams_inbound,
                    stats.streams_outbound,
                    stats.file_descriptors,
                    stats.memory,
                )
            )
            for host in hosts
        ):
            await anyio.sleep(0.01)


def leaks(before: Held, after: Held, *, slack: int = 0, growth: int | None = None) -> list[str]:
    """What grew: descriptors, tasks, threads, tracked objects, and memory by more than `growth` bytes.

    `slack`: how many tasks more there may be (handler tasks kept for the next stream).
    """
    found = []
    for what, was, now, allowed in (
        ("descriptors", before.descriptors, after.descriptors, 0),
        ("tasks", before.tasks, after.tasks, slack),
        ("threads", before.threads, after.threads, NAMED),
        *((name, count, after.objects[name], NAMED) for name, count in before.objects.items()),
    ):
        if now > was + allowed:
            found.append(f"{what}: {was} before, {now} after")
    if growth is not None and after.resident - before.resident > growth:
        found.append(f"memory: {(after.resident - before.resident) / 1024**2:.1f} MiB more")
    return found


async def connections(count: int, *, progress: Callable[[int], None] = lambda done: None) -> tuple[Held, Held]:
    """Make and end so many TCP connections one after the other, each with an echo; what was held before and after."""
    async with Host(identity=key(1), listen=["/ip4/127.0.0.1/tcp/0"]) as alice, Host(identity=key(2)) as bob:
        alice.set_stream_handler(ECHO, echo)

        async def once() -> None:
            await bob.connect(alice.peer_info)
            assert await exchange(bob, alice) == b"hello"
            await bob.network.close_peer(alice.id)
            await _gone(alice)

        for _ in range(20):  # caches, pools and idle handler tasks fill here
            await once()
        await quiet(alice, bob)
        before = take()
        for done in range(count):
            await once()
            progress(done + 1)
        await quiet(alice, bob)
        return before, take()


async def _gone(host: Host) -> None:
    """Wait until the host has noticed that its peer left."""
    with anyio.fail_after(30):
        while host.network.conns():
            await checkpoint()


async def streams(count: int, *, progress: Callable[[int], None] = lambda done: None) -> tuple[Held, Held]:
    """Open so many streams on one TCP connection, sixteen at a time; what was held before and after."""
    async with Host(identity=key(1), listen=["/ip4/127.0.0.1/tcp/0"]) as alice, Host(identity=key(2)) as bob:
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        done = 0

        async def some(number: int) -> None:
            nonlocal done
            for _ in range(number):
                done += 1
                kind = done % 4
                stream = await bob.new_stream(alice.id, ECHO)
                await stream.send(b"x" * 100)
                if kind == 0:  # one in four is reset, one is closed unread
                    stream.reset()
                elif kind == 1:
                    await stream.aclose()
                else:
                    assert await stream.receive_exactly(100)
                    await stream.send_eof()
                    async for _piece in stream:
                        pass
                    await stream.aclose()
                progress(done)

        async def all_at_once(number: int) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(16):
                    tasks.start_soon(some, number // 16)
            with anyio.fail_after(20):
                while any(host.network.resources.stats().system.streams_inbound for host in (alice, bob)):
                    await anyio.sleep(0.005)

        await all_at_once(160)
        before = take()
        done = 0
        await all_at_once(count)
        return before, take()


def report(name: str, before: Held, after: Held, found: list[str]) -> None:
    """Print the figures of one run."""
    print(
        f"{name}\n  before: {before}\n  after:  {after}\n  {'LEAK: ' + '; '.join(found) if found else 'nothing left'}"
    )
    sys.stdout.flush()
