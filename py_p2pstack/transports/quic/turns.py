"""Those who wait in a queue until they are let go on, first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio


class Turns:
    """A queue of waiting tasks."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[anyio.Event] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, pass_on: Callable[[], None]) -> None:
        """Wait for one's turn; `pass_on` is called if it came and the wait was cancelled, so that it is not lost."""
        turn = anyio.Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                pass_on()
            raise

    def let_go(self, count: int) -> None:
        """Let as many go on, or all if there are fewer."""
        for _ in range(min(count, len(self._waiting))):
            self._waiting.popleft().set()

    def release(self) -> None:
        """Let all go on."""
        self.let_go(len(self._waiting))
