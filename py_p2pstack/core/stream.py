"""Streams as applications and protocol handlers see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

from py_p2pstack.core.muxer import ByteStream
from py_p2pstack.core.types import Direction, ProtocolId
from py_p2pstack.identity import PeerId

if TYPE_CHECKING:
    from py_p2pstack.core.connection import Connection


class Stream(ByteStream, Protocol):
    """A muxed stream on which a protocol was agreed. `async with stream:` closes it (resets it on an error)."""

    @property
    def protocol(self) -> ProtocolId: ...

    @property
    def direction(self) -> Direction: ...

    @property
    def connection(self) -> Connection: ...

    @property
    def remote_peer(self) -> PeerId: ...

    def set_service(self, service: str) -> None:
        """Say of which service of ours it is, once: several protocols may be one, with limits of its own.

        Raises ResourceLimitExceeded.
        """
        ...

    async def receive_exactly(self, count: int) -> bytes:
        """Return exactly `count` bytes; raises anyio.IncompleteRead if the peer ends before."""
        ...

    async def receive_message(self, max_size: int) -> bytes:
        """Return the next uvarint-framed message of at most `max_size` bytes; raises anyio.EndOfStream between two.

        Cancelling loses nothing: the next call returns the message.
        """
        ...

    async def send_message(self, message: bytes) -> None:
        """Send `message` behind its uvarint length."""
        ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


StreamHandler: TypeAlias = Callable[[Stream], Awaitable[None]]
"""Serves one inbound stream in a task of its own. The stream is closed when it returns and reset when it raises."""
