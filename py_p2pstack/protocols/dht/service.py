"""The DHT as a service of a host: what an application calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.errors import InvalidRecord, LookupFailure, NotEnabled, PeerNotFound
from py_p2pstack.events import Subscription
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupResult, NetworkSize, PeerState
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.events import EVENT_TYPES, FinalPeer, OnEvent, QueryEvent
from py_p2pstack.protocols.dht.found import Found
from py_p2pstack.protocols.dht.key_text import key_from_text
from py_p2pstack.protocols.dht.parts import DhtParts
from py_p2pstack.protocols.dht.providers import ProvideResult, Providers
from py_p2pstack.protocols.dht.puts import PutResult
from py_p2pstack.protocols.dht.values import Values


class Dht(DhtParts):
    """A node of the DHT. `async with` is its lifetime, inside that of its host.

        async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as host, Dht(host) as dht:
            await host.connect(somebody)
            await dht.bootstrap()
            found = await dht.find_peer(peer_id)

    Every operation may be cancelled and bounded by time from outside (`anyio.fail_after`), besides its own `timeout`.
    Leaving the block ends those that other tasks have under way: each raises DhtClosed, as whatever is asked later.
    """

    # --- what an application asks -----------------------------------------------------------------

    async def bootstrap(self) -> int:
        """Fill the routing table: from the peers connected, else from the bootstrap peers, then by a whole refresh.

        Returns how many peers are in the table then; 0 means that there is nobody to ask.
        """
        with self._calls.call():
            await self._refresher.gather()
            await self._refresher.refresh(force=True)
        return len(self.routing_table)

    def network_size(self) -> NetworkSize | None:
        """How many peers there are besides us, by the lookups of the last hours; None before there were a few."""
        return self._lookups.network_size()

    async def find_peer(
        self, peer: PeerId, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> PeerInfo:
        """Find a peer and connect to it; at once if we are connected already.

        Args:
            peer: whom to find; it need not serve the DHT.
            timeout: seconds; the config's `lookup_timeout` by default.
            on_event: called with every step.

        Raises:
            PeerNotFound: nobody knew the peer, or it cannot be reached.
            LookupFailure: there is nobody to ask.
            OperationTimeout: it took too long.
        """
        with self._calls.call():
            return await self._find_peer(peer, timeout, on_event)

    async def _find_peer(self, peer: PeerId, timeout: float | None, on_event: OnEvent | None) -> PeerInfo:
        if peer == self.host.id:
            return PeerInfo(peer, tuple(self.host.addrs))
        node = self._node
        operation = self._lookups.begin(peer.to_bytes(), on_event)
        if node.is_connected(peer):
            operation.tell_of(FinalPeer, peer)
            return self.host.peerstore.peer_info(peer)
        request = Message(type=MessageType.FIND_NODE, key=operation.key)
        query, result = await self._lookups.run(
            operation, request, timeout=timeout, stop=lambda: node.is_connected(peer)
        )
        state = query.lookup.state(peer)
        if node.is_connected(peer) or state is PeerState.QUERIED:
            operation.tell_of(FinalPeer, peer)
            return self.host.peerstore.peer_info(peer)
        if state is None:
            raise PeerNotFound(f"nobody who was asked ({result.queried} in all) knows {peer}")
        raise PeerNotFound(f"{peer} is known, but cannot be reached")

    async def get_closest_peers(
        self, key: bytes, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> list[PeerId]:
        """Return the k peers nearest to `key`, nearest first: every one of them answered just now.

        Raises LookupFailure (nobody to ask, or nobody answered), OperationTimeout, ValueError (no key).
        """
        result = await self.look_up(key, timeout=timeout, on_event=on_event)
        if not result.peers:
            raise LookupFailure(f"none of the {result.unreachable} peers known answered")
        return list(result.peers)

    async def look_up(
        self, key: bytes, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> LookupResult[PeerId]:
        """Like `get_closest_peers`, with all that is to be told about how it went."""
        if not 0 < len(key) <= codec.MAX_KEY:
            raise ValueError(f"a key has 1..{codec.MAX_KEY} bytes")
        with self._calls.call():
            return await self._lookups.nearest(key, timeout=timeout, on_event=on_event)

    async def put_value(
        self,
        key: str | bytes,
        value: bytes,
        *,
        quorum: int = 1,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
    ) -> PutResult:
        """Put a value to the k peers nearest to its key, and again every 22 to 24 hours as long as we run.

        It is kept here first, durably, so that it is published again after a restart. `stop_publishing` ends that.

        Args:
            key: `/namespace/…`; text is read by `key_from_text`, so `/pk/`, `/ipns/` and `/owned/` take peer ids.
            value: at most the config's `max_value_size`; above 14 KiB rust-libp2p's nodes will not keep it.
            quorum: how many peers have to confirm that they keep it.
            timeout: seconds; the config's `lookup_timeout` by default.
            on_event: called with every step.

        Raises:
            InvalidRecord: the key's namespace does not allow it, or prefers the value we have.
            PutFailed: fewer than `quorum` peers (or none) keep it now; its `result` tells more.
            LookupFailure: there is nobody to ask.
            OperationTimeout: the nearest peers were not found in time. After these three we still publish it, and try
                again within `republish_check`.
            StorageError: our datastore failed.
            NotEnabled: the config says so.
        """
        with self._calls.call():
            return await self._values_or_raise().put(
                _key(key), value, quorum=quorum, timeout=timeout, on_event=on_event
            )

    async def get_value(
        self, key: str | bytes, *, quorum: int = 0, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> bytes:
        """Return the best value under a key.

        Args:
            key: see `put_value`.
            quorum: enough when more than so many peers (we included) answered with a valid value; 0: ask all of the
                nearest, and be sure.
            timeout: seconds; the config's `lookup_timeout` by default. The best found until then is returned.
            on_event: called with every step.

        Raises:
            ValueNotFound: nobody who answered has a valid value.
            LookupFailure, OperationTimeout, NotEnabled, InvalidRecord (no key): as `put_value`.
        """
        with self._calls.call():
            return await self._values_or_raise().get(_key(key), quorum=quorum, timeout=timeout, on_event=on_event)

    def search_value(
        self, key: str | bytes, *, quorum: int = 0, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> Found[bytes]:
        """Search a value, giving out each that is better than all before; arguments as for `get_value`.

            async with dht.search_value("/v/greeting") as values:
                async for value in values: ...

        Nothing given out means that there is none. May be left at any time; see `Found`.
        """
        return self._values_or_raise().search(_key(key), quorum=quorum, timeout=timeout, on_event=on_event)

    async def stop_publishing(self, key: str | bytes) -> None:
        """Forget a value we put: it is put no more, and peers forget it within 48 hours. Raises StorageError."""
        with self._calls.call():
            await self._values_or_raise().stop_publishing(_key(key))

    def _values_or_raise(self) -> Values:
        self._calls.check()
        if self._values is None:
            raise NotEnabled("this node has no part in values")
        return self._values

    async def provide(
        self,
        content: bytes | str,
        *,
        announce: bool = True,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
    ) -> ProvideResult:
        """Tell the k peers nearest to some content that we provide it, and again every 22 hours as long as we run.

        The key is kept here first, durably, so that it is provided again after a restart, and soon if nobody could be
        told now. `stop_providing` ends that.

        Args:
            content: a multihash, or the text of a CID; all CIDs with one multihash are one.
            announce: whether to tell others; if not, whoever happens to ask us is told.
            timeout: seconds; the config's `lookup_timeout` by default.
            on_event: called with every step.

        Raises:
            ValueError: no multihash or CID.
            ProvideFailed: nobody could be told; its `result` tells why.
            LookupFailure, OperationTimeout, StorageError, NotEnabled: as `put_value`.
        """
        with self._calls.call():
            return await self._providers_or_raise().provide(
                content, announce=announce, timeout=timeout, on_event=on_event
            )

    async def provide_many(self, contents: Iterable[bytes | str]) -> int:
        """Provide any number of contents as `provide` does, but in the background, from now on; returns how many.

        Their regions of the key space are gone through instead of a lookup for each: a hundred thousand contents among
        a thousand peers take about a hundred lookups. Raises ValueError, StorageError, NotEnabled.
        """
        with self._calls.call():
            return await self._providers_or_raise().provide_many(contents)

    async def stop_providing(self, *contents: bytes | str) -> None:
        """Provide this no longer; those told forget it within 48 hours. Raises ValueError, StorageError, NotEnabled."""
        with self._calls.call():
            await self._providers_or_raise().stop(contents)

    def find_providers(
        self,
        content: bytes | str,
        *,
        count: int = 20,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
    ) -> Found[PeerInfo]:
        """Find who provides some content, giving out each as soon as anybody tells of it; ourselves too.

            async with dht.find_providers(cid) as providers:
                async for provider in providers: ...

        Nothing given out means that there is none. May be left at any time; see `Found`. The iteration raises
        LookupFailure (nobody to ask, and none known here), OperationTimeout, StorageError.

        Args:
            content: see `provide`.
            count: after how many it is enough; 0: all that are found, at most the config's `max_found`.
            timeout: seconds; the config's `lookup_timeout` by default.
            on_event: called with every step.

        Raises:
            ValueError: no multihash or CID, or a negative count.
            NotEnabled: the config says so.
        """
        return self._providers_or_raise().find(content, count=count, timeout=timeout, on_event=on_event)

    def _providers_or_raise(self) -> Providers:
        self._calls.check()
        if self._providers is None:
            raise NotEnabled("this node has no part in providers")
        return self._providers

    async def ping(self, peer: PeerId) -> float:
        """Return the seconds a PING of the DHT took there and back. Raises as `find_node` does."""
        start = anyio.current_time()
        with self._calls.call():
            await self._node.messenger.request(peer, Message(type=MessageType.PING))
        return anyio.current_time() - start

    async def find_node(self, peer: PeerId, key: bytes) -> list[PeerInfo]:
        """Ask one peer whom it knows nearest to `key`; its answer as it came, at most 2k peers.

        Raises OperationTimeout, RemoteProtocolError, DialError, NegotiationError, ConnectionClosed, StreamError,
        ResourceLimitExceeded.
        """
        with self._calls.call():
            return await self._node.find_node(peer, key)

    @asynccontextmanager
    async def watch(self, buffer: int = 1024) -> AsyncIterator[Subscription[QueryEvent]]:
        """Listen to every step of every operation: `async with dht.watch() as events: async for event in events: …`.

        At most `buffer` events wait, the oldest being dropped (the subscription counts them).
        """
        with self._lookups.watchers.subscribe(*EVENT_TYPES, buffer=buffer) as subscription:
            yield subscription


def _key(key: str | bytes) -> bytes:
    data = key_from_text(key) if isinstance(key, str) else key
    if not 0 < len(data) <= codec.MAX_KEY:
        raise InvalidRecord(f"a key has 1..{codec.MAX_KEY} bytes")
    return data
