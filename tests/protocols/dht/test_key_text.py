"""Keys as people write them: read in every form, written in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import InvalidRecord
from py_p2pstack.identity import KeyType, PeerId, PrivateKey
from py_p2pstack.protocols.dht.key_text import key_from_text, key_to_text
from py_p2pstack.protocols.dht.records import owned

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "ipns" / "boxo.json").read_text())["records"]
ALICE = PrivateKey.from_seed(b"alice" + bytes(27)).public_key.peer_id()
HASHED = PrivateKey.generate(KeyType.ECDSA).public_key.peer_id()


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_an_ipns_name_is_read_as_base58_base36_and_base32_and_written_as_boxo_does(vector: dict[str, str]) -> None:
    key = bytes.fromhex(vector["key"])
    assert key_to_text(key) == "/ipns/" + vector["cid"]
    for name in (vector["cid"], vector["cid"].upper(), vector["peer"], PeerId.parse(vector["peer"]).to_cid()):
        assert key_from_text("/ipns/" + name) == key


@pytest.mark.parametrize("peer", [ALICE, HASHED])
def test_the_key_of_a_public_key_and_of_an_owned_record_are_written_with_the_peer_id(peer: PeerId) -> None:
    for text, key in (
        (f"/pk/{peer}", b"/pk/" + peer.to_bytes()),
        (f"/owned/{peer}", owned.key_of(peer)),
        (f"/owned/{peer}/a/é", owned.key_of(peer, "a/é")),
    ):
        assert key_from_text(text) == key
        assert key_to_text(key) == text
    assert key_from_text(f"/owned/{peer.to_cid()}/x") == owned.key_of(peer, "x")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_other_namespace_is_utf8(rest: str) -> None:
    text = "/v/" + rest
    assert key_from_text(text) == text.encode()
    assert key_to_text(text.encode()) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v",
        "/v",
        "//x",
        "/pk/",
        "/pk/me",
        "/ipns/example.com",
        "/owned/",
        "/owned/me/x",
        f"/owned/{ALICE}/",
        "/v/\ud800",
        f"/owned/{ALICE}/{'x' * 129}",
    ],
)
def test_text_that_is_no_key_is_refused_with_what_is_wrong(text: str) -> None:
    with pytest.raises(InvalidRecord, match="no DHT key"):
        key_from_text(text)


@given(st.binary(max_size=60), st.sampled_from([b"", b"/pk/", b"/ipns/", b"/owned/", b"/v/"]))
def test_every_key_can_be_shown(rest: bytes, prefix: bytes) -> None:
    key = prefix + rest
    shown = key_to_text(key)
    try:
        read = key_from_text(shown)
    except InvalidRecord:
        return
    assert read == key or b"\\x" in shown.encode()
