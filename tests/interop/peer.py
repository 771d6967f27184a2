"""Builds and drives interop peers: processes that keep the contract in peers/CONTRACT.md."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PEERS = Path(__file__).parent / "peers"
RIVALS = Path(__file__).parents[2] / "benchmarks" / "peers"  # that speak another wire: only ever measured
OTHERS = ("go", "rust", "js", "py")
MISSING_TOOLCHAIN = 3
CALL_TIMEOUT = 75.0


class PeerMissing(Exception):
    """The toolchain a peer needs is not on this machine; the message names it."""


class CommandFailed(Exception):
    """A peer answered a command with an error."""


def cache_directory() -> Path:
    """Where built peers are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "py_p2pstack" / "interop"


@cache
def command_of(language: str) -> list[str]:
    """Build the peer (a second time: find it built) and return its command."""
    script = next(path for room in (PEERS, RIVALS) if (path := room / language / "build.sh").exists())
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", str(script), str(cache_directory())],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode == MISSING_TOOLCHAIN:
        raise PeerMissing(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"building the {language} peer failed:\n{done.stderr[-4000:]}")
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


class Peer:
    """One running peer. `with` is its lifetime."""

    def __init__(self, language: str, *arguments: str) -> None:
        self.language = language
        self._process = subprocess.Popen(
            [*command_of(language), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._ids = itertools.count(1)
        self._pending: dict[int, Future[dict[str, Any]]] = {}
        self._over = False
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=self._drain_errors, daemon=True)]
        self._threads[0].start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._end()
            raise RuntimeError(f"the {language} peer did not start: {''.join(self._errors)[-2000:]}")
        self.ready: dict[str, Any] = json.loads(line)
        self.id: str = self.ready["peer_id"]
        self._threads.append(threading.Thread(target=self._read, daemon=True))
        self._threads[1].start()

    @classmethod
    def listening(cls, language: str, *arguments: str, host: str = "/ip4/127.0.0.1") -> Self:
        """Start a peer that listens on a free TCP port of loopback."""
        return cls(language, "--listen", f"{host}/tcp/0", *arguments)

    @property
    def address(self) -> str:
        """The first address it listens on, with its id."""
        return str(self.ready["addrs"][0])

    @property
    def name(self) -> str:
        """Implementation and version."""
        return f"{self.ready['implementation']} {self.ready['version']}"

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """`peer_id` and `addrs` of each host of the process."""
        return list(self.ready.get("nodes") or [self.ready])

    def can(self, command: str) -> bool:
        """Whether the library behind the peer serves this command."""
        return command in self.ready["commands"]

    def start(self, command: str, **arguments: Any) -> Future[dict[str, Any]]:
        """Send a command; the result arrives in the future."""
        if self._over:
            raise self._ended()
        number = next(self._ids)
        future: Future[dict[str, Any]] = Future()
        self._pending[number] = future
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "cmd": command, **arguments}) + "\n")
        self._process.stdin.flush()
        return future

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its result. Raises CommandFailed with the peer's own words."""
        try:
            return self.start(command, **arguments).result(CALL_TIMEOUT)
        except (TimeoutError, BrokenPipeError) as fault:
            raise CommandFailed(
                f"{self.language} {command}: {fault!r}; stderr: {''.join(self._errors)[-1500:]}"
            ) from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reply = json.loads(line)
            future = self._pending.pop(reply["id"])
            if reply["ok"]:
                future.set_result(reply.get("result") or {})
            else:
                future.set_exception(CommandFailed(f"{self.language}: {reply['error']}"))
        self._over = True
        for future in list(self._pending.values()):
            future.set_exception(self._ended())

    def _ended(self) -> CommandFailed:
        return CommandFailed(f"{self.language} ended: {''.join(self._errors)[-1500:]}")

    def _drain_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line)
            del self._errors[:-200]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def kill(self) -> None:
        """End it as a crash would: nobody is told, nothing is saved."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        """End of input ends a peer; what does not end by itself is killed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.close()
            process.wait(5)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            process.kill()
            process.wait(5)
        for thread in self._threads:
            thread.join(5)
        process.stdout.close()
        process.stderr.close()
