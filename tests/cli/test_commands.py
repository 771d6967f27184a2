"""The command line as a user meets it: what it prints where, and how it ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from py_p2pstack import __version__
from py_p2pstack.cli.main import root, run

COMMAND = [sys.executable, "-m", "py_p2pstack"]
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
NOBODY = "12D3KooWHFrmLWTTDD4NodngtRMEVYgxrsDMp4F9iSwYntZ9WjHa"
CID = "bafkreicu6unwomkhrak3sy22mex7eswalvik2mdeoyokwdhmheyapg3xei"
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: str


class RunningNode:
    """`node run` as a process of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*COMMAND, "node", "run", "--listen", LOOPBACK, "--data-dir", str(directory), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code, and what it said on standard error."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a test's own, and no directory of the user's."""
    for name in [name for name in os.environ if name.startswith("P2PSTACK_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, RunningNode]]:
    """Two nodes that know each other."""
    first = RunningNode(tmp_path_factory.mktemp("first"))
    second = RunningNode(tmp_path_factory.mktemp("second"), "--bootstrap", first.address)
    try:
        while json.loads(spawned("dht", "stats", "--json", "--data-dir", first.directory).out)["table_peers"] < 1:
            pass
        yield first, second
    finally:
        for node in (first, second):
            node.process.kill()
            node.process.communicate()


Command = Callable[..., Ended]


@pytest.fixture
def p2pstack(capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run a command in this process."""

    def command(*arguments: object) -> Ended:
        code = run([str(each) for each in arguments])
        out, err = capfdbinary.readouterr()
        return Ended(code, out, err.decode())

    return command


def spawned(*arguments: object, **options: Any) -> Ended:
    """Run a command in a process of its own."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, timeout=60, **options)
    return Ended(done.returncode, done.stdout, done.stderr.decode())


def one_error(ended: Ended, code: int) -> str:
    """It ended with this code and one line that says what to do; return the line."""
    assert ended.code == code, ended
    assert ended.out == b""
    (line,) = ended.err.splitlines()
    assert line.startswith("error: ")
    assert " → " in line
    return line


# --- who we are ------------------------------------------------------------------------------------


def test_the_version_is_told_at_once() -> None:
    done = spawned("--version", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert done.out.decode().strip() == f"p2pstack, version {__version__}"
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    heavy = {"anyio", "rich.console", "cryptography", "google.protobuf", "py_p2pstack.node", "py_p2pstack.protocols"}
    assert not imported & heavy


def test_without_the_extra_one_line_tells_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from py_p2pstack.cli import entry_point; entry_point()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ['error: click is not installed → pip install "py-p2pstack[cli]"']


def test_a_key_is_made_once_and_read_by_its_owner_alone(p2pstack: Command, tmp_path: Path) -> None:
    one_error(p2pstack("id", "--data-dir", tmp_path), 3)
    made = p2pstack("keygen", "--data-dir", tmp_path)
    assert made.code == 0
    assert p2pstack("id", "--data-dir", tmp_path).out == made.out
    key = tmp_path / "identity.key"
    before = hashlib.sha256(key.read_bytes()).digest()
    assert "never overwritten" in one_error(p2pstack("keygen", "--data-dir", tmp_path), 1)
    assert hashlib.sha256(key.read_bytes()).digest() == before
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        key.chmod(0o644)
        assert "chmod 600" in one_error(p2pstack("id", key), 1)


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_each_kind_of_key_is_made(p2pstack: Command, tmp_path: Path, kind: str) -> None:
    made = json.loads(p2pstack("keygen", "--type", kind, "--output", tmp_path / kind, "--json").out)
    told = json.loads(p2pstack("id", tmp_path / kind, "--json").out)
    assert told["schema"] == 1
    assert told["peer_id"] == made["peer_id"]
    assert told["key_type"] == kind


# --- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["--nonsense"], ["dht", "nonsense"], ["dht", "get"], ["dht", "get", ""], ["dht", "get", "x", "y"],
        ["dht", "get", "x", "--timeout", "0"], ["dht", "get", "x", "--network", "nonsense"], ["ping"],
        ["dht", "get", "x", "--bootstrap", "/ip4/127.0.0.1/tcp/1"], ["node", "run", "--listen", "nonsense"],
        ["--config", "/nothing", "dht", "get", "x"],
    ],
)  # fmt: skip
def test_bad_usage_is_code_2(p2pstack: Command, arguments: list[str]) -> None:
    one_error(p2pstack(*arguments), 2)


@pytest.mark.parametrize("arguments", [[], ["dht"], ["node"]])
def test_a_group_alone_shows_its_help(p2pstack: Command, arguments: list[str]) -> None:
    shown = p2pstack(*arguments)
    assert shown.code == 2
    assert "Commands:" in shown.err


@pytest.mark.parametrize("arguments", [["-h"], ["dht", "put", "--help"], ["node", "run", "--help"], ["dht", "-h"]])
def test_help_is_code_0(p2pstack: Command, arguments: list[str]) -> None:
    shown = p2pstack(*arguments)
    assert shown.code == 0
    assert b"Usage: p2pstack" in shown.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(p2pstack: Command, shell: str) -> None:
    shown = p2pstack("completion", shell)
    assert shown.code == 0
    assert b"_P2PSTACK_COMPLETE" in shown.out


def test_commands_are_completed() -> None:
    words = {"_P2PSTACK_COMPLETE": "bash_complete", "COMP_WORDS": "p2pstack dht fi", "COMP_CWORD": "2"}
    done = spawned(env={**os.environ, **words})
    assert re.findall(r"plain,(\S+)", done.out.decode()) == ["find-peer", "find-providers"]


def test_what_we_got_wrong_is_one_line_too(p2pstack: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(root, "main", broken)
    assert "unexpected KeyError" in one_error(p2pstack("id"), 1)


# --- values, peers, providers ----------------------------------------------------------------------

Nodes = tuple[RunningNode, RunningNode]


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


def test_a_bare_key_is_in_the_namespace(p2pstack: Command, nodes: Nodes) -> None:
    where = ("--data-dir", nodes[0].directory)
    put = p2pstack("dht", "put", "bare", "x", "--json", *where)
    assert json.loads(put.out)["key"] == "/v/bare"
    assert "pk" in one_error(p2pstack("dht", "put", "bare", "x", "--namespace", "pk", *where), 2)
    one_error(p2pstack("dht", "put", "bare", "x", "--namespace", "unknown", *where), 6)


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
    assert provided.out == f"{CID}: 1 peers told\n".encode()
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


# --- a node that stays -----------------------------------------------------------------------------


def test_a_node_prints_its_full_address_and_is_the_one_in_its_directory(p2pstack: Command, nodes: Nodes) -> None:
    first = nodes[0]
    assert re.fullmatch(r"/ip4/127\.0\.0\.1/tcp/\d+/p2p/12D3KooW\w+", first.address)
    assert p2pstack("id", "--data-dir", first.directory).out.decode().strip() == first.address.rpartition("/")[2]
    if os.name == "posix":
        for name in ("identity.key", "control.sock"):
            assert stat.S_IMODE((first.directory / name).stat().st_mode) == 0o600


def test_there_is_one_node_for_each_directory(p2pstack: Command, nodes: Nodes) -> None:
    second = p2pstack("node", "run", "--listen", LOOPBACK, "--data-dir", nodes[0].directory)
    assert "a node runs in" in one_error(second, 1)
    assert p2pstack("dht", "stats", "--data-dir", nodes[0].directory).code == 0


def test_a_taken_port_is_told_of(p2pstack: Command, nodes: Nodes, tmp_path: Path) -> None:
    taken = nodes[0].address.partition("/p2p/")[0]
    assert "in use" in one_error(p2pstack("node", "run", "--listen", taken, "--data-dir", tmp_path), 1)


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_node_ends_well_and_keeps_its_identity(tmp_path: Path, number: int, code: int) -> None:
    node = RunningNode(tmp_path, "--backend", "trio" if code else "asyncio")
    assert node.end(number) == (code, "")
    assert not (tmp_path / "control.sock").exists()
    assert (tmp_path / "identity.key").exists()


@posix
def test_a_node_that_was_killed_leaves_nothing_in_the_way(p2pstack: Command, tmp_path: Path) -> None:
    killed = RunningNode(tmp_path)
    assert killed.end(signal.SIGKILL)[0] == -signal.SIGKILL
    one_error(p2pstack("dht", "get", "x", "--data-dir", tmp_path), 5)
    again = RunningNode(tmp_path)
    try:
        assert again.address.rpartition("/")[2] == killed.address.rpartition("/")[2]
        assert p2pstack("dht", "stats", "--data-dir", tmp_path).code == 0
    finally:
        assert again.end() == (0, "")


@posix
def test_ctrl_c_ends_a_command_without_a_word(nodes: Nodes) -> None:
    process = subprocess.Popen(
        [*COMMAND, "ping", nodes[0].address, "--count", "1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"1: ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")


@posix
def test_a_reader_that_has_enough_ends_a_command(nodes: Nodes) -> None:
    command = f"{' '.join(COMMAND)} ping {nodes[0].address} --count 1000 --interval 0 | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60)
    assert done.stdout.startswith(b"1: ")
    assert done.stderr == b""
