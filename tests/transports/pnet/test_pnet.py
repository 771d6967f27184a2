"""Private networks: the key's file, the cipher's vectors, and connections that only members can use."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import DialError, InvalidKey, SecurityError
from py_p2pstack.node import Host, HostConfig
from py_p2pstack.testing.contracts import receive, receive_exactly, send_all
from py_p2pstack.testing.pairs import raw_pair
from py_p2pstack.transports.memory import MemoryNetwork, MemoryTransport
from py_p2pstack.transports.pnet import PnetTransport, decode_psk, encode_psk, load_psk
from py_p2pstack.transports.pnet.transport import PnetConnection
from py_p2pstack.transports.pnet.xsalsa20 import hsalsa20, xsalsa20
from py_p2pstack.upgrade.upgrader import UpgraderConfig
from tests.hosts import ECHO, echo, exchange, memory_hosts

KEY = bytes(range(32))
HEAD = b"/key/swarm/psk/1.0.0/\n"


# --- the key's file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        HEAD + b"/base16/\n" + KEY.hex().encode(),
        HEAD + b"/base16/\n" + KEY.hex().upper().encode() + b"\n",
        b"/key/swarm/psk/1.0.0/\r\n/base16/\r\n" + KEY.hex().encode() + b"\r\n",
        HEAD + b"/base64/\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        HEAD + b"/bin/\n" + KEY,
    ],
)
def test_key_files_in_every_encoding_are_read(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "swarm.key"
    file.write_bytes(content)
    assert load_psk(file) == KEY


def test_what_we_write_we_read() -> None:
    assert decode_psk(encode_psk(KEY)) == KEY


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"/key/swarm/psk/2.0.0/\n/base16/\n" + KEY.hex().encode(),
        HEAD,
        HEAD + b"/base32/\n" + KEY,
        HEAD + b"/base16/\n" + KEY.hex().encode()[:-2],
        HEAD + b"/base16/\n" + KEY.hex().encode() + b"00",
        HEAD + b"/base16/\nzz" + KEY.hex().encode()[2:],
        HEAD + b"/base64/\n!!!",
        HEAD + b"/bin/\n" + KEY + b"\n",
        HEAD + b"/bin/\n" + bytes(2000),
    ],
)
def test_what_is_no_key_file_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidKey, match="private network"):
        decode_psk(content)


# --- the cipher -----------------------------------------------------------------------------------

FIRST_KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")


def test_hsalsa20_passes_the_vectors_of_nacl() -> None:
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert hsalsa20(shared, bytes(16)) == FIRST_KEY
    second = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")
    assert hsalsa20(FIRST_KEY, NONCE[:16]) == second


def test_xsalsa20_passes_the_vector_of_nacl_in_any_cuts() -> None:
    stream = bytes.fromhex("eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880")
    assert xsalsa20(FIRST_KEY, NONCE)(bytes(32)) == stream
    cut = xsalsa20(FIRST_KEY, NONCE)
    assert b"".join(cut(bytes(size)) for size in (1, 2, 13, 16)) == stream


def test_without_the_extra_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("Crypto"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SecurityError, match=r"py-p2pstack\[pnet\]"):
        PnetTransport(MemoryTransport(MemoryNetwork(), "alice"), KEY)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidKey):
        PnetTransport(MemoryTransport(MemoryNetwork(), "alice"), bytes(size))


# --- connections ----------------------------------------------------------------------------------


class Narrow:
    """A pipe that takes what it is told to take."""

    local_address = remote_address = Multiaddr.parse("/memory/1")

    def __init__(self) -> None:
        self.room = 24
        self.wire = bytearray()

    def send_nowait(self, data: Buffer) -> int:
        count = min(len(data), self.room)
        self.wire += data[:count]
        self.room -= count
        return count

    def receive_nowait(self, buffer: memoryview) -> int | None:
        raise NotImplementedError

    async def wait_readable(self) -> None: ...

    async def wait_writable(self) -> None: ...

    def close(self) -> None: ...


@settings(max_examples=200)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(0, 50)), max_size=20))
def test_what_was_taken_arrives_whatever_is_offered_next(offers: list[tuple[bytes, int]]) -> None:
    """A caller may offer other bytes than those that found no room: the key stream is never used twice."""
    pipe = Narrow()
    sender = PnetConnection(pipe, KEY, NONCE)
    taken = bytearray()
    for data, room in offers:
        pipe.room += room
        taken += data[: sender.send_nowait(data)]
    assert pipe.wire[:24] == NONCE[: len(pipe.wire)]
    assert xsalsa20(KEY, NONCE)(bytes(pipe.wire[24:])) == taken


@pytest.mark.anyio
async def test_nothing_said_is_on_the_wire_in_the_clear_and_no_nonce_comes_twice() -> None:
    seen = []
    for _ in range(2):
        near, far = raw_pair()
        transport = PnetTransport(MemoryTransport(MemoryNetwork(), "x"), KEY)
        alice = transport._wrap(near)
        await send_all(alice, b"/multistream/1.0.0" * 10)
        seen.append(await receive_exactly(far, 24 + 180))
    assert seen[0][:24] != seen[1][:24]
    assert all(b"multistream" not in wire for wire in seen)


@pytest.mark.anyio
async def test_a_peer_that_ends_within_its_nonce_has_ended() -> None:
    near, far = raw_pair()
    alice = PnetConnection(near, KEY, NONCE)
    await send_all(far, b"short")
    far.close()
    assert await receive(alice) == b""


@pytest.mark.anyio
@pytest.mark.parametrize("security", ["noise", "tls"])
async def test_members_of_a_network_talk(security: str) -> None:
    option = {"psk": KEY, "security": [security]}
    async with memory_hosts(2, options=[option, option]) as (alice, bob):
        bob.set_stream_handler(ECHO, echo)
        await alice.connect(bob.full_addresses[0])
        assert await exchange(alice, bob, bytes(1_000_000)) == bytes(1_000_000)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("ours", "theirs"), [(KEY, bytes(32)), (KEY, None), (None, KEY)], ids=["another", "ours alone", "theirs alone"]
)
async def test_whoever_has_another_key_or_none_gets_no_connection(ours: bytes | None, theirs: bytes | None) -> None:
    config = HostConfig(upgrade=UpgraderConfig(handshake_timeout=0.1))  # scrambled lengths may promise more to come
    options = [{"psk": psk, "config": config} for psk in (ours, theirs)]
    async with memory_hosts(2, options=options) as (alice, bob):
        with pytest.raises(DialError):
            await alice.connect(bob.full_addresses[0])
        assert not bob.network.conns()


def test_a_forced_private_network_builds_no_host_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBP2P_FORCE_PNET", "1")
    with pytest.raises(SecurityError, match="LIBP2P_FORCE_PNET"):
        Host()
    Host(psk=KEY)
