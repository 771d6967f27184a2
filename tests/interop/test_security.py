"""TLS, mplex and private networks with real peers, as dialer and as listener; wherever a peer has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from py_p2pstack.transports.pnet import encode_psk
from tests.interop.conftest import MATRIX, start
from tests.interop.peer import CommandFailed, Peer

pytestmark = pytest.mark.interop

MIB = 1 << 20
TLS = ("--security", "tls")
WITHOUT_MPLEX = ("go", "rust")  # both have dropped it
WITH_PNET = ("go",)


@dataclass(frozen=True)
class Met:
    """Our peer and another's, connected, and what the dialer was told of the connection."""

    ours: Peer
    theirs: Peer
    told: dict[str, object]


def meet(ours: Peer, theirs: Peer, direction: str) -> Met:
    dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
    return Met(ours, theirs, dialer.call("connect", addr=listener.address))


@pytest.fixture(scope="module")
def over_tls(request: pytest.FixtureRequest, other: str, direction: str) -> Iterator[Met]:
    with start("ours", *TLS) as ours, start(other, *TLS) as theirs:
        request.config.stash[MATRIX].name(other, theirs.name)
        yield meet(ours, theirs, direction)


@pytest.fixture(scope="module", params=["noise", "tls"])
def over_mplex(request: pytest.FixtureRequest, other: str, direction: str) -> Iterator[Met]:
    if other in WITHOUT_MPLEX:
        pytest.skip(f"the {other} library has no mplex")
    options = ("--muxer", "mplex", "--security", request.param)
    with start("ours", *options) as ours, start(other, *options) as theirs:
        request.config.stash[MATRIX].name(other, theirs.name)
        yield meet(ours, theirs, direction)


def works(met: Met, *, both: bool = True) -> None:
    """Ping, identify, 16 MiB there and back, from both sides or from ours alone."""
    ours, theirs = met.ours, met.theirs
    assert len(ours.call("ping", peer=theirs.id, count=3)["rtt_ms"]) == 3
    assert len(theirs.call("ping", peer=ours.id, count=3)["rtt_ms"]) == 3
    assert "/echo/1.0.0" in ours.call("identify", peer=theirs.id)["protocols"]
    assert ours.call("echo", peer=theirs.id, size=16 * MIB, chunk=65536) == {"bytes": 16 * MIB, "ok": True}
    if not both:
        return
    back = theirs.call("echo", peer=ours.id, size=16 * MIB, chunk=65536)
    assert (back["bytes"], back["ok"]) == (16 * MIB, True)


def resets(met: Met, *, told: bool = True) -> None:
    """Seen by us, and, where they can tell, by them."""
    assert met.ours.call("reset", peer=met.theirs.id, code=0x1234)["reset"]
    if told and met.theirs.can("last_reset"):
        met.ours.call("send_reset", peer=met.theirs.id, code=0x1235)
        assert met.theirs.call("last_reset")["reset"]


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.row("TLS: connect, muxer agreed in the handshake")
def test_tls_secures_and_the_muxer_is_told(over_tls: Met) -> None:
    assert over_tls.told["security"] in (None, "/tls/1.0.0")
    assert over_tls.told["muxer"] in (None, "/yamux/1.0.0")
    assert over_tls.theirs.id in over_tls.ours.call("peers")["peers"]


@pytest.mark.row("TLS: ping, identify, echo 16 MiB")
def test_tls_carries_everything(over_tls: Met) -> None:
    works(over_tls)


@pytest.mark.row("TLS: stream reset")
def test_resets_pass_through_tls(over_tls: Met) -> None:
    resets(over_tls)


@pytest.mark.row("TLS: 200 concurrent streams")
def test_many_streams_run_through_tls(over_tls: Met) -> None:
    ours, theirs = over_tls.ours, over_tls.theirs
    assert ours.call("streams", peer=theirs.id, count=200, size=100) == {"opened": 200}


@pytest.mark.row("TLS: identity keys of all kinds, both ways")
@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_certificates_prove_identities_of_each_key_type(other: str, direction: str, key_type: str) -> None:
    options = (*TLS, "--key-type", key_type)
    with start(other, listen=False) as probe:
        if key_type not in probe.ready["key_types"]:
            pytest.skip(f"{probe.name} has no {key_type} keys")
    with start("ours", *options) as ours, start(other, *options) as theirs:
        meet(ours, theirs, direction)
        assert ours.call("echo", peer=theirs.id, size=1000, chunk=1000)["ok"]


@pytest.mark.row("TLS: refused noise, we fall back")
def test_a_peer_without_our_first_security_is_reached_with_the_second(other: str) -> None:
    with start("ours", "--security", "noise,tls", listen=False) as ours, start(other, *TLS) as theirs:
        assert meet(ours, theirs, "we dial").told["security"] == "/tls/1.0.0"
        assert ours.call("echo", peer=theirs.id, size=1000, chunk=1000)["ok"]


# --- mplex ----------------------------------------------------------------------------------------


@pytest.mark.row("mplex: ping, identify, echo 16 MiB")
def test_mplex_carries_everything(over_mplex: Met) -> None:
    """py-libp2p alone is not asked to send: one lock of its streams lets nobody write while somebody waits to read."""
    assert over_mplex.told["muxer"] in (None, "/mplex/6.7.0")
    works(over_mplex, both=over_mplex.theirs.language != "py")


@pytest.mark.row("mplex: stream reset")
def test_resets_pass_through_mplex(over_mplex: Met) -> None:
    """py-libp2p cannot tell: it wakes its reader before it notes that the stream was reset."""
    resets(over_mplex, told=over_mplex.theirs.language != "py")


@pytest.mark.row("mplex: 200 concurrent streams")
def test_many_streams_run_through_mplex(over_mplex: Met) -> None:
    assert over_mplex.ours.call("streams", peer=over_mplex.theirs.id, count=200, size=100) == {"opened": 200}


# --- private networks -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("pnet") / "swarm.key"
    path.write_bytes(encode_psk(bytes(range(32))))
    return str(path)


@pytest.mark.row("private network: ping, identify, echo 16 MiB")
@pytest.mark.parametrize("security", ["noise", "tls"])
def test_members_of_a_private_network_talk(other: str, direction: str, security: str, key_file: str) -> None:
    if other not in WITH_PNET:
        pytest.skip(f"the {other} peer has no private networks")
    options = ("--psk", key_file, "--security", security)
    with start("ours", *options) as ours, start(other, *options) as theirs:
        works(meet(ours, theirs, direction))


@pytest.mark.row("private network: strangers stay out")
@pytest.mark.parametrize("member", ["ours", "theirs"])
def test_strangers_get_no_connection(other: str, direction: str, member: str, key_file: str) -> None:
    if other not in WITH_PNET:
        pytest.skip(f"the {other} peer has no private networks")
    psk = ("--psk", key_file)
    with (
        start("ours", *(psk if member == "ours" else ())) as ours,
        start(other, *(psk if member == "theirs" else ())) as theirs,
    ):
        with pytest.raises(CommandFailed):
            meet(ours, theirs, direction)
        assert ours.call("peers") == {"peers": []}
