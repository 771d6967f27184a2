"""What a running operation finds, given out as it is found."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.errors import DhtClosed, P2PError

T = TypeVar("T")

Operation = Callable[[Callable[[T], None]], Awaitable[None]]
"""Runs to its end, calling what it is given with each thing it finds; raises P2PError if it fails."""


class Found(Generic[T]):
    """An async iterator over what an operation finds; also an async context manager that ends the operation.

        async with dht.find_providers(key) as found:
            async for provider in found: ...

    The operation begins with the first step of the iteration (or on entering), as a task of the DHT and not of the
    caller: an iteration may be cancelled and taken up again, left, or forgotten. Forgotten for good, the operation ends
    with the next thing it finds, or by itself. One task iterates at a time.

    What was found before a failure is given out first; then the failure is raised, once: DhtClosed if the DHT was left.
    """

    __slots__ = ("__weakref__", "_begun", "_channel", "_operation", "_tasks")

    def __init__(self, operation: Operation[T], tasks: TaskGroup, *, buffer: int) -> None:
        """For the DHT with its `tasks`. At most `buffer` things wait: then the oldest is dropped, and counted."""
        self._operation = operation
        self._tasks = tasks
        self._channel: _Channel[T] = _Channel(buffer)
        self._begun = False

    @property
    def dropped(self) -> int:
        """How many things were lost because nobody took them."""
        return self._channel.dropped

    def __repr__(self) -> str:
        state = "ended" if self._channel.ended else "going on" if self._begun else "not begun"
        return f"<Found {len(self._channel.items)} waiting, {state}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next thing found. Cancelling loses none.

        Raises what the operation failed with, anyio.BusyResourceError if another task waits.
        """
        self._begin()
        return await self._channel.take()

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """Like `close`, for `contextlib.aclosing`."""
        self.close()

    def close(self) -> None:
        """End the operation, cancelling what it does; an iteration ends at once. Idempotent."""
        self._begun = True
        self._channel.close()

    def __del__(self) -> None:
        # Maybe in another thread: a flag, which the operation sees, is all that may be touched.
        self._channel.forgotten = True

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        operation, channel = self._operation, self._channel  # not `self`: it must be able to be forgotten

        async def run() -> None:
            await channel.run(operation)

        try:
            self._tasks.start_soon(run)
        except RuntimeError:
            channel.end(DhtClosed("the DHT was left"))


class _Channel(Generic[T]):
    """What the operation and the iteration share."""

    __slots__ = ("_failure", "_scope", "_waiter", "dropped", "ended", "forgotten", "items")

    def __init__(self, buffer: int) -> None:
        self.items: deque[T] = deque(maxlen=buffer)
        self.dropped = 0
        self.ended = False
        self.forgotten = False
        self._failure: P2PError | None = None
        self._waiter: anyio.Event | None = None
        self._scope = anyio.CancelScope()

    async def run(self, operation: Operation[T]) -> None:
        """The task: run the operation to its end, and pass on how it ended."""
        failure: P2PError | None = DhtClosed("the DHT was left")
        try:
            with self._scope:
                try:
                    await operation(self.give)
                    failure = None
                except P2PError as fault:
                    failure = fault
        finally:
            self.end(failure)

    def give(self, item: T) -> None:
        """Pass a thing on to the iteration; ends the operation if there is none any more."""
        if self.forgotten:
            self._scope.cancel()
        if self.ended:
            return
        if len(self.items) == self.items.maxlen:
            self.dropped += 1
        self.items.append(item)
        self._wake()

    def end(self, failure: P2PError | None) -> None:
        if not self.ended:
            self.ended = True
            self._failure = failure
            self._wake()

    def close(self) -> None:
        self.items.clear()
        self.end(None)
        self._failure = None
        self._scope.cancel()

    async def take(self) -> T:
        while not self.items:
            if self.ended:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                raise StopAsyncIteration
            if self._waiter is not None:
                raise anyio.BusyResourceError("iterating over")
            self._waiter = anyio.Event()
            try:
                await self._waiter.wait()
            finally:
                self._waiter = None
        return self.items.popleft()

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.set()
