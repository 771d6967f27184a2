"""A command line to test: commands in this process and in others, and nodes that run beside them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

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


Command = Callable[..., Ended]
Nodes = tuple[RunningNode, RunningNode]


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
