"""What a DHT is made of, and its life: built whole, then entered, and left without a trace."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from random import Random
from typing import Literal, TypeAlias

from anyio.abc import TaskGroup

from py_p2pstack.core.datastore import Datastore
from py_p2pstack.core.notifications import (
    LocalAddressesUpdated,
    LocalReachabilityChanged,
    PeerDisconnected,
    PeerIdentified,
    PeerProtocolsUpdated,
)
from py_p2pstack.errors import DhtClosed
from py_p2pstack.events import Subscription
from py_p2pstack.lifetime import Entered, OwnCalls, OwnTasks
from py_p2pstack.protocols.dht.admission import Admission
from py_p2pstack.protocols.dht.codec import MessageType
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.handlers import Handlers
from py_p2pstack.protocols.dht.local_node import DhtHost, LocalNode
from py_p2pstack.protocols.dht.lookups import Lookups
from py_p2pstack.protocols.dht.modes import Modes
from py_p2pstack.protocols.dht.provider_handlers import ProviderHandlers
from py_p2pstack.protocols.dht.providers import Providers
from py_p2pstack.protocols.dht.refresh import Refresher
from py_p2pstack.protocols.dht.republish import Republisher
from py_p2pstack.protocols.dht.server import Server, StoreHandler
from py_p2pstack.protocols.dht.snapshot import TableKeeper
from py_p2pstack.protocols.dht.storage import TableSnapshot, ValueStore
from py_p2pstack.protocols.dht.value_handlers import ValueHandlers
from py_p2pstack.protocols.dht.values import Values
from py_p2pstack.storage.memory import MemoryDatastore

Change: TypeAlias = (
    PeerIdentified | PeerProtocolsUpdated | PeerDisconnected | LocalAddressesUpdated | LocalReachabilityChanged
)
CHANGES = (PeerIdentified, PeerProtocolsUpdated, PeerDisconnected, LocalAddressesUpdated, LocalReachabilityChanged)


class DhtParts(Entered):
    """The parts of a DHT and their tasks. `async with` is their life, inside that of the host."""

    def __init__(
        self,
        host: DhtHost,
        config: DhtConfig | None = None,
        *,
        datastore: Datastore | None = None,
        rng: Random | None = None,
        wall_clock: Callable[[], float] = time.time,
        query_ids: Iterator[int] | None = None,
    ) -> None:
        """Build a DHT on `host`; nothing happens until it is entered.

        Args:
            datastore: where values, provider records and the routing table are kept, entered by the caller for as long
                as the DHT; in memory by default.
            rng: picks the keys that refreshes look up, and spreads what is done periodically.
            wall_clock: the time of day in seconds since 1970, by which records age.
            query_ids: numbers the operations for whoever watches; 1, 2, 3… by default.
        """
        self.host = host
        self.config = config = config or DhtConfig()
        self._node = LocalNode(host, config)
        self.routing_table = self._node.table
        """Who is known to serve the DHT."""
        self._rng = rng or Random()  # noqa: S311 - spreads refreshes, protects nothing
        self._datastore = MemoryDatastore() if datastore is None else datastore
        self._wall_clock = wall_clock
        self._lookups = Lookups(self._node, self._gather, self._rng, query_ids or itertools.count(1))
        self._handlers = Handlers(host.id, self.routing_table, self._node, k=config.lookup.k)
        self._rules = config.rules
        self._modes: Modes | None = None
        self._calls = OwnCalls(lambda: DhtClosed("the DHT was left, or not entered"))

    def __repr__(self) -> str:
        return f"<Dht {self.config.protocol} {self.mode} {len(self.routing_table)} peers>"

    @property
    def mode(self) -> Literal["client", "server"]:
        """What we are now: in the automatic modes that changes with our reachability."""
        return "client" if self._modes is None else self._modes.mode

    # --- lifetime ---------------------------------------------------------------------------------

    async def _enter(self, stack: AsyncExitStack) -> None:
        tasks = await stack.enter_async_context(OwnTasks())
        changes = stack.enter_context(self.host.events.subscribe(*CHANGES, buffer=1024))
        node = self._node
        self._admission = node.admission = Admission(node, node.table, self.config, tasks)
        keeper = TableKeeper(node, node.table, TableSnapshot(self._datastore), self.config)
        self._refresher = Refresher(
            node, node.table, self._admission, self.config, self._rng, self._lookups.nearest, keeper
        )
        stack.callback(self._admission.close)
        stack.callback(node.messenger.close)
        stack.push_async_callback(keeper.close)
        stores = {**self._start_values(tasks), **self._start_providers(tasks)}
        self._server = Server(self._handlers, stores, self.config)
        self._modes = Modes(self.host, self._server, self.config)
        self._modes.start()
        stack.callback(self._modes.close)
        tasks.start_soon(self._server.watch_deadlines)
        tasks.start_soon(node.messenger.watch_deadlines)
        tasks.start_soon(self._lookups.watch_deadlines)
        tasks.start_soon(self._follow, changes)
        if self.config.auto_refresh:
            tasks.start_soon(self._refresher.run_periodically)
            tasks.start_soon(self._refresher.run_repairs)
            tasks.start_soon(self._refresher.keep_addresses)
        for peer in node.connected_peers():
            self._admission.found(peer)
        stack.push_async_callback(self._calls.aclose)
        self._calls.open()

    def _start_values(self, tasks: TaskGroup) -> dict[MessageType, StoreHandler]:
        config, clock = self.config, self._wall_clock
        self._values = None
        if not config.enable_values:
            return {}
        store = ValueStore(
            self._datastore,
            wall_clock=clock,
            max_age=config.max_value_age,
            max_values=config.max_values,
            max_bytes=config.max_values_size,
        )
        self._values = Values(self._node, self._lookups, store, self._rules, clock, tasks)
        republisher = Republisher(self._values, store, config, self._rng, clock)
        tasks.start_soon(republisher.run)
        tasks.start_soon(republisher.collect_garbage)
        return ValueHandlers(self._handlers, store, self._rules, config, clock).table()

    def _start_providers(self, tasks: TaskGroup) -> dict[MessageType, StoreHandler]:
        self._providers = None
        if not self.config.enable_providers:
            return {}
        self._providers = Providers(
            self._node, self._lookups, self._datastore, rng=self._rng, wall_clock=self._wall_clock, tasks=tasks
        )
        self._providers.start()
        return ProviderHandlers(self._handlers, self._node, self._providers.store, self._rng).table()

    async def _follow(self, changes: Subscription[Change]) -> None:
        """Keep up with what the host learns of its peers, and of itself."""
        assert self._modes is not None
        async for change in changes:
            if isinstance(change, (PeerIdentified, LocalAddressesUpdated, LocalReachabilityChanged)):
                self._modes.heard(change)
            if isinstance(change, PeerDisconnected):
                self._node.messenger.forget(change.peer)
            elif isinstance(change, LocalAddressesUpdated):
                # Looking ourselves up makes us meet those who should know where we are now.
                self._refresher.refresh_soon()
            elif isinstance(change, (PeerIdentified, PeerProtocolsUpdated)):
                if self._node.belongs_in_table(change.peer):
                    self._admission.found(change.peer)
                else:
                    self._admission.failed(change.peer)

    async def _gather(self) -> None:
        await self._refresher.gather()
