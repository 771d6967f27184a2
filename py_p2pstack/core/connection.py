"""A connection as the swarm keeps it: a muxed connection that was admitted, with its streams."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.core.stream import Stream
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.identity import PeerId


class Connection(Protocol):
    """A live connection to one proven peer; hashed and compared by identity."""

    identified: bool
    """Whether identify has told on this connection what the peer speaks; what is known otherwise may be out of date."""

    def __hash__(self) -> int: ...

    @property
    def info(self) -> ConnectionInfo: ...

    @property
    def remote_peer(self) -> PeerId: ...

    @property
    def closed(self) -> bool: ...

    @property
    def close_reason(self) -> Exception | None: ...

    @property
    def streams(self) -> Collection[Stream]: ...

    async def new_stream(self, protocols: Sequence[ProtocolId]) -> Stream:
        """Open a stream and agree on the first of `protocols` the peer speaks.

        No round trip when identify already told that the peer speaks one of them. What it told on an earlier connection
        is believed of a single protocol, never to choose among several. Raises NegotiationError, ConnectionClosed,
        ResourceLimitExceeded, OperationTimeout.
        """
        ...

    async def aclose(self, code: int = 0) -> None:
        """Close the connection and wait until it is gone."""
        ...
