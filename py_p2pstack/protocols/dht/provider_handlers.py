"""How a server keeps and tells who provides what: ADD_PROVIDER and GET_PROVIDERS."""

from __future__ import annotations

from random import Random

import anyio

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import RemoteProtocolError, StorageFull
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht.codec import ConnectionType, KadPeer, Message, MessageType
from py_p2pstack.protocols.dht.content import is_multihash
from py_p2pstack.protocols.dht.handlers import Handlers
from py_p2pstack.protocols.dht.local_node import LocalNode
from py_p2pstack.protocols.dht.server import StoreHandler
from py_p2pstack.protocols.dht.storage import ProviderStore


class ProviderHandlers:
    """Answers what other nodes provide and look for."""

    def __init__(self, handlers: Handlers, node: LocalNode, store: ProviderStore, rng: Random) -> None:
        self.refused = 0
        """Providers not taken in because there was no room."""
        self._handlers = handlers
        self._node = node
        self._store = store
        self._rng = rng

    def table(self) -> dict[MessageType, StoreHandler]:
        """Which of them answers what."""
        return {MessageType.ADD_PROVIDER: self.add, MessageType.GET_PROVIDERS: self.get}

    async def add(self, request: Message, sender: PeerId) -> None:
        """Note that the sender provides a key; what it says of others is ignored. There is no answer.

        Raises RemoteProtocolError for a key that is no multihash, or without an address of the sender that passes the
        config's filter; StorageError.
        """
        self._check(request)
        told = [peer.info for peer in request.provider_peers if peer.info.peer_id == sender]
        addresses = self._node.filtered([address for info in told for address in info.addresses])
        if not addresses:
            raise RemoteProtocolError("ADD_PROVIDER without an address of its sender")
        try:
            await self._store.add(request.key, sender, list(dict.fromkeys(addresses)))
        except StorageFull:
            self.refused += 1  # no reason to end the stream, which may bring other keys

    async def get(self, request: Message, sender: PeerId) -> Message:
        """Tell who is nearer, and in no order who provides the key. Raises RemoteProtocolError, StorageError.

        What finds no room in the message is left out from the end: each time it is others.
        """
        self._check(request)
        providers = [self._with_addresses(info) for info in await self._store.get(request.key)]
        us = self._node.local_peer
        if await self._store.own_time(request.key) is not None:
            providers.append(PeerInfo(us, tuple(self._node.addresses(us))))
        self._rng.shuffle(providers)
        return Message(
            type=MessageType.GET_PROVIDERS,
            key=request.key,
            closer_peers=self._handlers.closer_peers(request.key, sender, anyio.current_time()),
            provider_peers=tuple(map(self._tell, providers)),
            cluster_level=request.cluster_level,
        )

    def _check(self, request: Message) -> None:
        if not is_multihash(request.key):
            raise RemoteProtocolError(f"{request.type.name} with a key that is no multihash")

    def _with_addresses(self, info: PeerInfo) -> PeerInfo:
        """What the provider told, as far as we tell it; where that has aged we may know better."""
        addresses = self._node.filtered(info.addresses) or self._node.addresses(info.peer_id)
        return PeerInfo(info.peer_id, tuple(addresses))

    def _tell(self, info: PeerInfo) -> KadPeer:
        connected = self._node.connectedness(info.peer_id) is Connectedness.CONNECTED
        return KadPeer(info, ConnectionType.CONNECTED if connected else ConnectionType.NOT_CONNECTED)
