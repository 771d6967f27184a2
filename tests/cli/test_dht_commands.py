"""The DHT from a shell: what is printed where, and how each failure ends."""

from __future__ import annotations

import io
import json
import re
import socket
from base64 import b64decode
from pathlib import Path

import pytest

from py_p2pstack.identity import PrivateKey
from tests.cli.terminal import CID, NOBODY, Command, Ended, Nodes, RunningNode, one_error


def test_what_one_node_puts_the_other_gets(p2pstack: Command, nodes: Nodes) -> None:
    first, second = nodes
    put = p2pstack("dht", "put", "greeting", "hello", "--data-dir", first.directory)
    assert (put.code, put.out) == (0, b"/v/greeting: 5 bytes, kept by 1 of 1 peers\n")
    got = p2pstack("dht", "get", "greeting", "--data-dir", second.directory)
    assert got == Ended(0, b"hello", "")


def test_a_node_of_our_own_does_too(p2pstack: Command, nodes: Nodes) -> None:
    put = p2pstack("dht", "put", "/v/ours", "hello", "--bootstrap", nodes[0].address)
    assert (put.code, put.out) == (0, b"/v/ours: 5 bytes, kept by 2 of 2 peers\n")
    for backend in ("asyncio", "trio"):
        got = p2pstack("dht", "get", "ours", "--bootstrap", nodes[1].address, "--backend", backend)
        assert got == Ended(0, b"hello", "")


def test_which_node_is_asked_is_told_if_wanted(p2pstack: Command, nodes: Nodes) -> None:
    first, second = nodes
    where = ("--data-dir", first.directory, "-v")
    assert p2pstack("dht", "stats", *where).err == f"asking the node that runs in {first.directory}\n"
    assert p2pstack("dht", "stats", "--bootstrap", second.address, *where).err.startswith("asking the node that runs")
    assert "a node of our own" in p2pstack("dht", "stats", "--bootstrap", second.address, "-v").err


def test_a_node_that_runs_goes_before_bootstrap_peers_of_the_environment(
    p2pstack: Command, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nodes
    monkeypatch.setenv("P2PSTACK_BOOTSTRAP", second.address)
    monkeypatch.setenv("P2PSTACK_DATA_DIR", str(first.directory))
    assert p2pstack("dht", "stats", "-v").err == f"asking the node that runs in {first.directory}\n"
    assert "a node of our own" in p2pstack("dht", "stats", "-v", "--bootstrap", second.address).err
    monkeypatch.setenv("P2PSTACK_DATA_DIR", str(first.directory / "nothing"))
    assert "a node of our own" in p2pstack("dht", "stats", "-v").err


def test_bytes_go_in_and_out_as_they_are(
    p2pstack: Command, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 4
    (tmp_path / "file").write_bytes(data)
    where = ("--data-dir", nodes[0].directory)
    assert p2pstack("dht", "put", "file", f"@{tmp_path / 'file'}", *where).code == 0
    assert p2pstack("dht", "get", "file", *where).out == data
    told = json.loads(p2pstack("dht", "get", "file", "--json", *where).out)
    assert b64decode(told["value"]) == data
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data[::-1])))
    assert p2pstack("dht", "put", "stdin", "-", *where).code == 0
    assert p2pstack("dht", "get", "stdin", *where).out == data[::-1]
    one_error(p2pstack("dht", "put", "file", f"@{tmp_path / 'nothing'}", *where), 1)
    one_error(p2pstack("dht", "put", "file", "@", *where), 2)


def test_a_bare_key_is_in_the_namespace(p2pstack: Command, nodes: Nodes) -> None:
    where = ("--data-dir", nodes[0].directory)
    put = p2pstack("dht", "put", "bare", "x", "--json", *where)
    assert json.loads(put.out)["key"] == "/v/bare"
    assert "pk" in one_error(p2pstack("dht", "put", "bare", "x", "--namespace", "pk", *where), 2)
    one_error(p2pstack("dht", "put", "bare", "x", "--namespace", "unknown", *where), 6)


