"""The tasks of an object that is entered: they live as long as the block, and end with it without a word."""

from __future__ import annotations

from types import TracebackType

import anyio
from anyio.abc import TaskGroup


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
