"""Waiting for input over and over: woken each time, watched by the loop only while it matters."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from typing import NoReturn

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.transports.kept_reader import KeptReader

pytestmark = pytest.mark.anyio


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


async def read(reader: KeptReader, near: socket.socket) -> bytes:
    """What comes next; a wait may end without cause."""
    while True:
        await reader.wait()
        try:
            return near.recv(16)
        except BlockingIOError:
            pass


async def test_each_wait_ends_with_input(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    reader = KeptReader(near)
    for number in range(5):
        far.send(bytes([number]))
        assert await read(reader, near) == bytes([number])
    far.close()
    assert await read(reader, near) == b""
    reader.close()


async def test_a_cancelled_wait_is_taken_up_again(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    reader = KeptReader(near)
    for _ in range(2):
        with anyio.move_on_after(0.001) as scope:
            await read(reader, near)
        assert scope.cancelled_caught
    far.send(b"here")
    assert await read(reader, near) == b"here"
    reader.close()


async def test_a_second_waiter_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    near, _ = pair
    reader = KeptReader(near)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.wait)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await reader.wait()
        tasks.cancel_scope.cancel()
    reader.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' own loop does not watch sockets")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_loop_goes_on_watching_between_waits_that_follow_each_other(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    reader = KeptReader(near)
    far.send(b"first")
    await read(reader, near)

    def never(*_: object) -> NoReturn:
        raise AssertionError("told again")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "add_reader", never)
        for _ in range(3):
            await checkpoint()  # as a reader does that deals with what it read
            far.send(b"more")
            assert await read(reader, near) == b"more"
    reader.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' own loop does not watch sockets")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_input_that_nobody_reads_leaves_the_loop_idle(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    reader = KeptReader(near)
    far.send(b"first")
    await read(reader, near)
    far.send(b"unread")
    await anyio.wait_all_tasks_blocked()
    while reader._loop is not None:
        await checkpoint()
    assert not asyncio.get_running_loop().remove_reader(near)  # it knows nothing of it
    assert await read(reader, near) == b"unread"
    reader.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' own loop does not watch sockets")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_closing_wakes_the_waiter_and_the_loop_forgets(pair: tuple[socket.socket, socket.socket]) -> None:
    near, _ = pair
    reader = KeptReader(near)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.wait)
        await anyio.wait_all_tasks_blocked()
        reader.close()
    reader.close()
    assert not asyncio.get_running_loop().remove_reader(near)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' own loop does not watch sockets")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_loop_that_cannot_watch_sockets_is_asked_once(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows' own loop; anyio then watches from a thread."""
    near, far = pair
    reader = KeptReader(near)
    asked = []

    def cannot(*_: object) -> NoReturn:
        asked.append(True)
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", cannot)
    assert reader._watch() is None
    assert reader._watch() is None
    assert len(asked) == 1
    far.send(b"here")
    assert await read(reader, near) == b"here"
