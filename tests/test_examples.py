"""The examples run, and so does every Python block of the README; wrong input gets one clear line and its own code."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
THREE_NODES = ROOT / "examples" / "three_nodes.py"
NOBODY = "12D3KooWHFrmLWTTDD4NodngtRMEVYgxrsDMp4F9iSwYntZ9WjHa"


def run(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the three-node example with flags."""
    return subprocess.run(
        [sys.executable, str(THREE_NODES), *arguments], capture_output=True, text=True, timeout=timeout
    )


class Node:
    """One node of the example, run by hand."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(THREE_NODES), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip().removeprefix("listening on ")

    def stop(self) -> tuple[int, str, str]:
        """Press Ctrl-C; returns the exit code and what it still said."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


def test_the_demo_finds_the_node_and_talks_to_it() -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SendingQuery" in done.stdout
    assert "PeerResponse" in done.stdout
    assert "hello from" in done.stdout
    assert "heard you" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "flags", [["--port", "x"], ["-p", "70000"], ["-b", "/ip4/1.2.3.4/tcp/1"], ["-f", "nonsense"], ["-z"]]
)
def test_bad_flags_give_usage_and_code_2(flags: list[str]) -> None:
    done = run(*flags)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_gives_one_line_and_code_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run("-p", str(server.getsockname()[1]))
    assert done.returncode == 3
    assert "already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unreachable_bootstrap_node_gives_one_line_and_code_5() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = placeholder.getsockname()[1]
        done = run("-b", f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}")
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_nodes_by_hand_an_unknown_peer_is_code_4_and_ctrl_c_leaves_nothing_behind() -> None:
    node = Node("-k", "alice")
    try:
        assert node.address.startswith("/ip4/127.0.0.1/tcp/")
        unknown = run("-k", "bob", "-b", node.address, "-f", NOBODY)
        assert unknown.returncode == 4
        assert len(unknown.stderr.splitlines()) == 1
    finally:
        code, out, err = node.stop()
    assert code == 130
    assert "hello from" in out
    assert err == ""


def test_the_same_key_seed_gives_the_same_identity() -> None:
    ids = set()
    for _ in range(2):
        node = Node("-k", "alice")
        ids.add(node.address.rpartition("/")[2])
        node.process.kill()
        node.process.communicate()
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("key_value", "kept by 2 of 2 peers\nb'hello'\n"),
        ("watch_query", "replayed from"),
        ("custom_validator", "bob reads 150"),
        ("providers", "it is what the CID names: True"),
    ],
)
def test_each_example_does_what_it_says(name: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert done.stderr == ""


def test_the_key_value_store_has_at_most_thirty_lines() -> None:
    assert len((ROOT / "examples" / "key_value.py").read_text(encoding="utf-8").splitlines()) <= 30


def blocks() -> list[str]:
    """The Python blocks of the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("index", range(len(blocks())))
def test_each_python_block_of_the_readme_runs(index: int) -> None:
    done = subprocess.run([sys.executable, "-c", blocks()[index]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout
