"""TCP + Noise + yamux with real peers of four implementations, as dialer and as listener."""

from __future__ import annotations

import pytest

from tests.interop.conftest import start
from tests.interop.peer import Peer

pytestmark = pytest.mark.interop

MIB = 1 << 20


def needs(peer: Peer, *commands: str) -> None:
    """Skip what the library behind a peer cannot serve."""
    for command in commands:
        if not peer.can(command):
            pytest.skip(f"{peer.name} has no {command!r}")


@pytest.mark.row("connect: TCP, Noise, yamux")
def test_each_side_sees_the_other_connected(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    assert theirs.id in ours.call("peers")["peers"]
    assert ours.id in theirs.call("peers")["peers"]


@pytest.mark.row("connect over IPv6")
def test_connects_over_ipv6(other: str, direction: str) -> None:
    with start("ours", host="/ip6/::1") as ours, start(other, host="/ip6/::1") as theirs:
        dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
        dialer.call("connect", addr=listener.address)
        assert dialer.call("echo", peer=listener.id, size=1000, chunk=1000)["ok"]


@pytest.mark.row("ping")
def test_each_side_pings_the_other(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    assert len(ours.call("ping", peer=theirs.id, count=5)["rtt_ms"]) == 5
    assert len(theirs.call("ping", peer=ours.id, count=5)["rtt_ms"]) == 5


@pytest.mark.row("identify")
def test_each_side_identifies_the_other(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    of_them = ours.call("identify", peer=theirs.id)
    assert {"/echo/1.0.0", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0"} <= set(of_them["protocols"])
    assert of_them["agent"]
    assert of_them["key_type"] == "ed25519"
    assert of_them["observed_addr"].startswith("/ip4/127.0.0.1/tcp/")
    assert theirs.address.rpartition("/p2p/")[0] in of_them["listen_addrs"]
    needs(theirs, "identify")
    of_us = theirs.call("identify", peer=ours.id)
    assert {"/echo/1.0.0", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0"} <= set(of_us["protocols"])
    assert of_us["agent"] is None or of_us["agent"].startswith("py_p2pstack/")
    assert of_us["key_type"] in (None, "ed25519")


@pytest.mark.row("echo 16 MiB, half-close")
def test_sixteen_mebibytes_come_back_both_ways(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    assert ours.call("echo", peer=theirs.id, size=16 * MIB, chunk=65536) == {"bytes": 16 * MIB, "ok": True}
    back = theirs.call("echo", peer=ours.id, size=16 * MIB, chunk=65536)
    assert (back["bytes"], back["ok"]) == (16 * MIB, True)


@pytest.mark.row("1,000 concurrent streams")
def test_a_thousand_streams_are_open_at_once_both_ways(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    assert ours.call("streams", peer=theirs.id, count=1000, size=100) == {"opened": 1000}
    assert theirs.call("streams", peer=ours.id, count=1000, size=100)["opened"] == 1000


@pytest.mark.row("stream reset, seen by us")
def test_we_see_their_reset_and_its_code(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    seen = ours.call("reset", peer=theirs.id, code=0x1234)
    assert seen["reset"]
    assert seen["code"] == (0x1234 if theirs.language == "go" else 0)


@pytest.mark.row("stream reset, seen by them")
def test_they_see_our_reset_and_its_code(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    needs(theirs, "last_reset")
    ours.call("send_reset", peer=theirs.id, code=0x1235)
    seen = theirs.call("last_reset")
    assert seen["reset"]
    assert seen["code"] in (None, 0x1235)
    if theirs.language == "go":
        assert seen["code"] == 0x1235


@pytest.mark.row("go-away, seen by us")
def test_we_see_their_go_away(other: str, direction: str) -> None:
    with start("ours") as ours, start(other) as theirs:
        needs(theirs, "close")
        dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
        dialer.call("connect", addr=listener.address)
        theirs.call("close", peer=ours.id, code=0x1005)
        code = ours.call("last_close")["code"]
        assert code == (0x1005 if other == "go" else code)
        assert ours.call("peers") == {"peers": []}


@pytest.mark.row("go-away, seen by them")
def test_they_see_our_go_away(other: str, direction: str) -> None:
    with start("ours") as ours, start(other) as theirs:
        dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
        dialer.call("connect", addr=listener.address)
        ours.call("close", peer=theirs.id, code=0x1005)
        needs(theirs, "last_close")
        assert theirs.call("last_close")["code"] in ((0x1005,) if other == "go" else (None, 0, 0x1005))


@pytest.mark.row("their identity keys")
@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_their_identity_of_each_key_type_is_proved(other: str, direction: str, key_type: str) -> None:
    with start(other, listen=False) as probe:
        if key_type not in probe.ready["key_types"]:
            pytest.skip(f"{probe.name} has no {key_type} keys")
    with start("ours") as ours, start(other, "--key-type", key_type) as theirs:
        dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
        dialer.call("connect", addr=listener.address)
        assert ours.call("echo", peer=theirs.id, size=10, chunk=10)["ok"]
        assert ours.call("identify", peer=theirs.id)["key_type"] == key_type


@pytest.mark.row("our identity keys")
@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_our_identity_of_each_key_type_is_accepted(other: str, direction: str, key_type: str) -> None:
    with start("ours", "--key-type", key_type) as ours, start(other) as theirs:
        if key_type not in theirs.ready["key_types"]:
            pytest.skip(f"{theirs.name} has no {key_type} keys")
        dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
        dialer.call("connect", addr=listener.address)
        assert theirs.call("echo", peer=ours.id, size=10, chunk=10)["ok"]
