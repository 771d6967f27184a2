"""Connections and streams by the hundred leave no task, no descriptor and no object behind.

The long form, ten thousand of each, is `python -m tests.soak`.
"""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Host
from tests.hostile.mallory import tcp_world, until
from tests.hosts import ECHO, echo, exchange
from tests.soak import leaks

pytestmark = pytest.mark.anyio

_IDLE_WORKERS = 64  # handler tasks a host keeps for its next stream


async def test_two_hundred_connections_leave_nothing() -> None:
    before, after = await leaks.connections(200)
    assert not leaks.leaks(before, after, slack=2 * _IDLE_WORKERS)


async def test_two_thousand_streams_leave_nothing() -> None:
    before, after = await leaks.streams(2000)
    assert not leaks.leaks(before, after, slack=2 * _IDLE_WORKERS)


async def test_hosts_that_ended_leave_nothing() -> None:
    async def life() -> None:
        async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as alice, Host() as bob:
            alice.set_stream_handler(ECHO, echo)
            await bob.connect(alice.peer_info)
            assert await exchange(bob, alice) == b"hello"

    await life()
    before = leaks.take()
    for _ in range(10):
        await life()
    assert not leaks.leaks(before, leaks.take())


async def test_dialers_that_hang_up_at_any_point_leave_nothing() -> None:
    async with tcp_world() as world:
        alice = world.alice
        alice.set_stream_handler(ECHO, echo)
        (await world.connect()).close()
        await until(lambda: world.held() == (0, 0, 0))
        before = leaks.take()
        for number in range(60):
            if number % 3 == 0:  # before a word, inside the handshake, behind it
                (await world.connect()).close()
            elif number % 3 == 1:
                raw = await world.connect()
                raw.send_nowait(b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x20")
                raw.close()
                del raw
            else:
                (await world.mallory()).close()
        await until(lambda: world.held() == (0, 0, 0))
        await anyio.wait_all_tasks_blocked()
        assert not leaks.leaks(before, leaks.take(), slack=_IDLE_WORKERS)
