"""Those who wait until the peer allows another stream."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.turns import Turns


class Openers:
    """A queue of them."""

    def __init__(self, limits: Callable[[], tuple[int, int]], timeout: float) -> None:
        """`limits` tells how many streams the peer allows in all, and how many were opened; `timeout` in seconds."""
        self._limits = limits
        self._timeout = timeout
        self._turns = Turns()

    def may_go_on(self) -> bool:
        """Whether there is room, and nobody waits for it already."""
        if self._turns:
            return False
        allowed, opened = self._limits()
        return opened < allowed

    async def wait(self) -> None:
        """Wait for room behind those who wait already. Raises ResourceLimitExceeded when that takes too long."""
        first = True
        with anyio.move_on_after(self._timeout):
            while (first and self._turns) or not self._room():
                first = False
                await self._turns.wait(self.wake)
            return
        allowed, _ = self._limits()
        raise ResourceLimitExceeded("streams the peer allows", allowed, allowed + 1)

    def _room(self) -> int:
        allowed, opened = self._limits()
        return max(0, allowed - opened)

    def wake(self) -> None:
        """The peer may allow more: let as many go on as there is room for."""
        if self._turns:
            self._turns.let_go(self._room())

    def wake_all(self) -> None:
        """There will be no more streams."""
        self._turns.release()
