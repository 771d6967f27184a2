"""A lock for where a lock is taken at every message.

`anyio.Lock` asks at each turn which task it is that takes it, and looks through all scopes around it whether one was
cancelled: with a host, a DHT and an application around it, a tenth of what a DHT request takes.
"""

from __future__ import annotations

from types import TracebackType

from py_p2pstack.turns import Turns


class Lock:
    """Held by one task at a time, first come, first served. Taking a free one is no checkpoint."""

    __slots__ = ("_held", "_turns")

    def __init__(self) -> None:
        self._held = False
        self._turns = Turns()

    @property
    def held(self) -> bool:
        """Whether somebody has it."""
        return self._held

    async def acquire(self) -> None:
        """Take it, when it is free. Whoever has it must not take it again."""
        if self._held:
            await self._turns.wait(self.release)  # it is handed over
        else:
            self._held = True

    def release(self) -> None:
        """Hand it to who has waited longest, if anybody does."""
        if self._turns:
            self._turns.let_go()
        else:
            self._held = False

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
