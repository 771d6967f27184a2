"""Multiaddrs: go's bytes for each text, strict on what strangers send, and values through and through."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import multiaddr
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from py_p2pstack.addresses import Multiaddr, parse_bytes
from py_p2pstack.addresses.multiaddr import MAX_SIZE
from py_p2pstack.addresses.protocols import PROTOCOLS, VARIABLE, Protocol, check_value
from py_p2pstack.errors import InvalidAddress
from py_p2pstack.identity import PeerId
from py_p2pstack.wire import varint

GO = json.loads((Path(__file__).parent.parent / "vectors" / "addresses" / "go_multiaddrs.json").read_text())
VECTORS = [(each["text"], each["bytes"]) for each in GO["multiaddrs"]]
ALICE = PeerId.parse("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
BOB = PeerId.parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,6})?", fullmatch=True)
ports = st.integers(0, 65535)
hosts = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"/ip4/{ip}"),
    st.binary(min_size=15, max_size=15).map(lambda rest: f"/ip6/{IPv6Address(bytes((0x20,)) + rest)}"),
    st.tuples(st.sampled_from(["dns", "dns4", "dns6", "dnsaddr"]), names).map("/{0[0]}/{0[1]}".format),
)
transports = st.one_of(
    ports.map("/tcp/{}".format),
    ports.map("/tcp/{}/ws".format),
    ports.map("/tcp/{}/tls/ws".format),
    ports.map("/udp/{}/quic-v1".format),
)
peers = st.sampled_from(["", f"/p2p/{ALICE}", f"/p2p/{ALICE}/p2p-circuit", f"/p2p/{ALICE}/p2p-circuit/p2p/{BOB}"])
texts = st.one_of(st.tuples(hosts, transports, peers).map("".join), st.integers(0, 2**64 - 1).map("/memory/{}".format))


@pytest.mark.parametrize(("text", "encoded"), VECTORS, ids=[text for text, _ in VECTORS])
def test_text_and_bytes_are_those_of_go(text: str, encoded: str) -> None:
    address = Multiaddr.parse(text)
    assert address.to_bytes().hex() == encoded
    assert str(address) == text
    received = parse_bytes(bytes.fromhex(encoded))
    assert received == address
    assert str(received) == text


@given(texts)
def test_an_address_survives_its_text_and_its_bytes(text: str) -> None:
    address = Multiaddr.parse(text)
    assert str(address) == text
    received = parse_bytes(address.to_bytes())
    assert received == address
    assert hash(received) == hash(address)
    assert str(received) == text
    assert received.to_bytes() == address.to_bytes()


@given(texts)
def test_the_multiaddr_package_agrees(text: str) -> None:
    assume("/ip6/" not in text)  # it writes some IPv6 addresses differently
    ours, theirs = Multiaddr.parse(text), multiaddr.Multiaddr(text)
    assert ours.to_bytes() == theirs.to_bytes()
    assert ours.to_multiaddr() == theirs
    assert Multiaddr.parse(theirs) == ours


@given(st.lists(st.tuples(st.sampled_from(PROTOCOLS), st.binary(max_size=50)), max_size=5), st.binary(max_size=3))
def test_whatever_is_accepted_can_be_printed_and_read_back(parts: list[tuple[object, bytes]], rest: bytes) -> None:
    data = b""
    for protocol, value in parts:
        code, size = protocol.code, protocol.size  # type: ignore[attr-defined]
        if size >= 0:
            value = (value + bytes(size))[:size]
        data += varint.encode(code) + (varint.encode(len(value)) if size < 0 else b"") + value
    for candidate in (data, data + rest):
        try:
            address = parse_bytes(candidate)
        except InvalidAddress:
            continue
        assert address.to_bytes() == candidate
        assert Multiaddr.parse(str(address)) == address
        for name in address.protocols:
            assert address.value(name) is not None


@given(st.sampled_from(VECTORS), st.data())
def test_mutated_addresses_are_addresses_or_invalid(vector: tuple[str, str], data: st.DataObject) -> None:
    changed = bytearray.fromhex(vector[1])
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        address = parse_bytes(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    except InvalidAddress:
        return
    assert Multiaddr.parse(str(address)) == address


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_an_address_or_invalid(data: bytes) -> None:
    try:
        address = parse_bytes(data)
    except InvalidAddress:
        return
    assert Multiaddr.parse(str(address)).to_bytes() == data


@given(st.text(max_size=60), st.sampled_from([f"/{protocol.name}/" for protocol in PROTOCOLS]))
@example("99999999999999999999", "/memory/")
@example("\udc80", "/dns4/")
@example("fe80::1%eth0", "/ip6/")
@example("%", "/http-path/")
@example("u====", "/certhash/")
@example(":", "/onion3/")
def test_arbitrary_text_is_an_address_or_invalid(text: str, prefix: str) -> None:
    for candidate in (text, prefix + text):
        try:
            address = Multiaddr.parse(candidate)
        except InvalidAddress:
            continue
        assert Multiaddr.parse(str(address)) == address


@pytest.mark.parametrize(("_text", "encoded"), VECTORS, ids=[text for text, _ in VECTORS])
def test_a_truncated_address_is_never_the_whole_one(_text: str, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    for end in range(len(data)):
        try:
            shorter = parse_bytes(data[:end])
        except InvalidAddress:
            continue
        assert shorter.to_bytes() == data[:end]  # cut between two parts, or inside a path


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "0 bytes"),
        ("04c00002", "ends inside its ip4"),
        ("06", "ends inside its tcp"),
        ("8400", "minimal"),
        ("ff7f", "unknown multiaddr protocol"),
        ("05", "unknown multiaddr protocol 5"),
        ("ffffffffffffffffffff01", "longer than 9"),
        ("91", "truncated"),
        ("36", "truncated"),
        ("3600", "empty dns4"),
        ("3603612062", "malformed dns4"),
        ("3603612f62", "malformed dns4"),
        ("3603610062", "malformed dns4"),
        ("3601ff", "malformed dns4"),
        ("a503021220", "malformed p2p"),
        ("2a0165", "ip6zone without its ip6"),
        ("2a016504c0000201", "ip6zone without its ip6"),
        ("2a01652a016529" + "00" * 16, "ip6zone without its ip6"),
        ("90030161", "malformed unix"),
        ("9003022f61060050", "goes on behind its unix path"),
        ("bd03" + "00" * 37, "malformed onion3"),  # port 0
        ("d20302ff00", "malformed certhash"),
        ("d203031202aa", "malformed certhash"),
        ("d2030180", "malformed certhash"),
        ("36ff7f", "ends inside its dns4"),
    ],
)
def test_malformed_bytes_are_refused_with_the_reason(data: str, why: str) -> None:
    with pytest.raises(InvalidAddress, match=why):
        parse_bytes(bytes.fromhex(data))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "//",
        "ip4/127.0.0.1",
        "/ip4",
        "/ip4/",
        "/ip4/256.0.0.1",
        "/ip4/127.1",
        "/ip4/0127.0.0.1",
        "/ip6/127.0.0.1",
        "/ip6/fe80::1%eth0/tcp/1",
        "/ip4/1.2.3.4//tcp/1",
        "/ip4/1.2.3.4/tcp/65536",
        "/ip4/1.2.3.4/tcp/-1",
        "/ip4/1.2.3.4/tcp/+1",
        "/ip4/1.2.3.4/tcp/1_0",
        "/ip4/1.2.3.4/tcp/٣",
        "/ip4/1.2.3.4/tcp",
        "/ip4/1.2.3.4/nonsense",
        "/memory/18446744073709551616",
        "/memory/x",
        "/dns4/" + "a" * 254,
        "/p2p/hello",
        "/ip6zone/eth0/tcp/1",
        "/unix/",
        "/certhash/zEiAk",
        "/certhash/uEiAk",
        "/certhash/uEgB",  # spare bits set
        "/certhash/u" + "!" * 4,
        "/ws" * 600,
        "/ws" * 2000,
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        Multiaddr.parse(text)


def test_a_value_whose_text_stands_for_another_is_refused() -> None:
    # the package's codec drops the slash of a unix path, which is why we have our own
    with pytest.raises(InvalidAddress, match="canonical"):
        check_value(Protocol(400, "unix", VARIABLE), b"/tmp/socket")


def test_the_size_is_bounded() -> None:
    whole = b"\xdd\x03" * (MAX_SIZE // 2)
    assert len(parse_bytes(whole)) == MAX_SIZE // 2
    with pytest.raises(InvalidAddress, match="1026 bytes"):
        parse_bytes(whole + b"\xdd\x03")


def test_the_old_name_of_p2p_and_a_trailing_slash_are_understood() -> None:
    assert str(Multiaddr.parse(f"/ip4/1.2.3.4/tcp/1/ipfs/{ALICE}/")) == f"/ip4/1.2.3.4/tcp/1/p2p/{ALICE}"


def test_a_peer_id_in_cid_text_is_the_same_peer() -> None:
    assert Multiaddr.parse(f"/p2p/{ALICE.to_cid()}") == Multiaddr.parse(f"/p2p/{ALICE}")


@given(st.ip_addresses(v=4))
def test_a_mapped_ipv4_address_is_written_as_go_and_new_pythons_do(ip: IPv4Address) -> None:
    address = Multiaddr.parse(f"/ip6/{IPv6Address(bytes(10) + bytes((255, 255)) + ip.packed)}")
    assert str(address) == f"/ip6/::ffff:{ip}"
    assert Multiaddr.parse(str(address)) == address


# --- parts -----------------------------------------------------------------------------------------


def test_parts_are_read_by_name() -> None:
    address = Multiaddr.parse(f"/ip4/192.0.2.1/tcp/4001/ws/p2p/{ALICE}")
    assert address.protocols == ("ip4", "tcp", "ws", "p2p")
    assert len(address) == 4
    assert address.value("ip4") == "192.0.2.1"
    assert address.value("tcp") == "4001"
    assert address.raw_value("tcp") == b"\x0f\xa1"
    assert address.value("ws") == ""
    assert address.value("udp") is None
    assert address.raw_value("udp") is None


def test_an_address_grows_and_shrinks_at_its_end() -> None:
    tcp = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")
    assert str(tcp.encapsulate("/ws")) == "/ip4/192.0.2.1/tcp/4001/ws"
    assert tcp.encapsulate(Multiaddr.parse("/ws")).decapsulate("ws") == tcp
    assert tcp.decapsulate("udp") is tcp
    assert tcp.decapsulate("ip4").protocols == ()
    relayed = tcp.with_peer(ALICE).encapsulate("/p2p-circuit").with_peer(BOB)
    assert str(relayed) == f"/ip4/192.0.2.1/tcp/4001/p2p/{ALICE}/p2p-circuit/p2p/{BOB}"
    assert relayed.decapsulate("p2p").decapsulate("p2p-circuit") == tcp.with_peer(ALICE)
    with pytest.raises(InvalidAddress):
        tcp.encapsulate("nonsense")


def test_the_peer_is_the_one_at_the_end() -> None:
    tcp = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")
    relay = tcp.with_peer(ALICE)
    assert tcp.peer_id() is None
    assert tcp.without_peer() is tcp
    assert relay.peer_id() == ALICE
    assert relay.without_peer() == tcp
    assert relay.with_peer(ALICE) == relay
    assert relay.encapsulate("/p2p-circuit").peer_id() is None
    assert relay.encapsulate("/p2p-circuit").with_peer(BOB).peer_id() == BOB
    assert tcp.decapsulate("ip4").peer_id() is None


def test_the_head_is_the_first_part_behind_a_zone() -> None:
    assert Multiaddr.parse("/ip4/192.0.2.1/tcp/1").head == ("ip4", bytes((192, 0, 2, 1)))
    zoned = Multiaddr.parse("/ip6zone/eth0/ip6/fe80::1/tcp/1")
    assert zoned.head == ("ip6", IPv6Address("fe80::1").packed)
    assert Multiaddr.parse("/ws").head == ("ws", b"")
    assert Multiaddr.parse("/ws").decapsulate("ws").head is None


# --- values ----------------------------------------------------------------------------------------


def test_addresses_are_values() -> None:
    one, same = Multiaddr.parse("/ip4/1.2.3.4/tcp/1"), Multiaddr.parse("/ip4/1.2.3.4/tcp/1")
    other = Multiaddr.parse("/ip4/1.2.3.4/tcp/2")
    assert one == same
    assert {one: 1}[same] == 1
    assert one != other
    assert one < other
    assert sorted([other, one]) == [one, other]
    assert one != str(one)
    assert one != one.to_bytes()
    with pytest.raises(TypeError):
        assert one < "/ip4"
    assert Multiaddr.parse(one) is one
    assert str(one) is str(one)
    assert repr(one) == "<Multiaddr /ip4/1.2.3.4/tcp/1>"


def test_an_address_survives_pickling_and_copying_also_when_empty() -> None:
    address = Multiaddr.parse("/ip4/1.2.3.4/tcp/1")
    for each in (address, address.decapsulate("ip4")):
        assert pickle.loads(pickle.dumps(each)) == each
        assert copy.deepcopy(each) == each
        assert bool(each)


def test_the_multiaddr_package_is_not_loaded_for_common_addresses() -> None:
    # in a process of its own; the package's menu is left out, as it loads the whole stack
    script = (
        "import sys, types, importlib.util\n"
        "package = types.ModuleType('py_p2pstack')\n"
        "package.__path__ = list(importlib.util.find_spec('py_p2pstack').submodule_search_locations)\n"
        "sys.modules['py_p2pstack'] = package\n"
        "from py_p2pstack.addresses import Multiaddr, parse_bytes\n"
        "from py_p2pstack.identity import PrivateKey\n"
        "peer = PrivateKey.from_seed(bytes(32)).public_key.peer_id()\n"
        "str(parse_bytes(Multiaddr.parse(f'/ip4/1.2.3.4/tcp/1/p2p/{peer}').to_bytes()))\n"
        "print([name for name in ('multiaddr', 'coincurve', 'google.protobuf', 'anyio') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
