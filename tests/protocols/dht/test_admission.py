"""Who enters the routing table, and who leaves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.host import ConnectionManager
from py_p2pstack.errors import StreamReset
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupConfig, RoutingTable, cached_keys
from py_p2pstack.network.connection_manager import ConnectionManager as RealManager
from py_p2pstack.network.connection_manager import ConnectionManagerConfig
from py_p2pstack.protocols.dht import DhtConfig
from py_p2pstack.protocols.dht.admission import FREEZE_AFTER, TAG, Admission
from tests.peer_ids import peer
from tests.protocols.dht.nodes import in_virtual_time, settle, world

US = peer(0)


class Asker:
    """Everybody speaks the DHT and answers at once, but those said not to."""

    def __init__(self) -> None:
        self._manager = RealManager(ConnectionManagerConfig())
        self.mute: set[PeerId] = set()
        self.slow: set[PeerId] = set()
        self.lonely = False
        self.others: set[PeerId] = set()
        self.gone = False  # all: nothing is known of anybody who was not asked just now
        self.asked: list[PeerId] = []

    @property
    def conn_manager(self) -> ConnectionManager:
        return self._manager

    def belongs_in_table(self, who: PeerId) -> bool:
        return who not in self.others and (not self.gone or who in self.asked)

    async def find_node(self, who: PeerId, key: bytes) -> list[PeerInfo]:
        assert key == who.to_bytes()
        self.asked.append(who)
        if who in self.slow:
            await anyio.sleep_forever()
        if who in self.mute:
            raise StreamReset
        return [] if self.lonely else [PeerInfo(peer(1))]


class Gate:
    def __init__(self, admission: Admission, asker: Asker, table: RoutingTable[PeerId]) -> None:
        self.admission = admission
        self.asker = asker
        self.table = table

    async def found(self, *numbers: int) -> None:
        await self.admission.check_all([peer(number) for number in numbers])

    def fill(self) -> PeerId:
        """Let so many enter that others wait to replace them; returns one of the farthest."""
        for number in range(1, 40):
            self.admission.answered(peer(number))
        self.table.freeze()
        for number in range(40, 60):
            self.admission.answered(peer(number))
        return next(entry.peer for entry in self.table.entries() if entry.cpl == 0)


def gate(scenario: Callable[[Gate], Awaitable[None]], config: DhtConfig | None = None) -> Callable[[], Awaitable[None]]:
    """Run a scenario on an admission of its own."""

    async def run() -> None:
        settings = config or DhtConfig(lookup=LookupConfig(k=2, beta=2), max_checks=4)
        asker = Asker()
        key = cached_keys(PeerId.to_bytes, 1024)
        table = RoutingTable(key(US), key, bucket_size=settings.lookup.k)
        async with anyio.create_task_group() as tasks:
            await scenario(Gate(Admission(asker, table, settings, tasks), asker, table))
            tasks.cancel_scope.cancel()

    run.__name__, run.__doc__ = getattr(scenario, "__name__", "run"), scenario.__doc__
    return run


@in_virtual_time
@gate
async def test_a_peer_enters_after_it_answered_a_find_node(g: Gate) -> None:
    await g.found(1)
    assert g.asker.asked == [peer(1)]
    assert peer(1) in g.table


@in_virtual_time
@gate
async def test_peers_that_do_not_answer_or_do_not_serve_stay_outside(g: Gate) -> None:
    g.asker.mute, g.asker.slow, g.asker.others = {peer(1)}, {peer(2)}, {peer(3)}
    start = anyio.current_time()
    await g.found(1, 2, 3)
    assert len(g.table) == 0
    assert anyio.current_time() - start == 10
    assert peer(3) not in g.asker.asked


@in_virtual_time
@gate
async def test_checks_at_once_are_bounded_and_the_rest_is_dropped(g: Gate) -> None:
    g.asker.slow = {peer(number) for number in range(1, 20)}
    await g.found(*range(1, 20))
    assert len(g.asker.asked) == 4


@in_virtual_time
@gate
async def test_a_peer_is_checked_once_at_a_time(g: Gate) -> None:
    g.asker.slow = {peer(1)}
    for _ in range(3):
        g.admission.found(peer(1))
    await g.found(1)
    assert g.asker.asked == [peer(1)]


@in_virtual_time
@gate
async def test_of_whom_a_lookup_asks_already_nothing_more_is_asked(g: Gate) -> None:
    with g.admission.awaited(peer(1)):
        await g.found(1)
    assert g.asker.asked == []
    await g.found(1)
    assert g.asker.asked == [peer(1)]


@in_virtual_time
@gate
async def test_a_check_that_was_put_off_is_made_when_the_last_lookup_waits_no_longer(g: Gate) -> None:
    with anyio.CancelScope() as scope, g.admission.awaited(peer(1)):
        with anyio.CancelScope() as first, g.admission.awaited(peer(1)):
            g.admission.found(peer(1))
            first.cancel()
            await checkpoint()
        await g.found()
        assert g.asker.asked == []
        scope.cancel()
        await checkpoint()
    await g.found()
    assert g.asker.asked == [peer(1)]
    with anyio.CancelScope() as scope, g.admission.awaited(peer(2)):  # of whom nobody was told
        scope.cancel()
        await checkpoint()
    await g.found()
    assert g.asker.asked == [peer(1)]


@in_virtual_time
@gate
async def test_who_fails_a_lookup_is_not_checked_either(g: Gate) -> None:
    with pytest.raises(StreamReset), g.admission.awaited(peer(1)):
        g.admission.found(peer(1))
        raise StreamReset
    await g.found()
    assert g.asker.asked == []


@in_virtual_time
@gate
async def test_one_that_knows_nobody_is_welcome_only_while_we_know_few(g: Gate) -> None:
    g.asker.lonely = True
    await g.found(1)
    await g.found(2)
    await g.found(3)
    assert set(g.table) == {peer(1), peer(2)}


@in_virtual_time
@gate
async def test_who_fails_leaves_and_a_replacement_is_checked(g: Gate) -> None:
    victim = g.fill()
    g.asker.gone = True
    g.admission.failed(victim)
    assert victim not in g.table
    await g.found()
    assert g.table.count(0) == 2
    assert len(g.asker.asked) == 1


@in_virtual_time
@gate
async def test_a_replacement_that_serves_no_longer_stays_outside(g: Gate) -> None:
    victim = g.fill()
    g.asker.others = {peer(number) for number in range(60)}
    g.admission.failed(victim)
    await g.found()
    assert len(g.asker.asked) == 1
    assert g.table.count(0) == 1


@in_virtual_time
@gate
async def test_the_first_hasty_peers_may_be_replaced_until_a_minute_after_two_refreshes(g: Gate) -> None:
    g.admission.answered(peer(1))
    assert all(entry.replaceable for entry in g.table.entries())
    g.admission.refreshed()
    g.admission.answered(peer(2))
    assert [entry.replaceable for entry in g.table.entries()] == [True, False]
    g.admission.refreshed()
    await anyio.sleep(FREEZE_AFTER + 1)
    assert not any(entry.replaceable for entry in g.table.entries())


@in_virtual_time
@gate
async def test_peers_of_the_far_halves_are_protected_and_the_others_valued(g: Gate) -> None:
    for number in range(1, 30):
        g.admission.answered(peer(number))
    for entry in g.table.entries():
        assert g.asker.conn_manager.is_protected(entry.peer, TAG) is (entry.cpl < 2)
    g.admission.close()
    assert not any(g.asker.conn_manager.is_protected(each) for each in g.table)
    asked = len(g.asker.asked)
    await g.found(100)
    assert len(g.asker.asked) == asked


@in_virtual_time
@gate
async def test_an_answer_of_a_known_peer_marks_it_alive(g: Gate) -> None:
    g.admission.answered(peer(1))
    await anyio.sleep(100)
    g.admission.answered(peer(1))
    entry = g.table.get(peer(1))
    assert entry is not None
    assert entry.last_success_at - entry.added_at == 100


@in_virtual_time
@gate
async def test_few_peers_call_for_repair(g: Gate) -> None:
    assert not g.admission.repair_wanted.is_set()
    await g.found(1)
    assert g.admission.repair_wanted.is_set()


@in_virtual_time
async def test_servers_that_connect_enter_both_tables_and_one_that_stops_serving_leaves() -> None:
    async with world() as w:
        alice, bob = await w.start(2)
        await alice.meet(bob)
        assert alice.id in bob.dht.routing_table
        assert bob.id in alice.dht.routing_table
        bob.host.remove_stream_handler("/p2pstack/kad/1.0.0")
        await settle()
        assert bob.id not in alice.dht.routing_table


@in_virtual_time
async def test_a_peer_that_begins_to_serve_enters() -> None:
    async with world() as w:
        alice, bob = await w.start(2)
        bob.host.remove_stream_handler("/p2pstack/kad/1.0.0")
        await alice.meet(bob)
        assert bob.id not in alice.dht.routing_table
        bob.host.set_stream_handler("/p2pstack/kad/1.0.0", bob.dht._server.serve)
        await settle()
        assert bob.id in alice.dht.routing_table
