"""Runs async code in virtual time: whenever nothing can happen now, the clock jumps to the next deadline.

An hour of timers takes no longer than its work. The same seed gives the same run on the same backend:
scheduling is made to depend neither on addresses of objects in memory nor on unseeded chance. What the code
does with sockets, threads, `os.urandom`, wall clocks or the order of sets of strings is its own affair.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")
Args = TypeVarTuple("Args")

_NAMED = 8  # tasks an error message names
_PASSED = 100  # turns of busy tasks between two looks at what comes from outside: each asks the kernel
_CLEANUP_WAIT = 0.01  # seconds, real ones, for the backend's own threads and sockets to end with it


class DeadlockError(RuntimeError):
    """Every task waits, and no timer is there to end any wait."""


def run(function: Callable[[*Args], Awaitable[T]], *args: *Args, backend: str = "asyncio", seed: int = 0) -> T:
    """Run `function(*args)` on an event loop of its own, in virtual time from 0; returns its result.

    Raises DeadlockError, naming waiting tasks, as soon as nothing could ever happen any more; all tasks are
    cancelled before. Whatever comes from outside (a socket, a thread) is nothing that could happen.

    Args:
        backend: `asyncio` or `trio`. They order tasks differently, so their runs differ.
        seed: for trio's scheduler, which shuffles; asyncio's keeps the order in which tasks became ready.
    """
    watch = _Watch()
    if backend == "trio":
        with _deterministic_trio(seed):
            options = {"clock": _make_clock(watch)}
            return anyio.run(watch.main, function, args, backend="trio", backend_options=options)
    with _ordered_scopes():
        options = {"loop_factory": lambda: _VirtualLoop(watch)}
        return anyio.run(watch.main, function, args, backend=backend, backend_options=options)


def alarm(tasks: TaskGroup) -> Callable[[float, Callable[[int], None], int], None]:
    """Return a function that has another called, with a number, at a point in time: a task of `tasks` at most.

    What is called must neither block nor raise. Nothing is called any more when the group is cancelled.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:

        async def wait(when: float, function: Callable[[int], None], number: int) -> None:
            await anyio.sleep_until(when)
            function(number)

        def start(when: float, function: Callable[[int], None], number: int) -> None:
            tasks.start_soon(wait, when, function, number)

        return start

    def call(function: Callable[[int], None], number: int) -> None:
        if not tasks.cancel_scope.cancel_called:
            function(number)

    def set_alarm(when: float, function: Callable[[int], None], number: int) -> None:
        loop.call_at(when, call, function, number)

    return set_alarm


class _Watch:
    """Turns the first deadlock into a cancellation of everything and then an error; a second one is fatal."""

    def __init__(self) -> None:
        self._scope: anyio.CancelScope | None = None
        self._found = ""
        self.done = False

    async def main(self, function: Callable[[*Args], Awaitable[T]], args: tuple[*Args]) -> T:
        try:
            with anyio.CancelScope() as self._scope:
                return await function(*args)
        finally:
            self.done = True
        raise DeadlockError(self._found)

    def nothing_left(self, now: float) -> float:
        """Called by a clock with nothing to jump to; returns how many real seconds to wait."""
        if self.done:
            return _CLEANUP_WAIT
        tasks = (task.name or "?" for task in anyio.get_running_tasks())
        names = sorted(name for name in tasks if not name.startswith("<"))  # those are trio's own
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        what = f"at {now:.6f} s all tasks wait for each other: {', '.join(names[:_NAMED])}{more}"
        if self._scope is None or self._found:
            raise DeadlockError(f"{what}, even after they were cancelled")
        self._found = what
        self._scope.cancel()
        return 0.0


# --- asyncio ----------------------------------------------------------------------------------------


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore]  # which class, the platform says
    """Jumps the clock where a selector would sleep."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.now = 0.0
        self._watch = watch
        self._passed = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0 and self._passed < _PASSED:  # tasks are ready: what comes from outside has time
            self._passed += 1
            return []
        self._passed = 0
        events = super().select(0)
        if events:
            return events
        if timeout is None:
            return super().select(self._watch.nothing_left(self.now))
        self.now += max(timeout, 0.0)
        return []


class _Task(asyncio.Task[T]):
    """Hashes by order of birth, not by address: cancelling a group walks a set of tasks."""

    _serial: int

    def __hash__(self) -> int:
        return self._serial


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, watch: _Watch) -> None:
        self._virtual = _Selector(watch)
        super().__init__(self._virtual)
        self._clock_resolution = 1e-6  # more than floats resolve after a year, less than Windows' 15 ms
        self._serials = itertools.count()
        self.set_task_factory(self._make_task)  # type: ignore[arg-type, unused-ignore]  # its type differs by version

    def time(self) -> float:
        return self._virtual.now

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        task = _Task.__new__(_Task)
        task._serial = next(self._serials)  # registering a task hashes it, so before __init__
        task.__init__(coro, loop=loop, context=context, **options)  # type: ignore[misc]  # late, see above
        return task


@contextmanager
def _ordered_scopes() -> Generator[None]:
    """Let anyio's cancel scopes hash by order of birth: cancelling one walks the set of those inside it."""
    from anyio._backends import _asyncio

    backend: Any = _asyncio
    original = backend.CancelScope
    serials = itertools.count()

    class OrderedCancelScope(original):  # type: ignore[misc, valid-type]  # a private class
        __slots__ = ("_serial",)

        def __init__(self, deadline: float = math.inf, shield: bool = False) -> None:
            super().__init__(deadline, shield)
            self._serial = next(serials)

        def __hash__(self) -> int:
            return self._serial

    backend.CancelScope = OrderedCancelScope
    try:
        yield
    finally:
        backend.CancelScope = original


# --- trio -------------------------------------------------------------------------------------------


def _make_clock(watch: _Watch) -> Any:
    import trio

    class VirtualClock(trio.abc.Clock):
        """Trio asks how long to sleep only when no task can run: time to jump."""

        def __init__(self) -> None:
            self.now = 0.0

        def start_clock(self) -> None:
            pass

        def current_time(self) -> float:
            return self.now

        def deadline_to_sleep_time(self, deadline: float) -> float:
            if deadline == math.inf:
                return watch.nothing_left(self.now)
            self.now = max(self.now, deadline)
            return 0.0

    return VirtualClock()


@contextmanager
def _deterministic_trio(seed: int) -> Generator[None]:
    """Throw the switch that trio keeps for hypothesis: batches are sorted before they are shuffled."""
    from trio._core import _run

    scheduler: Any = _run
    before, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before
        scheduler._r.setstate(state)
