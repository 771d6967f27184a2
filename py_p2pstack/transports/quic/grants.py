"""What the readers of a connection's streams have earned: when the peer is told of it, and until it knows."""

from __future__ import annotations

from py_p2pstack.core.muxer import MemoryBudget
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.postscript import max_stream_data
from py_p2pstack.transports.quic.stream import QuicStream

_PRIORITY = 128  # as for yamux: windows grow into the first half of what may be reserved
_PATIENCE = 0.05  # seconds that an acknowledgement may take, beside two round trips
_IN_ONE = 32  # frames in one packet: 17 bytes each at most


class Grants:
    """The stream credit of one connection."""

    def __init__(self, config: QuicConfig) -> None:
        self.budget: MemoryBudget | None = None
        """Where growth is charged, if anywhere."""
        self._config = config
        self._due: dict[QuicStream, None] = {}
        self._written: list[QuicStream] = []
        self._on_way: dict[int, tuple[float, list[QuicStream]]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to tell, or to be told of."""
        return bool(self._due or self._on_way)

    def grant(self, stream: QuicStream, now: float, rtt: float | None) -> None:
        """Let the peer send as much again."""
        if rtt is not None and now - stream.granted_at < 2 * rtt:  # the window, not the reader, sets the pace
            self._grow(stream)
        stream.granted = stream.consumed + stream.capacity
        stream.granted_at = now
        self._due[stream] = None

    def _grow(self, stream: QuicStream) -> None:
        size = min(stream.capacity, self._config.max_stream_window - stream.capacity)
        if size <= 0:
            return
        if self.budget is not None:
            try:
                self.budget.reserve_memory(size, _PRIORITY)
            except ResourceLimitExceeded:
                return
        stream.capacity += size

    def forget(self, stream: QuicStream) -> None:
        """The stream needs no credit any more; what its window had grown by is given back."""
        self._due.pop(stream, None)
        grown, stream.capacity = stream.capacity - self._config.stream_window, self._config.stream_window
        if grown and self.budget is not None:
            self.budget.release_memory(grown)

    def deadline(self, rtt: float | None) -> float | None:
        """When to tell again, if it is not acknowledged before."""
        for sent_at, _ in self._on_way.values():
            return sent_at + _PATIENCE + 2 * (rtt or 0.0)
        return None

    def frames(self, now: float, rtt: float | None) -> bytes:
        """What is to be told now: what is due, and again what was told and not acknowledged in good time."""
        if self._on_way:
            for ping, (sent_at, streams) in tuple(self._on_way.items()):
                if now < sent_at + _PATIENCE + 2 * (rtt or 0.0):
                    break
                del self._on_way[ping]
                self._due.update((stream, None) for stream in streams if not stream.ended)
        if not self._due:
            return b""
        self._written = [stream for stream, _ in zip(self._due, range(_IN_ONE), strict=False)]
        return b"".join(max_stream_data(stream.id, stream.granted) for stream in self._written)

    def sent(self, ping: int, now: float) -> None:
        """The frames went out with this ping."""
        for stream in self._written:
            self._due.pop(stream, None)
        self._on_way[ping] = now, self._written
        self._written = []

    def acknowledged(self, ping: int) -> None:
        """The peer knows."""
        self._on_way.pop(ping, None)
