"""Virtual time: it jumps, it repeats, and it knows when nothing can happen any more."""

from __future__ import annotations

import os
import subprocess
import sys

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.testing.virtual_time import DeadlockError, run

BACKENDS = ("asyncio", "trio")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_year_takes_no_time(backend: str) -> None:
    async def main(seconds: float) -> tuple[float, float]:
        start = anyio.current_time()
        for _ in range(100):
            await anyio.sleep(seconds / 100)
        return start, anyio.current_time()

    start, end = run(main, 365 * 86400.0, backend=backend)
    assert start == 0
    assert end == pytest.approx(365 * 86400, abs=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_timeouts_and_sleeps_end_in_order_of_their_deadlines(backend: str) -> None:
    async def main() -> list[str]:
        ended = []

        async def wait(name: str, seconds: float, limit: float) -> None:
            with anyio.move_on_after(limit):
                await anyio.sleep(seconds)
                name += "!"
            ended.append(f"{name}@{anyio.current_time():g}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "late", 30, 60)
            tasks.start_soon(wait, "cut", 100, 20)
            tasks.start_soon(wait, "early", 10, 11)
        return ended

    assert run(main, backend=backend) == ["early!@10", "cut@20", "late!@30"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deadlock_is_an_error_that_names_who_waits(backend: str) -> None:
    cleaned = []

    async def wait_for_ever() -> None:
        try:
            await anyio.Event().wait()
        finally:
            cleaned.append(True)

    async def main() -> None:
        await anyio.sleep(5)
        async with anyio.create_task_group() as tasks:
            for index in range(10):
                tasks.start_soon(wait_for_ever, name=f"waiter {index}")

    with pytest.raises(DeadlockError, match=r"at 5\.0+ s all tasks wait for each other: .*waiter 0.* more"):
        run(main, backend=backend)
    assert len(cleaned) == 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_and_exceptions_come_through(backend: str) -> None:
    async def answer(value: int) -> int:
        await checkpoint()
        if value < 0:
            raise ValueError("negative")
        return value

    assert run(answer, 42, backend=backend) == 42
    with pytest.raises(ValueError, match="negative"):
        run(answer, -1, backend=backend)


def test_a_wait_that_cannot_even_be_cancelled_is_fatal_and_not_endless() -> None:
    async def main() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.Event().wait()

    with pytest.raises(DeadlockError, match="even after they were cancelled"):
        run(main)


async def race() -> list[int]:
    """Dozens of tasks that become ready at the same times, some cancelled together."""
    order: list[int] = []
    turn = anyio.Event()

    async def runner(index: int) -> None:
        try:
            await turn.wait()
            for _ in range(3):
                await checkpoint()
                order.append(index)
            with anyio.CancelScope():
                await anyio.sleep(60)
        finally:
            order.append(-index)

    async with anyio.create_task_group() as tasks:
        for index in range(40):
            tasks.start_soon(runner, index)
        await anyio.sleep(1)
        turn.set()
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    return order


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_run(backend: str) -> None:
    assert run(race, backend=backend, seed=1) == run(race, backend=backend, seed=1)


def test_trio_shuffles_by_the_seed() -> None:
    assert run(race, backend="trio", seed=1) != run(race, backend="trio", seed=2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_process_with_other_addresses_and_hashes_runs_the_same(backend: str) -> None:
    code = (
        "import sys; junk = [object() for _ in range(int(sys.argv[2]))];"
        "from tests.testing.test_virtual_time import race, run; print(run(race, backend=sys.argv[1], seed=5))"
    )
    here = run(race, backend=backend, seed=5)
    for junk in ("1", "12345"):
        there = subprocess.run(
            [sys.executable, "-c", code, backend, junk],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": junk, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert there.stdout.strip() == str(here)


def test_what_was_bent_for_the_run_is_straight_again() -> None:
    import trio
    from anyio._backends import _asyncio

    before = _asyncio.CancelScope, trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING
    for backend in BACKENDS:
        run(race, backend=backend)
    assert before == (_asyncio.CancelScope, trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING)
