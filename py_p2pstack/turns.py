"""Those who wait in a queue until they are let go on, first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from py_p2pstack.event_loop import Signal, signals


class Turns:
    """A queue of waiting tasks."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Signal] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self) -> Signal:
        """Queue up; the signal tells when it is one's turn. Who will not wait for it, or was woken else, leaves."""
        turn = signals()()
        self._waiting.append(turn)
        return turn

    def leave(self, turn: Signal) -> bool:
        """Out of the queue; returns whether the turn had not come. If it had, it is to be passed on."""
        waits = turn in self._waiting
        if waits:
            self._waiting.remove(turn)
        return waits

    async def wait(self, pass_on: Callable[[], None]) -> None:
        """Wait for one's turn; `pass_on` is called if it came and the wait was cancelled, so that it is not lost."""
        turn = self.join()
        try:
            await turn.wait()
        except BaseException:
            if not self.leave(turn):
                pass_on()
            raise

    def let_go(self, count: int = 1) -> None:
        """Let as many go on, or all if there are fewer."""
        for _ in range(min(count, len(self._waiting))):
            self._waiting.popleft().set()

    def release(self) -> None:
        """Let all go on."""
        self.let_go(len(self._waiting))
