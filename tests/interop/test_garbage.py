"""Malformed messages between implementations: what garbage does to their servers and to the lookups of both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.interop.conftest import start
from tests.interop.peer import Peer
from tests.interop.test_core import needs
from tests.interop.test_dht import until_known
from tests.interop.test_values import encoded, sign

pytestmark = pytest.mark.interop

KINDS = 11  # of garbage that our peer can send


@pytest.mark.row("DHT: garbage sent to their server")
def test_their_server_bears_our_garbage(other: str) -> None:
    with start("ours", "--dht", "server", "--dht-idle") as ours, start(other, "--dht", "server") as theirs:
        ours.call("connect", addr=theirs.address)
        kinds = ours.call("kinds_of_garbage")["kinds"]
        assert len(kinds) == KINDS
        for kind in kinds:
            ours.start("send_garbage", peer=theirs.id, kind=kind).exception(60)  # a reset is as good as an end
        ours.call("find_node", peer=theirs.id, target=ours.id)
        assert ours.id in theirs.call("peers")["peers"]


class Crowd(NamedTuple):
    """An honest server that all know, a seeker, a helper, and liars that answer honestly once and never again."""

    honest: Peer
    seeker: Peer
    helper: Peer
    liars: Peer

    def spoilt(self) -> int:
        """How many answers the liars have spoilt."""
        return sum(int(self.liars.call("served", node=index)["spoilt"]) for index in range(KINDS))


def gather(stack: ExitStack, honest: str, seeker: str) -> Crowd:
    def server(language: str) -> Peer:
        return stack.enter_context(start(language, "--dht", "server", *(["--dht-idle"] if language == "ours" else [])))

    # go-libp2p-kad-dht 0.42.1 ends with a nil pointer when a PUT_VALUE is answered without a record.
    spared = ["--spare-puts"] if seeker == "go" else []
    liars = start("ours", "--dht", "server", "--dht-idle", "--garbage", "--nodes", str(KINDS), *spared)
    crowd = Crowd(
        honest=server(honest),
        seeker=server(seeker),
        helper=stack.enter_context(start("ours", "--dht", "client", "--dht-idle")),
        liars=stack.enter_context(liars),
    )
    crowd.helper.call("connect", addr=crowd.honest.address)
    for index in range(KINDS):
        crowd.liars.call("connect", addr=crowd.honest.address, node=index)
        crowd.liars.call("connect", addr=crowd.seeker.address, node=index)
    crowd.seeker.call("connect", addr=crowd.honest.address)
    crowd.seeker.call("bootstrap")
    return crowd


@pytest.fixture(scope="module", params=["ours", "theirs"])
def crowd(other: str, request: pytest.FixtureRequest) -> Iterator[Crowd]:
    """Our seeker with their honest server, and the other way round."""
    if other == "py":
        pytest.skip(
            "py-libp2p serves few DHT streams at once, and the liars keep theirs; its own lookups end among liars"
        )
    with ExitStack() as stack:
        yield gather(stack, *((other, "ours") if request.param == "ours" else ("ours", other)))


def get_among_liars(crowd: Crowd) -> None:
    """What is got is a signed record: in `/v/` the forged ones would be as good."""
    if "rust" in (crowd.seeker.language, crowd.honest.language):
        pytest.skip("rust-libp2p leaves it to the application to validate what is got")
    for peer in (crowd.seeker, crowd.honest):
        needs(peer, "public_key")
    key, value = sign(crowd.helper, "/pk/")
    crowd.helper.call("put_at", peer=crowd.honest.id, key=key, value=value)
    before = crowd.spoilt()
    assert crowd.seeker.call("get", key=key) == {"value": value}
    assert crowd.spoilt() > before


def put_among_liars(crowd: Crowd) -> None:
    needs(crowd.seeker, "put")
    key, value = "/v/put among liars", encoded(b"the truth")
    crowd.seeker.call("put", key=key, value=value)
    assert crowd.helper.call("get_at", peer=crowd.honest.id, key=key) == {"value": value}


def find_among_liars(crowd: Crowd) -> None:
    with start("ours", "--dht", "server", "--dht-idle") as stranger:
        stranger.call("connect", addr=crowd.honest.address)
        if crowd.honest.language == "ours":
            until_known(crowd.honest, stranger)
        else:
            stranger.call("bootstrap")
        assert crowd.seeker.call("find_peer", target=stranger.id)["id"] == stranger.id


@pytest.mark.row("DHT: our lookups among peers that answer garbage")
@pytest.mark.parametrize("crowd", ["ours"], indirect=True)
@pytest.mark.parametrize("work", [get_among_liars, put_among_liars, find_among_liars], ids=["get", "put", "find"])
def test_we_bear_garbage(crowd: Crowd, work: Callable[[Crowd], None]) -> None:
    work(crowd)


@pytest.mark.row("DHT: their lookups among peers that answer garbage")
@pytest.mark.parametrize("crowd", ["theirs"], indirect=True)
@pytest.mark.parametrize("work", [get_among_liars, put_among_liars, find_among_liars], ids=["get", "put", "find"])
def test_they_bear_garbage(crowd: Crowd, work: Callable[[Crowd], None]) -> None:
    work(crowd)