def test_a_record_of_ones_own_is_put_by_name_and_got_by_everybody(
    p2pstack: Command, nodes: Nodes, tmp_path: Path
) -> None:
    first, second = nodes
    key = f"/owned/{first.address.rpartition('/')[2]}/profile"
    for number, value in enumerate(("old", "new"), 1):
        put = p2pstack("dht", "put", "--owned", "profile", value, "--data-dir", first.directory)
        assert put.out.decode() == f"{key}: 3 bytes, number {number}, kept by 1 of 1 peers\n"
    assert p2pstack("dht", "get", key, "--data-dir", second.directory).out == b"new"
    assert p2pstack("dht", "get", "--owned", "profile", "--data-dir", first.directory).out == b"new"
    assert p2pstack("dht", "search", key, "--bootstrap", second.address).out == b"new\n"
    told = json.loads(p2pstack("dht", "get", key, "--json", "--data-dir", second.directory).out)
    assert (told["key"], told["sequence"], b64decode(told["value"])) == (key, 2, b"new")
    # Nobody else may, not even over the owner's own node.
    one_error(p2pstack("dht", "put", key, "mine", "--data-dir", second.directory), 6)
    one_error(p2pstack("dht", "get", "--owned", "profile", "--data-dir", second.directory), 3)
    one_error(p2pstack("dht", "get", "--owned", key, "--data-dir", first.directory), 2)
    one_error(p2pstack("dht", "put", "--owned", "profile", "x" * 20_000, "--data-dir", first.directory), 6)


