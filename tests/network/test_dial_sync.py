"""Claims about dials that several wait for, as far as hosts do not show them."""

from __future__ import annotations

import gc
from weakref import ref

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.errors import DialError, NetworkError
from py_p2pstack.identity import PeerId
from py_p2pstack.lifetime import OwnTasks
from py_p2pstack.network.dial_sync import DialSync
from py_p2pstack.workers import WorkerPool
from tests.peer_ids import peer

pytestmark = pytest.mark.anyio


class Silent:
    def close(self) -> None: ...


async def fail(who: PeerId) -> Silent:
    await anyio.lowlevel.checkpoint()
    raise DialError(who, [("/ip4/192.0.2.1", NetworkError("refused"))])


async def test_each_who_waits_gets_a_fault_of_its_own_and_where_it_came_from() -> None:
    faults: list[DialError] = []
    async with OwnTasks() as tasks:
        dials = DialSync(WorkerPool(tasks, 1), fail)

        async def dial() -> None:
            with pytest.raises(DialError, match="refused") as caught:
                await dials.dial(peer(1))
            assert caught.traceback[-1].name == "fail"
            faults.append(caught.value)

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(dial)
            waiting.start_soon(dial)
    assert faults[0] is not faults[1]
    assert faults[0].attempts == faults[1].attempts


async def test_a_failed_dial_leaves_nothing_to_the_garbage_collector() -> None:
    """Thousands fail in the life of a node; what they held is free at once."""
    faults: list[ref[DialError]] = []

    async def fail_watched(who: PeerId) -> Silent:
        try:
            return await fail(who)
        except DialError as fault:
            faults.append(ref(fault))
            raise

    gc.collect()
    gc.disable()
    try:
        async with OwnTasks() as tasks:
            dials = DialSync(WorkerPool(tasks, 1), fail_watched)
            try:
                await dials.dial(peer(1))
            except DialError as fault:
                faults.append(ref(fault))
            assert [fault() for fault in faults] == [None, None]
    finally:
        gc.enable()
