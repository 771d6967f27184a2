"""Tasks that are reused: waking an idle one is five times cheaper than starting a new one.

Each job runs alone in its task. What it raises is logged and goes no further: one stream's fault is nobody else's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.event_loop import Signal, signals

logger = logging.getLogger(__name__)

Job = tuple[Callable[[Any], Awaitable[None]], Any]


class _Worker:
    __slots__ = ("job", "wake")

    def __init__(self, job: Job) -> None:
        self.job: Job | None = job
        self.wake: Signal | None = None


class WorkerPool:
    """Runs jobs in tasks of `task_group`; keeps at most `max_idle` of them waiting for the next job.

    How many run at once is bounded by whoever calls `run` (the resource manager counts streams and connections).
    """

    __slots__ = ("_idle", "_max_idle", "_signal", "_task_group", "running")

    def __init__(self, task_group: TaskGroup, max_idle: int) -> None:
        self._task_group = task_group
        self._max_idle = max_idle
        self._idle: list[_Worker] = []
        self._signal = signals()
        self.running = 0
        """Jobs at work now."""

    @property
    def idle(self) -> int:
        """Tasks waiting for a job."""
        return len(self._idle)

    def close(self) -> None:
        """Keep no task from now on: those that idle end now, the others with their job."""
        self._max_idle = 0
        while self._idle:
            worker = self._idle.pop()
            assert worker.wake is not None
            worker.wake.set()

    def run(self, function: Callable[[Any], Awaitable[None]], argument: Any) -> None:
        """Start `function(argument)` soon; returns at once."""
        if self._idle:
            worker = self._idle.pop()
            worker.job = (function, argument)
            if worker.wake is not None:
                worker.wake.set()
        else:
            self._task_group.start_soon(self._work, _Worker((function, argument)))

    async def _work(self, worker: _Worker) -> None:
        while worker.job is not None:
            function, argument = worker.job
            worker.job = None
            self.running += 1
            try:
                await function(argument)
            except Exception:  # the boundary that keeps one handler's fault from all others
                logger.exception("the task for %r failed", argument)
            finally:
                self.running -= 1
            del function, argument  # an idle task must not keep a finished stream, and its connection, alive
            if len(self._idle) >= self._max_idle:
                return
            worker.wake = self._signal()
            self._idle.append(worker)
            try:
                await worker.wake.wait()
            except anyio.get_cancelled_exc_class():
                if worker.job is None:
                    self._idle = [other for other in self._idle if other is not worker]
                    raise
                # It has a job by now, which is begun like that of a new task, and cancelled where it first waits.