def test_a_short_lived_node_signs_with_the_key_of_the_data_directory(
    p2pstack: Command, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PSTACK_DATA_DIR", str(tmp_path))
    where = ("--bootstrap", nodes[0].address)
    assert "p2pstack keygen" in one_error(p2pstack("dht", "put", "--owned", "name", "x", *where), 3)
    me = p2pstack("keygen").out.decode().strip()
    for number in (1, 2):
        put = p2pstack("dht", "put", "--owned", "name", "x", *where).out.decode()
        assert put == f"/owned/{me}/name: 1 byte, number {number}, kept by 2 of 2 peers\n"
    assert p2pstack("dht", "get", f"/owned/{me}/name", "--data-dir", nodes[1].directory).out == b"x"


def test_on_the_public_network_a_node_is_in_the_private_one_around_it_too(p2pstack: Command, tmp_path: Path) -> None:
    # A first address that nobody has keeps the test off the network's own bootstrap peers.
    nobody = f"/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}"
    node = RunningNode(tmp_path, "--network", "ipfs", "--bootstrap", nobody)
    try:
        told = json.loads(p2pstack("dht", "stats", "--json", "--data-dir", tmp_path).out)
        assert (told["protocol"], told["mode"]) == ("/ipfs/kad/1.0.0", "client")
        assert (told["lan"]["protocol"], told["lan"]["mode"]) == ("/ipfs/lan/kad/1.0.0", "server")
        assert p2pstack("dht", "stats", "--data-dir", tmp_path).out.count(b"routing table") == 2
        assert p2pstack("dht", "table", "--data-dir", tmp_path).out.count(b"our key") == 2
        other = RunningNode(tmp_path / "other", "--network", "ipfs", "--bootstrap", node.address)
        try:
            while not json.loads(p2pstack("dht", "stats", "--json", "--data-dir", tmp_path).out)["lan"]["table_peers"]:
                pass
            key = PrivateKey.from_seed(bytes(32)).public_key
            (tmp_path / "key").write_bytes(key.encode())
            name = f"/pk/{key.peer_id()}"
            assert p2pstack("dht", "put", name, f"@{tmp_path / 'key'}", "--data-dir", tmp_path).code == 0
            asked = ("--bootstrap", other.address, "--network", "ipfs")
            assert p2pstack("dht", "get", name, *asked).out == key.encode()
            one_error(p2pstack("dht", "put", "anything", "x", *asked), 6)
        finally:
            other.process.kill()
            other.process.communicate()
    finally:
        node.process.kill()
        node.process.communicate()


def test_search_gives_out_what_it_finds(p2pstack: Command, nodes: Nodes) -> None:
    where = ("--data-dir", nodes[0].directory)
    assert p2pstack("dht", "put", "sought", "hello", *where).code == 0
    assert p2pstack("dht", "search", "sought", *where) == Ended(0, b"hello\n", "")
    lines = [json.loads(line) for line in p2pstack("dht", "search", "sought", "--json", *where).out.splitlines()]
    assert [sorted(line) for line in lines] == [["command", "item", "schema"], ["command", "found", "key", "schema"]]


def test_the_trace_is_quiet_when_piped_and_lines_with_json(p2pstack: Command, nodes: Nodes) -> None:
    where = ("--data-dir", nodes[0].directory)
    assert p2pstack("dht", "put", "traced", "hello", *where).code == 0
    assert p2pstack("dht", "get", "traced", "--trace", *where) == Ended(0, b"hello", "")
    lines = [
        json.loads(each) for each in p2pstack("dht", "get", "traced", "--trace", "--json", *where).out.splitlines()
    ]
    assert all(line["schema"] == 1 for line in lines)
    events = [line["event"] for line in lines[:-1]]
    assert "LookupStarted" in events
    assert "LookupEnded" in events
    assert lines[-1]["command"] == "dht.get"


def test_peers_are_found_pinged_and_identified(p2pstack: Command, nodes: Nodes) -> None:
    first, second = nodes
    peer_id = second.address.rpartition("/")[2]
    where = ("--data-dir", first.directory)
    found = p2pstack("dht", "find-peer", peer_id, *where)
    assert found.out.decode().splitlines() == [second.address]
    assert p2pstack("dht", "closest", peer_id, *where).out.startswith(peer_id.encode())
    pinged = p2pstack("ping", second.address, "--count", 2, "--interval", 0)
    assert re.fullmatch(r"1: [\d.]+ ms\n2: [\d.]+ ms\n\S+: 2 pings, min .*\n", pinged.out.decode()), pinged
    assert b"/p2pstack/kad/1.0.0" in p2pstack("identify", peer_id, *where).out


def test_providers_are_found(p2pstack: Command, nodes: Nodes) -> None:
    first, second = nodes
    provided = p2pstack("dht", "provide", CID, "--data-dir", first.directory)
    assert provided.out == f"{CID}: 1 peer told\n".encode()
    found = p2pstack("dht", "find-providers", CID, "--data-dir", second.directory)
    assert found.out.decode().split()[0] == first.address.rpartition("/")[2]
    alone = p2pstack("dht", "provide", CID, "--bootstrap", first.address)
    assert "a node that goes on running" in one_error(alone, 1)


def test_the_node_shows_how_it_stands(p2pstack: Command, nodes: Nodes) -> None:
    where = ("--data-dir", nodes[0].directory)
    assert b"routing table  " in p2pstack("dht", "stats", *where).out
    table = p2pstack("dht", "table", *where).out
    assert nodes[1].address.encode()[-8:] in table
    assert b"\x1b" not in table
    assert json.loads(p2pstack("dht", "table", "--json", *where).out)["bucket_size"] == 20


# --- failures --------------------------------------------------------------------------------------


def test_a_wrong_key_is_code_3(p2pstack: Command, nodes: Nodes) -> None:
    one_error(p2pstack("dht", "get", "wrong", "--data-dir", nodes[0].directory), 3)
    one_error(p2pstack("dht", "search", "wrong", "--bootstrap", nodes[0].address), 3)
    one_error(p2pstack("dht", "find-peer", NOBODY, "--data-dir", nodes[0].directory), 3)


def test_too_little_time_is_code_4(p2pstack: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{NOBODY}"
        one_error(p2pstack("ping", address, "--timeout", 0.05), 4)


def test_no_peers_is_code_5(p2pstack: Command, tmp_path: Path) -> None:
    assert "no node runs in" in one_error(p2pstack("dht", "get", "x", "--data-dir", tmp_path), 5)
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"/ip4/127.0.0.1/tcp/{placeholder.getsockname()[1]}/p2p/{NOBODY}"
        one_error(p2pstack("dht", "get", "x", "--bootstrap", address), 5)


def test_another_network_is_no_peers(p2pstack: Command, nodes: Nodes) -> None:
    one_error(p2pstack("dht", "get", "x", "--bootstrap", nodes[0].address, "--network", "/other"), 5)
    told = p2pstack("dht", "get", "x", "--data-dir", nodes[0].directory, "--network", "/other")
    assert "is in the network /p2pstack, not /other" in one_error(told, 2)


def test_a_value_that_is_none_is_code_6(p2pstack: Command, nodes: Nodes, tmp_path: Path) -> None:
    where = ("--data-dir", nodes[0].directory)
    one_error(p2pstack("dht", "put", f"/pk/{NOBODY}", "no key", *where), 6)
    (tmp_path / "large").write_bytes(bytes(70_000))
    one_error(p2pstack("dht", "put", "large", f"@{tmp_path / 'large'}", *where), 6)


def test_too_few_replicas_are_code_1(p2pstack: Command, nodes: Nodes) -> None:
    one_error(p2pstack("dht", "put", "few", "x", "--quorum", 5, "--data-dir", nodes[0].directory), 1)
