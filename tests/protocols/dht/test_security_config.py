"""The knobs of security: what makes no sense is refused, and disjoint paths are what lookups take."""

from __future__ import annotations

from typing import Any

import pytest

from py_p2pstack import DhtConfig
from py_p2pstack.kademlia import DisjointLookup, LookupConfig
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.queries import Query
from py_p2pstack.protocols.dht.security_config import SecurityConfig
from tests.protocols.dht.nodes import in_virtual_time, world


@pytest.mark.parametrize(
    "settings",
    [{"disjoint_paths": 0}, {"max_region_peers": 0}, {"sybil_alarm": 0.0}, {"sybil_alarm": 1.5}],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SecurityConfig(**settings)


def test_more_paths_than_requests_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="disjoint paths"):
        DhtConfig(lookup=LookupConfig(alpha=3), security=SecurityConfig(disjoint_paths=4))


@in_virtual_time
async def test_a_node_that_wants_disjoint_paths_looks_up_puts_and_gets_on_them() -> None:
    async with world() as here:
        await here.join(6)
        (alice,) = await here.join(1, security=SecurityConfig(disjoint_paths=3))
        begun: list[Query] = []
        operation = alice.dht._lookups.begin(b"/v/x", None)
        request = Message(type=MessageType.FIND_NODE, key=b"/v/x")
        _, result = await alice.dht._lookups.run(operation, request, begun=begun.append)
        assert isinstance(begun[0].lookup, DisjointLookup)
        assert set(result.peers) == {node.id for node in here.nodes if node is not alice}
        put = await alice.dht.put_value("/v/x", b"hello")
        assert len(put.replicas) == 6
        assert await alice.dht.get_value("/v/x") == b"hello"
        assert (await alice.dht.find_peer(here.nodes[3].id)).peer_id == here.nodes[3].id
