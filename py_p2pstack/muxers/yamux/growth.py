"""How receive windows grow beyond what every stream has: within the bounds of the connection, charged to its budget.

The first 256 KiB of a window are charged to nobody: the number of streams is limited, and bounds them.
"""

from __future__ import annotations

from py_p2pstack.core.muxer import MemoryBudget
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.muxers.stream_state import INITIAL_WINDOW, StreamState
from py_p2pstack.muxers.yamux.config import YamuxConfig

_PRIORITY = 128  # go-yamux: windows grow into the first half of what may be reserved, the rest is for greater needs


class Growth:
    """The growth of all windows of one connection together."""

    __slots__ = ("_config", "budget", "total")

    def __init__(self, config: YamuxConfig) -> None:
        self._config = config
        self.total = 0
        """Bytes."""
        self.budget: MemoryBudget | None = None
        """Where they are charged, if anywhere."""

    def double(self, stream: StreamState, now: float) -> int:
        """Double a window as far as the bounds let it, or not at all; returns by how much it grew."""
        config = self._config
        size = min(stream.capacity, config.max_window - stream.capacity, config.max_total_growth - self.total)
        if size <= 0:
            return 0
        if self.budget is not None:
            try:
                self.budget.reserve_memory(size, _PRIORITY)
            except ResourceLimitExceeded:
                return 0
        self.total += size
        stream.grown_at = now
        stream.capacity += size
        return size

    def undo(self, stream: StreamState) -> None:
        """The window is gone."""
        size = stream.capacity - INITIAL_WINDOW
        if size:
            self.total -= size
            if self.budget is not None:
                self.budget.release_memory(size)
