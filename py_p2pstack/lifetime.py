"""What goes on in an object that is entered, its own tasks and the calls of others, lives as long as the block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup


class Entered(ABC):
    """What is alive in an `async with` block: `_enter` begins it on a stack, and leaving the block unwinds that."""

    _stack: AsyncExitStack

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._enter(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @abstractmethod
    async def _enter(self, stack: AsyncExitStack) -> None:
        """Begin to live, so that the stack ends all of it; if this fails, what it began is ended at once."""


class OwnTasks:
    """A task group that is cancelled when its block is left, and leaves an exception of the block as it is.

    A plain task group wraps whatever its block raises in an ExceptionGroup; a user's `except DialError` around
    `async with Host()` must work nevertheless. A fault in one of the tasks themselves is a bug, and does raise a group.
    """

    async def __aenter__(self) -> TaskGroup:
        self._group = anyio.create_task_group()
        return await self._group.__aenter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)


class OwnCalls:
    """The calls of others into an object that is entered: none outlives the block, each is told of its end.

    with self._calls.call(): ...    # in each method that awaits
    """

    def __init__(self, closed: Callable[[], Exception]) -> None:
        """`closed` makes what is raised by a call that the end cut short, and by one before `open` or after the end."""
        self._closed = closed
        self._open = False
        self._scopes: dict[anyio.CancelScope, None] = {}
        self._none_left = anyio.Event()

    def open(self) -> None:
        """Let calls in."""
        self._open = True

    def check(self) -> None:
        """Raise if calls are not let in."""
        if not self._open:
            raise self._closed()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around what a call does."""
        self.check()
        with anyio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                yield
            finally:
                self._scopes.pop(scope, None)
                if not self._scopes:
                    self._none_left.set()
        if scope.cancelled_caught:
            raise self._closed()

    async def aclose(self) -> None:
        """Let no more calls in, cancel those under way, and wait for their end: what they use is still there."""
        self._open = False
        with anyio.CancelScope(shield=True):
            while self._scopes:
                self._none_left = anyio.Event()
                for scope in self._scopes:
                    scope.cancel()
                await self._none_left.wait()
