"""Two DHTs on one host: one of the public internet, and one of the private networks we are in.

A lookup that mixes both fails often: strangers on the internet are told private addresses that mean nothing to them,
or, worse, something else. So each has its own protocol, routing table and filters. What is put or provided goes to the
public one if we take part in it; what is looked for is looked for in both. Source: go-libp2p-kad-dht dual/dual.go.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TypeVar

import anyio

from py_p2pstack.addresses import Multiaddr, PeerInfo, is_loopback, is_private, is_public, is_relay
from py_p2pstack.core.datastore import Datastore
from py_p2pstack.errors import LookupFailure, P2PError, RoutingError
from py_p2pstack.events import Subscription
from py_p2pstack.identity import PeerId
from py_p2pstack.lifetime import Entered, OwnTasks
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.events import OnEvent, QueryEvent
from py_p2pstack.protocols.dht.found import Found
from py_p2pstack.protocols.dht.key_text import key_from_text
from py_p2pstack.protocols.dht.local_node import DhtHost
from py_p2pstack.protocols.dht.providers import ProvideResult
from py_p2pstack.protocols.dht.puts import PutResult
from py_p2pstack.protocols.dht.service import Dht
from py_p2pstack.protocols.dht.tally import compare
from py_p2pstack.storage import DatastorePart, MemoryDatastore

T = TypeVar("T")

LAN = "/lan"  # behind the prefix (go: dual.LanExtension)
WAITING = 64  # things found that wait to be taken


class DualDht(Entered):
    """A node of both DHTs; the operations are those of `Dht`, which documents them. `async with` is its lifetime.

        async with Host(listen=["/ip4/0.0.0.0/tcp/4001"]) as host, DualDht(host) as dht:
            await dht.bootstrap()
            value = await dht.get_value("/v/greeting")

    An operation is two, with an id of its own in either DHT, for whoever watches.
    """

    def __init__(
        self,
        host: DhtHost,
        config: DhtConfig | None = None,
        *,
        datastore: Datastore | None = None,
        rng: Random | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Build both; the arguments are those of `Dht`, but the filters of `config` are replaced.

        The mode is that of the public DHT; whoever may serve there serves the private one always.
        """
        config = config or DhtConfig()
        whole = MemoryDatastore() if datastore is None else datastore
        peers = config.bootstrap_peers
        wan = replace(
            config,
            bootstrap_peers=tuple(filter(_has_public, peers)),
            query_filter=_has_public,
            table_filter=_is_public_server,
            address_filter=is_public,
        )
        lan = replace(
            config,
            prefix=config.prefix + LAN,
            mode="client" if config.mode == "client" else "server",
            bootstrap_peers=tuple(filter(_is_private_server, peers)),
            validator=config.rules,  # not those of its own prefix
            query_filter=_has_addresses,
            table_filter=_is_private_server,
            address_filter=_not_loopback,
        )
        ids = itertools.count(1)
        self.wan = Dht(
            host, wan, datastore=DatastorePart(whole, b"wan/"), rng=rng, wall_clock=wall_clock, query_ids=ids
        )
        """The DHT of public addresses."""
        self.lan = Dht(
            host, lan, datastore=DatastorePart(whole, b"lan/"), rng=rng, wall_clock=wall_clock, query_ids=ids
        )
        """The DHT of private addresses."""
        self._host = host
        self._rules = wan.rules
        self._wall_clock = wall_clock

    def __repr__(self) -> str:
        return f"<DualDht {self.wan!r} {self.lan!r}>"

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.wan)
        await stack.enter_async_context(self.lan)
        self._tasks = await stack.enter_async_context(OwnTasks())

    @property
    def active(self) -> Dht:
        """The one that takes what is put or provided: the public one, once it has peers."""
        return self.wan if len(self.wan.routing_table) else self.lan

    async def bootstrap(self) -> int:
        """Fill both routing tables; returns how many peers are in them then."""
        return sum(count for _, count in await self._both(self.wan.bootstrap, self.lan.bootstrap))

    # --- asked of both ----------------------------------------------------------------------------

    async def find_peer(
        self, peer: PeerId, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> PeerInfo:
        """See `Dht.find_peer`; with the addresses that either found."""
        found = await self._both(
            lambda: self.wan.find_peer(peer, timeout=timeout, on_event=on_event),
            lambda: self.lan.find_peer(peer, timeout=timeout, on_event=on_event),
        )
        addresses = dict.fromkeys(address for _, info in found for address in info.addresses)
        return PeerInfo(peer, tuple(addresses))

    async def get_closest_peers(
        self, key: bytes, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> list[PeerId]:
        """See `Dht.get_closest_peers`; of the active DHT, for distances to peers of the other mean nothing there."""
        return await self.active.get_closest_peers(key, timeout=timeout, on_event=on_event)

    async def get_value(
        self, key: str | bytes, *, quorum: int = 0, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> bytes:
        """See `Dht.get_value`. What the public DHT has is not waited for the other's word on."""
        found = await self._both(
            lambda: self.wan.get_value(key, quorum=quorum, timeout=timeout, on_event=on_event),
            lambda: self.lan.get_value(key, quorum=quorum, timeout=timeout, on_event=on_event),
            first_is_enough=True,
        )
        return found[0][1]

    def search_value(
        self, key: str | bytes, *, quorum: int = 0, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> Found[bytes]:
        """See `Dht.search_value`; what improves on all that both found."""
        name = key_from_text(key) if isinstance(key, str) else key
        best: list[bytes] = []

        def improves(value: bytes) -> bool:
            better = not best or compare(self._rules, name, value, best[0], self._wall_clock()) > 0
            if better:
                best[:] = [value]
            return better

        return self._merged(
            improves,
            self.wan.search_value(name, quorum=quorum, timeout=timeout, on_event=on_event),
            self.lan.search_value(name, quorum=quorum, timeout=timeout, on_event=on_event),
        )

    def find_providers(
        self, content: bytes | str, *, count: int = 20, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> Found[PeerInfo]:
        """See `Dht.find_providers`; each provider once, whoever told of it."""
        seen: set[PeerId] = set()

        def is_new(provider: PeerInfo) -> bool:
            new = provider.peer_id not in seen and not (count and len(seen) >= count)
            if new:
                seen.add(provider.peer_id)
            return new

        return self._merged(
            is_new,
            self.wan.find_providers(content, count=count, timeout=timeout, on_event=on_event),
            self.lan.find_providers(content, count=count, timeout=timeout, on_event=on_event),
        )

    # --- given to one -----------------------------------------------------------------------------

    async def put_value(
        self,
        key: str | bytes,
        value: bytes,
        *,
        quorum: int = 1,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
    ) -> PutResult:
        """See `Dht.put_value`."""
        return await self.active.put_value(key, value, quorum=quorum, timeout=timeout, on_event=on_event)

    async def stop_publishing(self, key: str | bytes) -> None:
        """See `Dht.stop_publishing`."""
        for dht in (self.wan, self.lan):
            await dht.stop_publishing(key)

    async def provide(
        self,
        content: bytes | str,
        *,
        announce: bool = True,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
    ) -> ProvideResult:
        """See `Dht.provide`."""
        return await self.active.provide(content, announce=announce, timeout=timeout, on_event=on_event)

    async def provide_many(self, contents: Iterable[bytes | str]) -> int:
        """See `Dht.provide_many`."""
        return await self.active.provide_many(contents)

    async def stop_providing(self, *contents: bytes | str) -> None:
        """See `Dht.stop_providing`."""
        for dht in (self.wan, self.lan):
            await dht.stop_providing(*contents)

    @asynccontextmanager
    async def watch(self, buffer: int = 1024) -> AsyncIterator[tuple[Subscription[QueryEvent], ...]]:
        """Listen to every step in the public and in the private DHT; see `Dht.watch`."""
        async with self.wan.watch(buffer) as of_wan, self.lan.watch(buffer) as of_lan:
            yield of_wan, of_lan

    # --- both -------------------------------------------------------------------------------------

    async def _both(
        self, wan: Callable[[], Awaitable[T]], lan: Callable[[], Awaitable[T]], *, first_is_enough: bool = False
    ) -> list[tuple[Dht, T]]:
        """Run both; returns what those that succeeded have to say. Raises what failed if both did."""
        found: dict[Dht, T] = {}
        failed: dict[Dht, P2PError] = {}

        async def run(dht: Dht, operation: Callable[[], Awaitable[T]]) -> None:
            try:
                found[dht] = await operation()
            except P2PError as fault:
                failed[dht] = fault
            else:
                if first_is_enough and dht is self.wan:
                    tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, self.wan, wan)
            tasks.start_soon(run, self.lan, lan)
        if not found:
            raise _combined(failed[self.wan], failed[self.lan])
        return [(dht, found[dht]) for dht in (self.wan, self.lan) if dht in found]

    def _merged(self, wanted: Callable[[T], bool], wan: Found[T], lan: Found[T]) -> Found[T]:
        """What both find and `wanted` lets pass."""

        async def run(give: Callable[[T], None]) -> None:
            async def pass_on(source: Found[T]) -> None:
                async with source:
                    async for item in source:
                        if wanted(item):
                            give(item)

            await self._both(lambda: pass_on(wan), lambda: pass_on(lan))

        return Found(run, self._tasks, buffer=WAITING)


def _combined(wan: P2PError, lan: P2PError) -> P2PError:
    """The error of an operation that failed in both: that nobody is there to ask says less than anything else."""
    if isinstance(wan, LookupFailure):
        return lan
    if isinstance(lan, LookupFailure) or str(wan) == str(lan):
        return wan
    both = RoutingError(f"in the public DHT: {wan}; in the private one: {lan}")
    both.__cause__ = wan
    return both


def _has_public(peer: PeerInfo) -> bool:
    return any(is_public(address) and not is_relay(address) for address in peer.addresses)


def _is_public_server(peer: PeerInfo) -> bool:
    return _has_public(peer)


def _has_addresses(peer: PeerInfo) -> bool:
    return bool(peer.addresses)


def _is_private_server(peer: PeerInfo) -> bool:
    return any(is_private(address) and not is_relay(address) for address in peer.addresses)


def _not_loopback(address: Multiaddr) -> bool:
    return not is_loopback(address)
