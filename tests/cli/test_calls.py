"""What may be asked of a node, on nodes of production code in virtual time."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from py_p2pstack.cli.callee import Answer
from py_p2pstack.cli.calls import Calls
from py_p2pstack.cli.failures import Failure, failure_of
from py_p2pstack.errors import InvalidRecord, LookupFailure, PeerNotFound, ValueNotFound
from py_p2pstack.identity import PrivateKey
from py_p2pstack.protocols.dht import OwnedRecord, QueryEvent
from tests.peer_ids import peer
from tests.protocols.dht.nodes import Node, in_virtual_time, world

CID = "bafkreicu6unwomkhrak3sy22mex7eswalvik2mdeoyokwdhmheyapg3xei"
MINE = PrivateKey.from_seed(bytes(32))
GREETING = b64encode(b"hello").decode()


async def ask(node: Node, name: str, *, short_lived: bool = False, **arguments: Any) -> tuple[Answer, list[Answer]]:
    """Ask a node; return its result and the items before it."""
    items: list[Answer] = []

    async def give(item: Answer) -> None:
        items.append(item)

    if name.startswith("dht."):
        arguments.setdefault("timeout", 20.0)
    calls = Calls(node.host, node.dht, lambda: MINE, short_lived=short_lived)
    return await calls.call(name, arguments, give=give), items


async def fails(node: Node, name: str, **arguments: Any) -> Failure:
    """Ask a node for what it cannot do; return what a user is told."""
    with pytest.raises((Failure, InvalidRecord, LookupFailure, PeerNotFound, ValueNotFound, TimeoutError)) as told:
        await ask(node, name, **arguments)
    failure = failure_of(told.value)
    assert failure is not None
    return failure


@in_virtual_time
async def test_a_value_that_one_puts_another_gets() -> None:
    async with world() as network:
        alice, bob, carol = await network.join(3)
        put, _ = await ask(alice, "dht.put", key="/v/greeting", value=GREETING, quorum=2)
        assert sorted(put["replicas"]) == sorted([str(bob.id), str(carol.id)])
        assert put["refused"] == {}
        got, _ = await ask(carol, "dht.get", key="/v/greeting", quorum=0)
        assert got == {"key": "/v/greeting", "value": GREETING}
        found, items = await ask(bob, "dht.search", key="/v/greeting", quorum=0)
        assert found["found"] == len(items) == 1
        assert items[0]["value"] == GREETING


@in_virtual_time
async def test_a_record_of_ones_own_is_numbered_and_got_by_its_key() -> None:
    async with world() as network:
        alice, _, carol = await network.join(3)
        me = MINE.public_key.peer_id()
        for number in (1, 2):
            put, _ = await ask(alice, "dht.put", key="profile", value=b64encode(b"v%d" % number).decode(), quorum=1)
            assert (put["key"], put["sequence"], len(put["replicas"])) == (f"/owned/{me}/profile", number, 2)
        expected = {"key": put["key"], "sequence": 2, "expires": None, "value": b64encode(b"v2").decode()}
        assert (await ask(carol, "dht.get", key=put["key"], quorum=0))[0] == expected
        assert (await ask(alice, "dht.get", key="profile", quorum=0))[0] == expected
        assert (await ask(alice, "dht.search", key="profile", quorum=0))[1] == [expected]
        # In full it is the same key; and what somebody else signed may be passed on, but not made.
        put, _ = await ask(carol, "dht.put", key=put["key"], value=GREETING, quorum=1)
        assert put["sequence"] == 3
        key, record = OwnedRecord.create(PrivateKey.from_seed(b"b" * 32), "", b"bob's", 7)
        bobs = f"/owned/{PrivateKey.from_seed(b'b' * 32).public_key.peer_id()}"
        assert (await fails(alice, "dht.put", key=bobs, value=GREETING, quorum=1)).code == 6
        put, _ = await ask(alice, "dht.put", key=bobs, value=b64encode(record).decode(), quorum=1)
        assert "sequence" not in put
        assert await carol.dht.get_value(key) == record
        assert (await fails(alice, "dht.put", key="x" * 200, value=GREETING, quorum=1)).code == 2
        large = b64encode(bytes(20_000)).decode()
        assert (await fails(alice, "dht.put", key="profile", value=large, quorum=1)).code == 6


@in_virtual_time
async def test_peers_are_found_and_the_nearest_told() -> None:
    async with world() as network:
        alice, bob, carol = await network.join(3)
        found, _ = await ask(bob, "dht.find-peer", peer=str(carol.id))
        assert found["addresses"] == [str(address) for address in carol.host.full_addresses]
        nearest, _ = await ask(alice, "dht.closest", key=str(bob.id))
        assert nearest["peers"][0]["peer"] == str(bob.id)
        assert nearest["peers"][0]["distance"] == "0" * 64
        nearest, _ = await ask(alice, "dht.closest", key="/v/greeting")
        assert len(nearest["peers"]) == 2


@in_virtual_time
async def test_content_is_provided_and_its_provider_found() -> None:
    async with world() as network:
        alice, bob, carol = await network.join(3)
        provided, _ = await ask(alice, "dht.provide", content=CID)
        assert len(provided["told"]) == 2
        _, items = await ask(carol, "dht.find-providers", content=CID, count=1)
        assert [item["peer"] for item in items] == [str(alice.id)]
        assert (await fails(bob, "dht.find-providers", content=CID[:-1] + "a", count=1)).code in (2, 3)


@in_virtual_time
async def test_a_node_tells_how_it_stands() -> None:
    async with world() as network:
        alice, *_ = await network.join(3)
        stats, _ = await ask(alice, "dht.stats")
        assert stats["peer_id"] == str(alice.id)
        assert stats["protocol"] == "/p2pstack/kad/1.0.0"
        assert stats["table_peers"] == stats["connected_peers"] == 2
        table, _ = await ask(alice, "dht.table")
        assert len(table["peers"]) == 2
        assert all(each["connected"] for each in table["peers"])
        assert [each["cpl"] for each in table["peers"]] == sorted(each["cpl"] for each in table["peers"])


@in_virtual_time
async def test_a_node_that_lives_for_one_call_looks_around_first() -> None:
    async with world() as network:
        await network.join(4)
        (newcomer,) = await network.start()
        assert (await fails(newcomer, "dht.table", short_lived=True)).code == 5
        await newcomer.meet(network.nodes[0])
        stats, _ = await ask(newcomer, "dht.stats", short_lived=True)
        assert stats["table_peers"] == 4


@in_virtual_time
async def test_a_peer_is_pinged_and_identified_by_its_address_and_by_its_id() -> None:
    async with world() as network:
        alice, bob, carol = await network.join(3)
        address = str(bob.host.full_addresses[0])
        result, items = await ask(alice, "ping", peer=address, count=2, interval=0.5, timeout=10.0)
        assert result == {"peer": str(bob.id), "count": 2}
        assert [item["number"] for item in items] == [1, 2]
        told, _ = await ask(carol, "identify", peer=str(bob.id), timeout=10.0)
        assert told["agent"].startswith("py_p2pstack/")
        assert "/p2pstack/kad/1.0.0" in told["protocols"]
        assert address in told["addresses"]


@in_virtual_time
async def test_each_failure_has_its_code() -> None:
    async with world() as network:
        alice, _bob = await network.join(2)
        (lonely,) = await network.start()
        assert (await fails(alice, "dht.get", key="/v/nothing", quorum=0)).code == 3
        assert (await fails(alice, "dht.search", key="/v/nothing", quorum=0)).code == 3
        assert (await fails(alice, "dht.find-peer", peer=str(peer(1)))).code == 3
        assert (await fails(alice, "dht.get", key="/v/nothing", quorum=0, timeout=0.001)).code in (3, 4)
        assert (await fails(alice, "ping", peer=str(peer(1)), count=1, interval=1.0, timeout=0.001)).code == 4
        assert (await fails(lonely, "dht.get", key="/v/nothing", quorum=0)).code == 5
        assert (await fails(alice, "dht.put", key="/nothing/x", value=GREETING, quorum=1)).code == 6
        assert (await fails(alice, "dht.put", key=f"/pk/{alice.id}", value=GREETING, quorum=1)).code == 6


@in_virtual_time
async def test_a_call_or_argument_that_is_none_is_a_usage_error() -> None:
    async with world() as network:
        (alice,) = await network.start()
        assert (await fails(alice, "nonsense")).code == 2
        assert (await fails(alice, "dht.get")).code == 2
        assert (await fails(alice, "dht.get", key="/pk/nonsense", quorum=0)).code == 2
        assert (await fails(alice, "dht.put", key="/v/x", value="!", quorum=1)).code == 2
        assert (await fails(alice, "dht.find-peer", peer="nonsense")).code == 2
        assert (await fails(alice, "dht.provide", content="nonsense")).code == 2
        assert (await fails(alice, "dht.find-providers", content="nonsense", count=1)).code == 2
        assert (await fails(alice, "ping", peer="/ip4/1.2.3.4", count=1, interval=1.0, timeout=1.0)).code == 2


@in_virtual_time
async def test_who_listens_hears_every_step() -> None:
    events: list[QueryEvent] = []

    async def give(item: Answer) -> None:
        """Take nothing."""

    async with world() as network:
        alice, *_ = await network.join(3)
        arguments = {"key": "/v/greeting", "value": GREETING, "quorum": 1, "timeout": 10.0}
        await Calls(alice.host, alice.dht, lambda: MINE).call("dht.put", arguments, give=give, on_event=events.append)
    assert len({event.query_id for event in events}) == 1
    assert len(events) > 5
