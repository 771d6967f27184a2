"""The network (go-libp2p: swarm): it dials, listens, and keeps the connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.connection import Connection
from py_p2pstack.core.peerstore import Peerstore
from py_p2pstack.core.stream import Stream, StreamHandler
from py_p2pstack.core.types import Connectedness, ProtocolId
from py_p2pstack.identity import PeerId


class Notifiee(Protocol):
    """Called synchronously, in order, as the network changes; a raising notifiee is logged and touches nobody else."""

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...

    def listening(self, address: Multiaddr) -> None: ...

    def listen_closed(self, address: Multiaddr) -> None: ...


class Dialer(Protocol):
    """The part of the network that protocols need: who am I, whom do I reach, reach them."""

    @property
    def local_peer(self) -> PeerId: ...

    @property
    def peerstore(self) -> Peerstore: ...

    async def dial_peer(self, peer: PeerId) -> Connection:
        """Return a live connection, made if need be from the addresses in the peerstore.

        Concurrent calls share one dial. Raises DialError (each address with its own cause).
        """
        ...

    async def close_peer(self, peer: PeerId) -> None: ...

    def connectedness(self, peer: PeerId) -> Connectedness: ...

    def can_dial(self, peer: PeerId, address: Multiaddr) -> bool: ...


class Network(Dialer, Protocol):
    """Everything go-libp2p's Network has."""

    def set_stream_handler(self, handler: StreamHandler | None) -> None:
        """Give every inbound stream to `handler` as it comes, un-negotiated; None: back to the protocol router."""
        ...

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId], *, dial: bool = True) -> Stream: ...

    async def listen(self, *addresses: Multiaddr) -> None:
        """Listen on all; raises ListenError if any fails (those that work stay)."""
        ...

    def listen_addresses(self) -> list[Multiaddr]: ...

    def interface_listen_addresses(self) -> list[Multiaddr]:
        """Listen addresses with 0.0.0.0 and :: spelled out as the machine's interface addresses."""
        ...

    def peers(self) -> list[PeerId]: ...

    def conns(self) -> Sequence[Connection]: ...

    def conns_to_peer(self, peer: PeerId) -> Sequence[Connection]: ...

    def notify(self, notifiee: Notifiee) -> None: ...

    def stop_notify(self, notifiee: Notifiee) -> None: ...

    async def aclose(self) -> None: ...
