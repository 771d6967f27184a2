"""The host: what an application holds in its hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.network import Network
from py_p2pstack.core.peerstore import Peerstore
from py_p2pstack.core.stream import Stream, StreamHandler
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.events import EventBus
from py_p2pstack.identity import PeerId


class Mux(Protocol):
    """The protocol router: which handler serves which protocol id (go-libp2p: the multistream muxer)."""

    def add_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None: ...

    def add_handler_match(
        self, protocol: ProtocolId, match: Callable[[ProtocolId], bool], handler: StreamHandler
    ) -> None: ...

    def remove_handler(self, protocol: ProtocolId) -> None: ...

    def protocols(self) -> list[ProtocolId]: ...

    def handler_for(self, protocol: ProtocolId) -> StreamHandler | None: ...


class ConnectionManager(Protocol):
    """Keeps the number of connections between two watermarks; the least valued go first."""

    def tag_peer(self, peer: PeerId, tag: str, value: int) -> None: ...

    def untag_peer(self, peer: PeerId, tag: str) -> None: ...

    def protect(self, peer: PeerId, tag: str) -> None: ...

    def unprotect(self, peer: PeerId, tag: str) -> bool:
        """Returns whether another tag still protects the peer."""
        ...

    def is_protected(self, peer: PeerId, tag: str | None = None) -> bool: ...


class Host(Protocol):
    """A peer: an identity, its network, and the protocols it serves."""

    @property
    def id(self) -> PeerId: ...

    @property
    def peerstore(self) -> Peerstore: ...

    @property
    def addrs(self) -> list[Multiaddr]:
        """Where others can dial us (without the /p2p part)."""
        ...

    @property
    def network(self) -> Network: ...

    @property
    def mux(self) -> Mux: ...

    @property
    def conn_manager(self) -> ConnectionManager: ...

    @property
    def events(self) -> EventBus: ...

    async def connect(self, peer: PeerInfo) -> None:
        """Remember the addresses, connect if not connected, and wait for identify. Raises DialError."""
        ...

    def set_stream_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None: ...

    def set_stream_handler_match(
        self, protocol: ProtocolId, match: Callable[[ProtocolId], bool], handler: StreamHandler
    ) -> None: ...

    def remove_stream_handler(self, protocol: ProtocolId) -> None: ...

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> Stream:
        """Open a stream for the first of `protocols` the peer speaks, connecting first if need be."""
        ...

    async def aclose(self) -> None: ...
