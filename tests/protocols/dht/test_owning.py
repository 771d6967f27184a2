"""Records of one's own, put by name: numbered by themselves, and never going back."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import PrivateKey
from py_p2pstack.errors import InvalidRecord, LookupFailure, PutFailed
from py_p2pstack.protocols.dht import OwnedRecord, put_owned
from py_p2pstack.protocols.dht.records.owned import key_of
from tests.protocols.dht.nodes import in_virtual_time, wall_clock, world

ALICE = PrivateKey.from_seed(b"a" * 32)
KEY = key_of(ALICE.public_key.peer_id(), "profile")


@in_virtual_time
async def test_each_put_is_numbered_one_higher_whoever_made_the_last_one() -> None:
    async with world() as w:
        await w.join(5)
        for number, node in enumerate(w.nodes, 1):  # the owner on one machine after the other
            record, result = await put_owned(node.dht, ALICE, "profile", b"v%d" % number)
            assert record.sequence == number
            assert len(result.replicas) == 4
        found = OwnedRecord.parse(await w.nodes[0].dht.get_value(KEY))
        assert (found.sequence, found.value, found.expires) == (5, b"v5", None)


@in_virtual_time
async def test_after_one_that_expired_the_next_one_is_kept() -> None:
    async with world() as w:
        await w.join(3)
        await put_owned(w.nodes[0].dht, ALICE, "profile", b"short", expires=wall_clock() + 1)
        await put_owned(w.nodes[0].dht, ALICE, "profile", b"short", expires=wall_clock() + 5)
        await anyio.sleep(10)
        record, _ = await put_owned(w.nodes[1].dht, ALICE, "profile", b"long")
        assert OwnedRecord.parse(await w.nodes[2].dht.get_value(KEY)) == record


@in_virtual_time
async def test_with_nobody_to_ask_nothing_is_kept_that_could_be_numbered_too_low() -> None:
    async with world() as w:
        (alone,) = await w.start()
        with pytest.raises(LookupFailure):
            await put_owned(alone.dht, ALICE, "profile", b"hello")
        await w.join(2)
        await alone.meet(w.nodes[1])
        record, _ = await put_owned(alone.dht, ALICE, "profile", b"hello")
        assert record.sequence == 1


@in_virtual_time
async def test_bounds_quorum_and_foreign_networks_are_told_of() -> None:
    async with world() as w:
        await w.join(2)
        with pytest.raises(InvalidRecord, match="10240"):
            await put_owned(w.nodes[0].dht, ALICE, "profile", bytes(20_000))
        with pytest.raises(InvalidRecord):
            await put_owned(w.nodes[0].dht, ALICE, "x" * 200, b"hello")
        with pytest.raises(PutFailed):
            await put_owned(w.nodes[0].dht, ALICE, "profile", b"hello", quorum=2)
    async with world() as w:
        await w.join(2, prefix="/ipfs")
        with pytest.raises(InvalidRecord):
            await put_owned(w.nodes[0].dht, ALICE, "profile", b"hello")
