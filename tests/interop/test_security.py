"""What securities and private networks promise beside carrying bytes, with real peers, as dialer and as listener."""

from __future__ import annotations

from pathlib import Path

import pytest

from py_p2pstack.transports.pnet import encode_psk
from tests.interop.conftest import start
from tests.interop.peer import CommandFailed, Peer

pytestmark = pytest.mark.interop

MIB = 1 << 20
TLS = ("--security", "tls")
WITH_PNET = ("go",)


def meet(ours: Peer, theirs: Peer, direction: str) -> dict[str, object]:
    """Connect the two; what the dialer was told of it."""
    dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
    return dialer.call("connect", addr=listener.address)


# --- TLS ------------------------------------------------------------------------------------------


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
        assert meet(ours, theirs, "we dial")["security"] == "/tls/1.0.0"
        assert ours.call("echo", peer=theirs.id, size=1000, chunk=1000)["ok"]


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
        meet(ours, theirs, direction)
        assert ours.call("ping", peer=theirs.id, count=3)["rtt_ms"]
        assert "/echo/1.0.0" in ours.call("identify", peer=theirs.id)["protocols"]
        assert ours.call("echo", peer=theirs.id, size=16 * MIB, chunk=65536)["ok"]
        assert theirs.call("echo", peer=ours.id, size=16 * MIB, chunk=65536)["ok"]


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
