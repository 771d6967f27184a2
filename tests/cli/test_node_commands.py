"""A node that stays: what it prints, what it leaves, and how it and other commands are ended."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.terminal import COMMAND, LOOPBACK, Command, Nodes, RunningNode, one_error, posix


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


def test_a_node_that_knows_nobody_is_told_so(p2pstack: Command, tmp_path: Path) -> None:
    node = RunningNode(tmp_path)
    try:
        told = one_error(p2pstack("dht", "put", "x", "y", "--data-dir", tmp_path), 5)
        assert "knows nobody yet" in told
        assert "it keeps this" in told
        assert p2pstack("dht", "get", "x", "--data-dir", tmp_path).out == b"y"
    finally:
        node.process.kill()
        node.process.communicate()


def test_damaged_data_are_put_aside_aloud(tmp_path: Path) -> None:
    (tmp_path / "data.sqlite").write_bytes(bytes(range(256)) * 16)
    node = RunningNode(tmp_path)
    node.process.terminate()
    _, err = node.process.communicate(timeout=20)
    assert "is damaged" in err
    assert list(tmp_path.glob("data.sqlite.corrupt-*"))


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
