"""Claims about deadlines."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.network.deadlines import Deadlines
from py_p2pstack.testing import virtual_time


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_not_cancelled_is_called_back_in_time_and_in_order(backend: str) -> None:
    async def main() -> list[tuple[str, float]]:
        fired: list[tuple[str, float]] = []
        deadlines = Deadlines(10)
        start = anyio.current_time()

        def note(name: str) -> None:
            fired.append((name, anyio.current_time() - start))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deadlines.run)
            await anyio.sleep(1)
            deadlines.start(lambda: note("first"))
            void = deadlines.start(lambda: note("void"))
            await anyio.sleep(3)
            deadlines.start(lambda: note("second"))
            void.cancel()
            void.cancel()
            await anyio.sleep(30)
            deadlines.start(lambda: note("third"))
            await anyio.sleep(11)
            tasks.cancel_scope.cancel()
        assert deadlines.armed == 0
        return fired

    assert virtual_time.run(main, backend=backend) == [("first", 11), ("second", 14), ("third", 44)]


@pytest.mark.anyio
async def test_void_deadlines_do_not_gather_behind_an_armed_one() -> None:
    deadlines = Deadlines(10)
    deadlines.start(lambda: None)
    for _ in range(10_000):
        deadlines.start(lambda: None).cancel()
    assert deadlines.armed == 1
    assert len(deadlines) <= 70
