"""Plays the command-line session of the README: three terminals, as a user has them.

    python -m tests.cli.session        writes what it printed into the README

In its blocks a line that begins with `$ ` is typed, `^C` is pressed in the terminal that was opened first, and the rest
is what was printed. A node goes on running in a terminal of its own. The nodes' keys are made from the names of their
directories, so that peer ids are the same each time; the ports are free ones, told as those in the README.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from string import Template

from py_p2pstack.identity import PrivateKey, save_key_file

README = Path(__file__).parents[2] / "README.md"
HEADING = "## On the command line\n"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PORTS = ("4001", "4002")
DEADLINE = 60.0  # seconds for a command


def section(text: str) -> str:
    """The part of the README that is the session."""
    start = text.index(HEADING)
    return text[start : text.index("\n## ", start + 1)]


def blocks(text: str) -> list[str]:
    """The session's blocks."""
    return BLOCK.findall(section(text))


class Session:
    """What goes on in the terminals."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[tuple[subprocess.Popen[bytes], int]] = []
        self._variables: dict[str, str] = {}
        self._code = 0
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        for process, terminal in self._running:
            process.kill()
            process.wait()
            os.close(terminal)

    def play(self, block: str) -> str:
        """Do what a block says; return the block with what was printed."""
        printed = ""
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                printed += line + self._type(line[2:].strip())
            elif line == "^C\n":
                printed += line + self._interrupt()
        return printed

    def _type(self, command: str) -> str:
        if command == "echo $?":
            return f"{self._code}\n"
        if assignment := re.fullmatch(r"([A-Z]+)=(\S+)", command):
            self._variables[assignment[1]] = assignment[2]
            return ""
        words = shlex.split(self._with(Template(command).substitute(self._variables), self._ports))
        stays = words[:3] == ["p2pstack", "node", "run"]
        if stays:
            self._make_key(words[words.index("--data-dir") + 1])
        terminal, end = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "py_p2pstack", *words[1:]], cwd=self._directory, env=_environment(),
            stdin=end, stdout=end, stderr=end, start_new_session=True,
        )  # fmt: skip
        os.close(end)
        if stays:
            self._running.append((process, terminal))
            printed = _read(terminal, until=b"\n")
            self._settle(words[words.index("--data-dir") + 1], len(self._running) - 1)
        else:
            printed = _read(terminal)
            self._code = process.wait(DEADLINE)
            os.close(terminal)
        return self._with(printed, {told: port for port, told in self._ports.items()})

    def _interrupt(self) -> str:
        process, terminal = self._running.pop(0)
        process.send_signal(signal.SIGINT)
        printed = _read(terminal)
        self._code = process.wait(DEADLINE)
        os.close(terminal)
        return printed

    def _settle(self, node: str, others: int) -> None:
        """Wait until a node knows the others: a user types more slowly than they meet."""
        asked = [sys.executable, "-m", "py_p2pstack", "dht", "stats", "--json", "--data-dir", node]
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            told = subprocess.run(asked, cwd=self._directory, env=_environment(), capture_output=True, text=True)
            if f'"table_peers":{others},' in told.stdout:
                return
        raise TimeoutError(f"{node} does not know {others} others: {told.stdout} {told.stderr}")

    def _make_key(self, name: str) -> None:
        key = PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())
        (self._directory / name).mkdir()
        save_key_file(self._directory / name / "identity.key", key)

    @staticmethod
    def _with(text: str, ports: dict[str, str]) -> str:
        return re.sub(r"(?<=/tcp/)\d+", lambda port: ports.get(port[0], port[0]), text)


def _free_ports(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(server.getsockname()[1]) for server in servers]


def _environment() -> dict[str, str]:
    """A terminal of 100 columns that prints line by line."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("P2PSTACK_")}
    return ours | {"TERM": "dumb", "COLUMNS": "100", "LINES": "40", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1",
                   "PYTHONPATH": str(README.parent)}  # fmt: skip


def _read(terminal: int, until: bytes | None = None) -> str:
    """What is printed until the process ends, or has printed `until`."""
    data, end = b"", time.monotonic() + DEADLINE
    while time.monotonic() < end and not (until is not None and data.endswith(until)):
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            more = os.read(terminal, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not more:
            break
        data += more
    lines = data.decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def played(session: Sequence[str]) -> list[str]:
    """Play all blocks of a session; return them with what was printed."""
    with tempfile.TemporaryDirectory() as directory, Session(Path(directory)) as terminals:
        return [terminals.play(block) for block in session]


def main() -> None:
    """Write what the session printed into the README."""
    text = README.read_text(encoding="utf-8")
    new = old = section(text)
    for before, after in zip(blocks(text), played(blocks(text)), strict=True):
        new = new.replace(f"```console\n{before}```", f"```console\n{after}```", 1)
    README.write_text(text.replace(old, new), encoding="utf-8")


if __name__ == "__main__":
    main()
