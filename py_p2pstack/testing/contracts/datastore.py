"""What every datastore must do, as async functions that assert it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import anyio

from py_p2pstack.core.datastore import Change, Datastore

OpenDatastore = Callable[[], AbstractAsyncContextManager[Datastore]]
"""Opens the datastore to try; called again after it was closed, it opens the same one."""

_PATIENCE = 60.0  # seconds: a claim that takes longer has failed


async def what_is_written_is_read(open_datastore: OpenDatastore) -> None:
    """Keys and values are any bytes, empty ones too; a key has its last value; what is not there is None."""
    async with open_datastore() as datastore:
        assert await datastore.get(b"alice") is None
        await datastore.write(
            [(b"alice", b"1"), (b"", b"empty key"), (b"empty value", b""), (bytes(range(256)), b"\0\xff")]
        )
        await datastore.write([(b"alice", b"2")], durable=False)
        assert await datastore.get(b"alice") == b"2"
        assert await datastore.get(b"") == b"empty key"
        assert await datastore.get(b"empty value") == b""
        assert await datastore.get(bytes(range(256))) == b"\0\xff"


async def none_deletes(open_datastore: OpenDatastore) -> None:
    """Deleting what is not there is no fault."""
    async with open_datastore() as datastore:
        await datastore.write([(b"alice", b"1"), (b"bob", b"2")])
        await datastore.write([(b"alice", None), (b"carol", None)])
        assert await datastore.get(b"alice") is None
        assert await datastore.scan(b"") == [(b"bob", b"2")]


async def the_last_change_of_a_key_counts(open_datastore: OpenDatastore) -> None:
    """Within one write, too."""
    async with open_datastore() as datastore:
        await datastore.write([(b"alice", b"1"), (b"bob", None), (b"alice", None), (b"bob", b"2"), (b"bob", b"3")])
        assert await datastore.scan(b"") == [(b"bob", b"3")]


async def an_empty_write_is_done_at_once(open_datastore: OpenDatastore) -> None:
    """Nothing to do is no fault."""
    async with open_datastore() as datastore:
        await datastore.write([])
        assert await datastore.scan(b"") == []


async def scans_are_in_order_and_within_their_prefix(open_datastore: OpenDatastore) -> None:
    """The order is that of bytes, a prefix may end in 0xff, and a key is its own prefix."""
    keys = [b"", b"a", b"a/", b"a/1", b"a/2", b"a0", b"a\xff", b"a\xff\xff", b"a\xff\xff1", b"b", b"\xff", b"\xff\xff"]
    async with open_datastore() as datastore:
        await datastore.write([(key, b"=" + key) for key in reversed(keys)])
        for prefix in (*keys, b"c", b"a/1x"):
            expected = [(key, b"=" + key) for key in sorted(keys) if key.startswith(prefix)]
            assert await datastore.scan(prefix) == expected


async def pages_are_behind_each_other(open_datastore: OpenDatastore) -> None:
    """`after` needs not exist; before the prefix it means its beginning, behind it the end."""
    async with open_datastore() as datastore:
        rows = [(b"p/%04d" % number, b"%d" % number) for number in range(2500)]
        await datastore.write([*rows, (b"p", b""), (b"q", b"")])
        pages: list[tuple[bytes, bytes]] = []
        while page := await datastore.scan(b"p/", after=pages[-1][0] if pages else None):
            assert len(page) == min(1000, 2500 - len(pages))
            pages += page
        assert pages == rows
        assert await datastore.scan(b"p/", after=b"p/0041x", limit=2) == rows[42:44]
        assert await datastore.scan(b"p/", after=b"a", limit=1) == rows[:1]
        assert await datastore.scan(b"p/", after=b"z") == []


async def a_write_is_seen_whole(open_datastore: OpenDatastore) -> None:
    """Readers never see a part of a write, while many are going on."""
    async with open_datastore() as datastore:
        await datastore.write([(b"left", b"0"), (b"right", b"0")])
        done = False

        async def write(first: int) -> None:
            for number in range(first, first + 20):
                await datastore.write([(b"left", b"%d" % number), (b"right", b"%d" % number)], durable=False)

        async def read() -> None:
            while not done:
                (_, left), (_, right) = await datastore.scan(b"")
                assert left == right

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            async with anyio.create_task_group() as writers:
                for first in range(0, 1000, 100):
                    writers.start_soon(write, first)
            done = True


async def writes_take_effect_in_the_order_of_their_calls(open_datastore: OpenDatastore) -> None:
    """The last of many writers wins, durable or not."""
    async with open_datastore() as datastore:
        order: list[int] = []

        async def write(number: int) -> None:
            order.append(number)
            await datastore.write([(b"key", b"%d" % number)], durable=number % 3 == 0)

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(write, number)
        assert await datastore.get(b"key") == b"%d" % order[-1]


async def a_cancelled_write_happens_whole_or_not_at_all(open_datastore: OpenDatastore) -> None:
    """Wherever it was; and the writes beside it are unharmed."""
    async with open_datastore() as datastore:

        async def write(number: int, scope: anyio.CancelScope) -> None:
            with scope:
                changes: Sequence[Change] = [(b"%d/%d" % (number, part), b"") for part in range(10)]
                await datastore.write(changes)

        scopes = [anyio.CancelScope() for _ in range(60)]
        async with anyio.create_task_group() as tasks:
            for number, scope in enumerate(scopes):
                tasks.start_soon(write, number, scope)
                if number % 7 == 0:
                    await anyio.lowlevel.checkpoint()
                if number % 2 == 0:
                    scopes[number // 2].cancel()
        await datastore.write([])  # all before it have happened by now
        for number, scope in enumerate(scopes):
            found = len(await datastore.scan(b"%d/" % number))
            assert found in ((0, 10) if scope.cancelled_caught else (10,))


async def what_was_written_is_there_the_next_time(open_datastore: OpenDatastore) -> None:
    """Durable or not, and also what was asked for just before the end."""
    async with open_datastore() as datastore:
        await datastore.write([(b"durable", b"1")])
        await datastore.write([(b"other", b"2")], durable=False)
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(datastore.write, [(b"last/%02d" % number, b"")])
    async with open_datastore() as datastore:
        assert await datastore.get(b"durable") == b"1"
        assert await datastore.get(b"other") == b"2"
        assert len(await datastore.scan(b"last/")) == 100


async def big_values_and_big_writes_fit(open_datastore: OpenDatastore) -> None:
    """Megabytes in one value, and ten thousand changes in one write."""
    async with open_datastore() as datastore:
        value = bytes(range(256)) * 16_384
        await datastore.write([(b"big", value)])
        await datastore.write([(b"many/%05d" % number, b"x" * 100) for number in range(10_000)], durable=False)
        assert await datastore.get(b"big") == value
        assert len(await datastore.scan(b"many/", limit=20_000)) == 10_000


def _patient(claim: Callable[[OpenDatastore], Awaitable[None]]) -> Callable[[OpenDatastore], Awaitable[None]]:
    async def bounded(open_datastore: OpenDatastore) -> None:
        with anyio.fail_after(_PATIENCE):
            await claim(open_datastore)

    bounded.__name__ = getattr(claim, "__name__", "claim")
    return bounded


DATASTORE: tuple[Callable[[OpenDatastore], Awaitable[None]], ...] = tuple(
    _patient(claim)
    for claim in (
        what_is_written_is_read,
        none_deletes,
        the_last_change_of_a_key_counts,
        an_empty_write_is_done_at_once,
        scans_are_in_order_and_within_their_prefix,
        pages_are_behind_each_other,
        a_write_is_seen_whole,
        writes_take_effect_in_the_order_of_their_calls,
        a_cancelled_write_happens_whole_or_not_at_all,
        what_was_written_is_there_the_next_time,
        big_values_and_big_writes_fit,
    )
)
