"""What a session asks of a muxer's machine, and what machines tell it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sized
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from py_p2pstack.core.muxer import MemoryBudget
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import ResourceLimitExceeded

if TYPE_CHECKING:
    from py_p2pstack.muxers.stream_state import StreamState


class StreamOpened(NamedTuple):
    """The peer opened a stream."""

    stream: StreamState


class StreamReadable(NamedTuple):
    """Bytes came for a stream that had none unread, an end of input, or a reset."""

    stream: StreamState


class StreamEnded(NamedTuple):
    """Both directions have ended; the stream is forgotten."""

    stream: StreamState


class Ponged(NamedTuple):
    """A ping came back."""

    opaque: int
    rtt: float


class WentAway(NamedTuple):
    """The peer takes no more streams; `code` tells why."""

    code: int


Event: TypeAlias = StreamOpened | StreamReadable | StreamEnded | Ponged | WentAway


class MuxerMachine(Protocol):
    """One side of a multiplexed connection, sans-IO."""

    drained: list[StreamState]
    """Streams whose waiting sender may go on; whoever pulls records wakes them and clears the list."""
    ended: list[StreamState]
    """Streams that ended with the last frame pulled; likewise."""
    went_away: int | None
    """The peer's go-away code."""
    queued: int
    """Bytes to send over all streams."""
    buffered: int
    """Bytes received and not consumed over all streams."""
    on_room: Callable[[], None]
    """Called when `full` has become empty."""

    @property
    def streams(self) -> Sized: ...

    @property
    def full(self) -> Collection[StreamState]:
        """Streams whose buffer is full because nobody reads them: nothing more should be received meanwhile.

        Always empty for a muxer with windows.
        """
        ...

    @property
    def stall_timeout(self) -> float:
        """Seconds a stream may be full before it is reset."""
        ...

    @property
    def rtt(self) -> float | None:
        """The last round trip in seconds, if the muxer measures it."""
        ...

    @property
    def has_output(self) -> bool: ...

    @property
    def open_slots(self) -> int:
        """How many streams may be opened now."""
        ...

    @property
    def open_timeout(self) -> float:
        """Seconds an opener may wait for a slot."""
        ...

    def charge(self, budget: MemoryBudget) -> None:
        """From now on charge to `budget` by what receive windows grow."""
        ...

    def no_slot(self) -> ResourceLimitExceeded:
        """What is raised for want of a slot."""
        ...

    def open_stream(self) -> StreamState: ...

    def send_data(self, stream: StreamState, data: Buffer) -> None: ...

    def send_eof(self, stream: StreamState) -> None: ...

    def reset(self, stream: StreamState, code: int, events: list[Event]) -> None: ...

    def refuse(self, stream: StreamState, code: int, now: float, events: list[Event]) -> None: ...

    def discard(self, stream: StreamState, now: float) -> None: ...

    def read(self, stream: StreamState, max_bytes: int) -> bytes: ...

    def update_window(self, stream: StreamState, now: float) -> None: ...

    def ping(self, now: float) -> int: ...

    def go_away(self, code: int) -> None: ...

    def handle_timeout(self, now: float, events: list[Event]) -> None: ...

    def fail_all(self, fault: Exception, events: list[Event], *, flush: bool = False) -> None: ...

    def next_record(self, room: int) -> list[Buffer]: ...

    def receive_data(self, plaintext: Buffer, now: float, events: list[Event]) -> bytes: ...
