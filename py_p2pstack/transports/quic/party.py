"""Who waits for something on an endpoint, and may have to look after it meanwhile."""

from __future__ import annotations

from typing import Protocol

import anyio


class Driven(Protocol):
    """What a party needs of an endpoint."""

    def interrupt(self, party: Party) -> None: ...


class Party:
    """Somebody who waits for something on an endpoint."""

    __slots__ = ("_endpoint", "_turn", "done")

    def __init__(self, endpoint: Driven) -> None:
        self._endpoint = endpoint
        self._turn: anyio.Event | None = None
        self.done = False

    def finish(self) -> None:
        """It has what it waited for."""
        if not self.done:
            self.done = True
            self.wake()

    def again(self) -> None:
        """It will wait for something else."""
        self.done = False

    def wake(self) -> None:
        """Let it look."""
        if self._turn is not None:
            self._turn.set()
        else:
            self._endpoint.interrupt(self)

    async def wait(self) -> None:
        """Wait to be woken."""
        self._turn = anyio.Event()
        try:
            await self._turn.wait()
        finally:
            self._turn = None
