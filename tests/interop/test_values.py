"""Values, records and providers, put by one implementation and got by another, over a server of either.

The nodes that put and get are clients: nobody stores anything on them, so that whatever they get came from the server.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.interop.conftest import start
from tests.interop.peer import CommandFailed, Peer
from tests.interop.test_core import needs

pytestmark = pytest.mark.interop

TARGET = "/ipfs/bafybeid7fsezt5dbw3t5mcuwi2cro6lqkzysgzpes45o3d6gzafc3haxeq"
PATIENCE = 15.0  # corrections and provider records are sent without waiting for an answer


class Star(NamedTuple):
    """A server of one side, and a client of each that knows only it."""

    hub: Peer
    ours: Peer
    theirs: Peer


def client(stack: ExitStack, language: str, *servers: Peer) -> Peer:
    """A node that stores nothing for others, connected to some servers, which are in its table."""
    peer = stack.enter_context(start(language, "--dht", "client", *(["--dht-idle"] if language == "ours" else [])))
    for server in servers:
        peer.call("connect", addr=server.address)
    peer.call("bootstrap")
    return peer


@pytest.fixture(scope="module")
def star(other: str, direction: str) -> Iterator[Star]:
    """Over their server where we dial, over ours where we listen."""
    with ExitStack() as stack:
        if direction == "we dial":
            hub = stack.enter_context(start(other, "--dht", "server"))
        else:
            hub = stack.enter_context(start("ours", "--dht", "server", "--dht-idle"))
        yield Star(hub, client(stack, "ours", hub), client(stack, other, hub))


def until(claim: Callable[[], bool]) -> None:
    """Wait until a claim holds."""
    end = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.1)


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def fresh_key(star: Star, name: str) -> str:
    return f"/v/{name} over {star.hub.id[-8:]}"  # py-libp2p looks up keys of 50 bytes at most


@pytest.mark.row("DHT: value put by us, got by them")
@pytest.mark.parametrize("size", [1, 10_000])
def test_they_get_what_we_put(star: Star, size: int) -> None:
    needs(star.theirs, "get")
    key, value = fresh_key(star, f"ours of {size}"), encoded(b"\x00\xff" * (size // 2) + b"!")
    assert star.ours.call("put", key=key, value=value)["replicas"] == 1
    assert star.theirs.call("get", key=key) == {"value": value}


@pytest.mark.row("DHT: value put by them, got by us")
@pytest.mark.parametrize("size", [1, 10_000])
def test_we_get_what_they_put(star: Star, size: int) -> None:
    needs(star.theirs, "put")
    key, value = fresh_key(star, f"theirs of {size}"), encoded(b"\x00\xff" * (size // 2) + b"!")
    star.theirs.call("put", key=key, value=value)
    assert star.ours.call("get", key=key) == {"value": value}


@pytest.mark.row("DHT: value replaced")
def test_the_last_writer_wins_whoever_it_is(star: Star) -> None:
    needs(star.theirs, "put")
    if star.hub.language == "py":
        pytest.skip("py-libp2p's server asks its validator with the old value first, which keeps it")
    key = fresh_key(star, "replaced")
    for writer in (star.ours, star.theirs, star.ours):
        value = encoded(f"{writer.id} at {time.monotonic()}".encode())
        writer.call("put", key=key, value=value)
        # A writer remembers what it put; what counts is what the server has.
        assert star.ours.call("get_at", peer=star.hub.id, key=key) == {"value": value}


@pytest.mark.row("DHT: key that nobody has")
def test_a_missing_value_is_told_as_missing(star: Star) -> None:
    for peer in (star.ours, star.theirs):
        with pytest.raises(CommandFailed):
            peer.call("get", key=fresh_key(star, "missing"))


def contents(text: str) -> str:
    """The multihash of a text, in hex."""
    return (b"\x12\x20" + hashlib.sha256(text.encode()).digest()).hex()


@pytest.mark.row("DHT: provided by us, found by them")
def test_they_find_us_as_a_provider(star: Star) -> None:
    key = contents(f"ours over {star.hub.id}")
    star.ours.call("provide", key=key)
    addresses = found_provider(star.theirs, key, star.ours)
    assert addresses is None or any(star.ours.address.startswith(address) for address in addresses)


@pytest.mark.row("DHT: a thousand keys in one sweep of ours, found by them")
def test_they_find_what_a_sweep_of_ours_provided(star: Star) -> None:
    if star.hub.language == "py":
        pytest.skip("py-libp2p's server takes ten keys of one peer in ten seconds")
    keys = [contents(f"{number} of a sweep over {star.hub.id}") for number in range(1000)]
    assert star.ours.call("provide_many", keys=keys) == {"count": 1000}
    for key in keys[::111]:
        found_provider(star.theirs, key, star.ours)


@pytest.mark.row("DHT: provided by them, found by us")
def test_we_find_them_as_a_provider(star: Star) -> None:
    key = contents(f"theirs over {star.hub.id}")
    star.theirs.call("provide", key=key)
    addresses = found_provider(star.ours, key, star.theirs)
    assert addresses is not None
    assert any(star.theirs.address.startswith(address) for address in addresses)


def found_provider(seeker: Peer, key: str, provider: Peer) -> list[str] | None:
    """The addresses a seeker is told of the only provider. ADD_PROVIDER has no answer, so it may take a while."""
    found: dict[str, list[str] | None] = {}

    def arrived() -> bool:
        found.update({each["id"]: each["addrs"] for each in seeker.call("find_providers", key=key)["providers"]})
        return bool(found)

    until(arrived)
    assert list(found) == [provider.id]
    return found[provider.id]


def sign(peer: Peer, kind: str, sequence: int = 1) -> tuple[str, str]:
    """The key and value of a record signed by a peer."""
    if kind == "/pk/":
        made = peer.call("public_key")
    else:
        made = peer.call("ipns_record", value=encoded(f"{TARGET}/{sequence}".encode()), sequence=sequence)
    return made["key"], made["value"]


def signs(peer: Peer, kind: str) -> None:
    needs(peer, "public_key" if kind == "/pk/" else "ipns_record")


@pytest.mark.row("DHT: /pk/ and /ipns/ of ours, got by them")
@pytest.mark.parametrize("kind", ["/pk/", "/ipns/"])
def test_they_take_our_signed_records(star: Star, kind: str) -> None:
    signs(star.theirs, kind)
    key, value = sign(star.ours, kind)
    star.ours.call("put", key=key, value=value)
    assert star.theirs.call("get", key=key) == {"value": value}


@pytest.mark.row("DHT: /pk/ and /ipns/ of theirs, got by us")
@pytest.mark.parametrize("kind", ["/pk/", "/ipns/"])
def test_we_take_their_signed_records(star: Star, kind: str) -> None:
    signs(star.theirs, kind)
    key, value = sign(star.theirs, kind)
    star.theirs.call("put", key=key, value=value)
    assert star.ours.call("get", key=key) == {"value": value}


@pytest.mark.row("DHT: their key types in /pk/ and /ipns/")
@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_records_signed_by_each_of_their_key_types_are_valid(other: str, key_type: str) -> None:
    with ExitStack() as stack:
        hub = stack.enter_context(start("ours", "--dht", "server", "--dht-idle"))
        probe = stack.enter_context(start(other, "--dht", "client", listen=False))
        signs(probe, "/ipns/")
        if key_type not in probe.ready["key_types"]:
            pytest.skip(f"{probe.name} has no {key_type} keys")
        signer = stack.enter_context(start(other, "--dht", "client", "--key-type", key_type))
        signer.call("connect", addr=hub.address)
        for kind in ("/pk/", "/ipns/"):
            key, value = sign(signer, kind)
            signer.call("put_at", peer=hub.id, key=key, value=value)
            assert signer.call("get_at", peer=hub.id, key=key) == {"value": value}


@pytest.mark.row("DHT: our key types in /pk/ and /ipns/")
@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_records_signed_by_each_of_our_key_types_are_valid(other: str, key_type: str) -> None:
    with ExitStack() as stack:
        hub = stack.enter_context(start(other, "--dht", "server"))
        signs(hub, "/ipns/")
        if key_type not in hub.ready["key_types"]:
            pytest.skip(f"{hub.name} has no {key_type} keys")
        signer = stack.enter_context(start("ours", "--dht", "client", "--dht-idle", "--key-type", key_type))
        signer.call("connect", addr=hub.address)
        for kind in ("/pk/", "/ipns/"):
            key, value = sign(signer, kind)
            signer.call("put_at", peer=hub.id, key=key, value=value)
            assert signer.call("get_at", peer=hub.id, key=key) == {"value": value}


def broken(value: str) -> str:
    """The record with one bit of its middle turned."""
    raw = bytearray(base64.b64decode(value))
    raw[len(raw) // 2] ^= 1
    return encoded(bytes(raw))


@pytest.mark.row("DHT: forged records refused by both servers")
@pytest.mark.parametrize("kind", ["/pk/", "/ipns/"])
def test_a_forged_record_is_refused(star: Star, direction: str, kind: str) -> None:
    asker = star.ours if direction == "we dial" else star.theirs
    signs(star.theirs, kind)
    with ExitStack() as stack:
        signer = stack.enter_context(start("ours", "--dht", "client", "--dht-idle"))
        key, value = sign(signer, kind)
    with pytest.raises(CommandFailed):
        asker.call("put_at", peer=star.hub.id, key=key, value=broken(value))
    assert asker.call("get_at", peer=star.hub.id, key=key) == {"value": None}
    asker.call("put_at", peer=star.hub.id, key=key, value=value)  # the true one is taken all the same


@pytest.mark.row("DHT: an older record is refused by our server")
def test_our_server_never_goes_back(other: str) -> None:
    with ExitStack() as stack:
        hub = stack.enter_context(start("ours", "--dht", "server", "--dht-idle"))
        theirs = client(stack, other, hub)
        needs(theirs, "ipns_record", "put_at")
        key, old = sign(theirs, "/ipns/", 1)
        _, new = sign(theirs, "/ipns/", 2)
        theirs.call("put_at", peer=hub.id, key=key, value=new)
        try:
            theirs.call("put_at", peer=hub.id, key=key, value=old)
        except CommandFailed:
            pass
        assert theirs.call("get_at", peer=hub.id, key=key) == {"value": new}


def correct(stack: ExitStack, seeker: str, stale: str, fresh: str) -> None:
    """A seeker meets an old record at one server and a newer one at another: the old one is then replaced."""
    servers = {
        language: stack.enter_context(
            start(language, "--dht", "server", *(["--dht-idle"] if language == "ours" else []))
        )
        for language in (stale, fresh)
    }
    planter = stack.enter_context(start("ours", "--dht", "client", "--dht-idle"))
    for server in servers.values():
        signs(server, "/ipns/")
    key, old = sign(planter, "/ipns/", 1)
    _, new = sign(planter, "/ipns/", 2)
    for language, value in ((stale, old), (fresh, new)):
        planter.call("connect", addr=servers[language].address)
        planter.call("put_at", peer=servers[language].id, key=key, value=value)
    asks: dict[str, Any] = {"peer": servers[stale].id, "key": key}
    assert planter.call("get_at", **asks) == {"value": old}
    asker = client(stack, seeker, *servers.values())
    assert asker.call("get", key=key) == {"value": new}
    until(lambda: planter.call("get_at", **asks) == {"value": new})


@pytest.mark.row("DHT: their stale holder corrected by us")
def test_we_correct_their_stale_holder(other: str) -> None:
    with ExitStack() as stack:
        correct(stack, seeker="ours", stale=other, fresh="ours")


@pytest.mark.row("DHT: our stale holder corrected by them")
def test_they_correct_our_stale_holder(other: str) -> None:
    with ExitStack() as stack:
        correct(stack, seeker=other, stale="ours", fresh=other)
