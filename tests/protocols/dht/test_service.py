"""The DHT among whole hosts: finding peers, nearest peers, answers, failures and ends."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig, PeerInfo, PeerNotFound
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import LookupFailure, NegotiationError, OperationTimeout, P2PError
from py_p2pstack.kademlia import EndReason, LookupConfig, key_of
from py_p2pstack.protocols.dht import (
    AddingPeer,
    DialingPeer,
    FinalPeer,
    LookupEnded,
    LookupStarted,
    LookupUpdated,
    PeerResponse,
    QueryError,
    QueryEvent,
    SendingQuery,
    watching,
)
from tests.peer_ids import peer
from tests.protocols.dht.nodes import in_virtual_time, settle, world


@in_virtual_time
async def test_a_peer_known_only_by_its_id_is_found_through_another() -> None:
    async with world() as w:
        hub, alice, bob = await w.start(3)
        await alice.meet(hub)
        await bob.meet(hub)
        assert bob.host.peerstore.addresses(alice.id) == []
        found = await bob.dht.find_peer(alice.id)
        assert found == PeerInfo(alice.id, tuple(alice.host.addrs))
        assert bob.host.network.connectedness(alice.id) is Connectedness.CONNECTED


@in_virtual_time
async def test_every_step_of_a_lookup_is_told_in_order() -> None:
    async with world() as w:
        hub, alice, bob = await w.start(3)
        await alice.meet(hub)
        await bob.meet(hub)
        told: list[QueryEvent] = []
        await bob.dht.find_peer(alice.id, on_event=told.append)
        steps = [(type(each), getattr(each, "peer", None)) for each in told if not isinstance(each, LookupUpdated)]
        assert steps == [
            (LookupStarted, None),
            (SendingQuery, hub.id),
            (PeerResponse, hub.id),
            (AddingPeer, alice.id),
            (DialingPeer, alice.id),
            (LookupEnded, None),
            (FinalPeer, alice.id),
        ]
        updates = [each for each in told if isinstance(each, LookupUpdated)]
        changes = [(each.cause, each.source, each.heard, each.waiting, each.queried) for each in updates]
        assert changes == [
            (bob.id, None, (hub.id,), (), ()),
            (bob.id, None, (), (hub.id,), ()),
            (hub.id, hub.id, (alice.id,), (), (hub.id,)),
            (hub.id, hub.id, (), (alice.id,), ()),
        ]
        assert {each.query_id for each in told} == {1}
        assert [each.at for each in told] == sorted(each.at for each in told)
        response = next(each for each in told if isinstance(each, PeerResponse))
        assert response.rtt == pytest.approx(0.02, rel=0.5)
        assert response.distance == key_of(hub.id.to_bytes()) ^ key_of(alice.id.to_bytes())


@in_virtual_time
async def test_lookups_are_watched_from_outside_and_by_block() -> None:
    async with world() as w:
        alice, bob = await w.start(2)
        await alice.meet(bob)
        told: list[QueryEvent] = []
        async with alice.dht.watch() as events:
            with watching(told.append):
                await alice.dht.get_closest_peers(b"one")
            await alice.dht.get_closest_peers(b"two")
            waiting = [await events.receive() for _ in range(len(events))]
        assert {each.query_id for each in waiting} == {1, 2}
        assert told == [each for each in waiting if each.query_id == 1]
        assert not alice.dht._lookups.watchers.has_subscribers(LookupEnded)


@in_virtual_time
async def test_a_connected_peer_is_found_at_once_and_so_are_we() -> None:
    async with world() as w:
        alice, bob = await w.start(2)
        await alice.meet(bob)
        told: list[QueryEvent] = []
        start = anyio.current_time()
        assert (await alice.dht.find_peer(bob.id, on_event=told.append)).addresses == tuple(bob.host.addrs)
        assert await alice.dht.find_peer(alice.id) == alice.host.peer_info
        assert anyio.current_time() == start
        assert [type(each) for each in told] == [FinalPeer]


@in_virtual_time
async def test_a_peer_nobody_knows_is_not_found() -> None:
    async with world() as w:
        await w.join(5)
        with pytest.raises(PeerNotFound, match="knows"):
            await w.nodes[3].dht.find_peer(peer(12345))


@in_virtual_time
async def test_a_peer_that_left_is_known_but_cannot_be_reached() -> None:
    async with world() as w:
        hub, alice, bob = await w.start(3)
        await alice.meet(hub)
        await bob.meet(hub)
        w.network.cut("1")
        with pytest.raises(PeerNotFound, match="cannot be reached"):
            await bob.dht.find_peer(alice.id)


@in_virtual_time
async def test_a_peer_that_serves_no_dht_is_found_all_the_same() -> None:
    async with world() as w:
        hub, bob = await w.start(2)
        plain = await w.start_host()
        await plain.connect(hub.host.peer_info)
        await bob.meet(hub)
        assert plain.id not in hub.dht.routing_table
        assert (await bob.dht.find_peer(plain.id)).peer_id == plain.id


@in_virtual_time
async def test_with_nobody_to_ask_a_lookup_fails_and_says_what_to_do() -> None:
    async with world() as w:
        (alone,) = await w.start(1)
        told: list[QueryEvent] = []
        with pytest.raises(LookupFailure, match="connect to a peer"):
            await alone.dht.find_peer(peer(1), on_event=told.append)
        assert [type(each) for each in told] == [QueryError]
        assert await alone.dht.bootstrap() == 0


@in_virtual_time
async def test_a_lookup_right_behind_connect_waits_for_the_table() -> None:
    async with world() as w:
        hub, alice, bob = await w.start(3)
        await alice.meet(hub)
        await bob.host.connect(hub.host.peer_info)
        assert (await bob.dht.find_peer(alice.id)).peer_id == alice.id


@in_virtual_time
async def test_the_nearest_peers_are_truly_the_nearest_and_all_answered() -> None:
    async with world() as w:
        nodes = await w.join(12, lookup=LookupConfig(k=6))
        result = await nodes[7].dht.look_up(b"some key")
        target = key_of(b"some key")
        others = [node.id for node in nodes if node is not nodes[7]]
        truth = sorted(others, key=lambda each: key_of(each.to_bytes()) ^ target)[:6]
        assert list(result.peers) == truth == await nodes[7].dht.get_closest_peers(b"some key")
        assert result.reason in (EndReason.COMPLETED, EndReason.STARVED)
        assert result.queried >= 6
        assert nodes[7].dht.routing_table.refresh_times()[0] is not None


@in_virtual_time
async def test_a_lookup_asks_at_most_alpha_peers_at_once() -> None:
    async with world() as w:
        nodes = await w.join(12, lookup=LookupConfig(k=8, alpha=3, beta=3))
        flying: set[object] = set()
        most = 0

        def count(event: QueryEvent) -> None:
            nonlocal most
            if isinstance(event, LookupUpdated):
                flying.update(event.waiting)
                flying.difference_update((*event.queried, *event.unreachable))
                most = max(most, len(flying))

        await nodes[5].dht.get_closest_peers(b"key", on_event=count)
        assert most == 3


@in_virtual_time
async def test_an_empty_or_endless_key_is_refused() -> None:
    async with world() as w:
        (alice,) = await w.start(1)
        for key in (b"", bytes(1025)):
            with pytest.raises(ValueError, match="key"):
                await alice.dht.get_closest_peers(key)


@in_virtual_time
async def test_ping_and_find_node_ask_one_peer() -> None:
    async with world() as w:
        hub, alice, bob = await w.start(3)
        await alice.meet(hub)
        await bob.meet(hub)
        assert await bob.dht.ping(hub.id) == pytest.approx(0.02, rel=0.5)
        told = await bob.dht.find_node(hub.id, alice.id.to_bytes())
        assert [each.peer_id for each in told] == [alice.id]
        assert told[0].addresses == tuple(alice.host.addrs)


@in_virtual_time
async def test_a_client_asks_and_is_asked_by_nobody() -> None:
    async with world() as w:
        (server,) = await w.start(1)
        (client,) = await w.start(1, mode="client")
        await client.meet(server)
        assert client.id not in server.dht.routing_table
        assert server.id in client.dht.routing_table
        assert await client.dht.get_closest_peers(b"key") == [server.id]
        with pytest.raises(NegotiationError):
            await server.dht.ping(client.id)


@in_virtual_time
async def test_another_prefix_is_another_network() -> None:
    async with world() as w:
        (ours,) = await w.start(1)
        (theirs,) = await w.start(1, prefix="/test")
        await ours.meet(theirs)
        assert len(ours.dht.routing_table) == len(theirs.dht.routing_table) == 0
        assert repr(theirs.dht) == "<Dht /test/kad/1.0.0 server 0 peers>"


@in_virtual_time
async def test_a_lookup_that_takes_too_long_times_out_and_tells_why_it_ended() -> None:
    async with world() as w:
        nodes = await w.join(3)
        told: list[QueryEvent] = []
        w.network.cut("0")
        w.network.cut("1")
        with pytest.raises(OperationTimeout):
            await nodes[2].dht.get_closest_peers(b"key", timeout=0.5, on_event=told.append)
        assert isinstance(told[-1], LookupEnded)
        assert told[-1].reason is EndReason.CANCELLED
        # A timeout of ours says nothing about the peers: they stay.
        assert len(nodes[2].dht.routing_table) == 2


@in_virtual_time
async def test_peers_that_fall_silent_leave_the_table_and_the_lookup_says_so() -> None:
    async with world() as w:
        nodes = await w.join(3)
        w.network.cut("0")
        w.network.cut("1")
        told: list[QueryEvent] = []
        with pytest.raises(LookupFailure, match="answered"):
            await nodes[2].dht.get_closest_peers(b"key", on_event=told.append)
        assert len(nodes[2].dht.routing_table) == 0
        assert {each.peer for each in told if isinstance(each, QueryError)} == {nodes[0].id, nodes[1].id}


@in_virtual_time
async def test_cancelling_a_lookup_leaves_the_node_able_to_look_up_again() -> None:
    async with world() as w:
        nodes = await w.join(6)
        for pause in (0.0, 0.005, 0.015, 0.025, 0.05):
            with anyio.move_on_after(pause):
                await nodes[4].dht.get_closest_peers(b"key")
            await settle()
        assert len(await nodes[4].dht.get_closest_peers(b"key")) == 5


@in_virtual_time
async def test_an_exception_of_the_block_leaves_unwrapped_and_the_end_leaves_nothing() -> None:
    async with world() as w:
        (hub,) = await w.start(1)
        plain = await w.start_host()
        with pytest.raises(LookupFailure):
            async with Dht(plain, DhtConfig(auto_refresh=False)) as dht:
                await plain.connect(hub.host.peer_info)
                await dht.bootstrap()
                assert plain.id in hub.dht.routing_table
                assert plain.conn_manager.is_protected(hub.id) or dht.routing_table.max_cpl() >= 2
                raise LookupFailure("out")
        await settle()
        assert "/p2pstack/kad/1.0.0" not in plain.mux.protocols()
        assert not plain.conn_manager.is_protected(hub.id)
        assert plain.id not in hub.dht.routing_table  # identify push told it
        assert len(hub.dht._server) == 0


@in_virtual_time
async def test_operations_of_a_left_dht_fail_with_errors_of_ours_or_work() -> None:
    async with world() as w:
        nodes = await w.join(3)
        dht = nodes[2].dht
        dht._admission.close()
        w.network.cut("0")
        w.network.cut("1")
        with pytest.raises(P2PError):
            await dht.get_closest_peers(b"key")


@in_virtual_time
async def test_hosts_that_know_one_find_each_other_with_buckets_much_smaller_than_the_network() -> None:
    async with world(latency=0.02) as w:
        nodes = await w.join(24, lookup=LookupConfig(k=4, alpha=3, beta=2))
        assert max(len(node.dht.routing_table) for node in nodes) < 23
        for index in range(0, 24, 5):
            seeker, sought = nodes[index], nodes[(index * 3 + 11) % 24]
            if seeker is not sought:
                await seeker.host.network.close_peer(sought.id)
                seeker.dht.routing_table.remove(sought.id)
                seeker.host.peerstore.clear_addresses(sought.id)
                assert (await seeker.dht.find_peer(sought.id)).peer_id == sought.id


def test_a_config_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="mode"):
        DhtConfig(mode="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="slash"):
        DhtConfig(prefix="p2pstack")
