"""kill -9 at random moments: nothing that was acknowledged is lost, and no file is damaged.

In every other round the victim is killed while it opens its file, so that what the last kill left is met again in a
recovery that is cut off too.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from py_p2pstack import Host, PeerInfo
from py_p2pstack.errors import P2PError
from py_p2pstack.protocols.dht import Dht, DhtConfig
from py_p2pstack.storage import SqliteDatastore
from tests.soak import victim
from tests.soak.victim import WRITERS, value_of

if sys.platform == "win32":
    _PROCESSES = multiprocessing.get_context("spawn")
else:
    _PROCESSES = multiprocessing.get_context("forkserver")
    _PROCESSES.set_forkserver_preload(["__main__", "tests.soak.victim"])  # a victim is born in milliseconds then
_CHECK_EVERY = 5  # rounds of a store: the check itself ends the recovery that would be cut off
_PUTTERS = 8
_PATIENCE = 60.0  # seconds until a client has its server in its table


@dataclass(slots=True)
class Outcome:
    """What came of the kills."""

    kills: int = 0
    in_recovery: int = 0
    acknowledged: int = 0
    checked: int = 0
    """How often an acknowledged value was looked for."""
    lost: list[str] = field(default_factory=list)
    damaged: int = 0
    """Files put aside."""

    @property
    def good(self) -> bool:
        """Whether nothing was lost."""
        return not self.lost and not self.damaged

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.in_recovery} in recovery), {self.acknowledged} acknowledged, "
            f"{self.checked} looked for, {len(self.lost)} lost, {self.damaged} files damaged"
        )


class Victim:
    """A process to be killed."""

    def __init__(self, kind: str, path: Path, first: int, backend: str) -> None:
        self._pipe, theirs = _PROCESSES.Pipe(duplex=False)
        about = (kind, str(path), first, backend, theirs)
        self._process = _PROCESSES.Process(target=victim.run, args=about, daemon=True)
        self._process.start()
        theirs.close()

    def line(self) -> str:
        """What it says next; empty at its end."""
        try:
            return self._pipe.recv_bytes().decode()
        except (EOFError, OSError):  # an OSError: killed in the middle of a word
            return ""

    def strike(self) -> None:
        """Kill it, and look after it later."""
        self._process.kill()

    def kill(self) -> list[str]:
        """Kill it, and return what it still said."""
        self._process.kill()
        rest = list(iter(self.line, ""))
        self._process.join()
        self._process.close()
        self._pipe.close()
        return rest


def _expect(target: Victim, word: str) -> str:
    line = target.line()
    if not line.startswith(word):
        target.kill()
        raise AssertionError(f"the victim said {line!r}, not {word!r}")
    return line.removeprefix(word).strip()


def _damaged(path: Path) -> int:
    return len(list(path.parent.glob("*.corrupt-*")))


# --- the raw store --------------------------------------------------------------------------------


def kill_store(
    directory: Path, kills: int, seed: int, backend: str, progress: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Kill a process that writes into a SqliteDatastore, again and again, over one file."""
    rng, outcome = random.Random(seed), Outcome()
    path = directory / "store.db"
    kept: dict[tuple[int, int], int] = {}
    for number in range(1, kills + 1):
        target = Victim("store", path, number * 1_000_000, backend)
        _expect(target, "opening")
        if number % 2:
            time.sleep(rng.uniform(0, 0.01))
            said = target.kill()
            outcome.in_recovery += not any(line == "open" for line in said)
        else:
            _expect(target, "open")
            said = [target.line() for _ in range(rng.randrange(1, 400))]
            time.sleep(rng.uniform(0, 0.003))
            said += target.kill()
        outcome.kills += 1
        for line in said:
            if line.startswith("kept "):
                writer, slot, version = map(int, line.split()[1:])
                kept[writer, slot] = version
                outcome.acknowledged += 1
        if number % _CHECK_EVERY == 0 or number == kills:
            anyio.run(_check_store, path, kept, outcome, backend=backend)
            progress(number)
    outcome.damaged = _damaged(path)
    return outcome


async def _check_store(path: Path, kept: dict[tuple[int, int], int], outcome: Outcome) -> None:
    async with SqliteDatastore(path) as datastore:
        for (writer, slot), version in kept.items():
            left = await datastore.get(b"left/%d/%d" % (writer, slot))
            right = await datastore.get(b"right/%d/%d" % (writer, slot))
            outcome.checked += 1
            found = int(left.split()[0]) if left else -1
            if left != right or found < version or left != value_of(writer, slot, found):
                outcome.lost.append(f"{writer}/{slot}: version {version} was acknowledged, found {found}")
        # Each life leaves one piece of rubbish a writer: a write is whole, or it did not happen.
        rubbish = await datastore.scan(b"rubbish/", limit=100_000)
        if len(rubbish) > WRITERS * (outcome.kills + 1):
            outcome.lost.append(f"{len(rubbish)} pieces of rubbish: writes were torn")


# --- a node of the DHT ----------------------------------------------------------------------------


def kill_node(
    directory: Path, kills: int, seed: int, backend: str, progress: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Kill a DHT server that a client puts values to, and ask it for them after its restart."""
    rng, outcome = random.Random(seed), Outcome()
    path = directory / "node.db"
    kept: dict[str, int] = {}
    fresh: list[str] = []  # acknowledged since the last check
    number = 0
    while outcome.kills < kills:
        number += 1
        target = Victim("node", path, 0, backend)
        _expect(target, "opening")
        if number % 2:
            time.sleep(rng.uniform(0, 0.04))
            said = target.kill()
            outcome.in_recovery += not any(line.startswith("open ") for line in said)
            outcome.kills += 1
            continue
        address = _expect(target, "open")
        old = rng.sample(sorted(kept), min(len(kept), 50))
        whole = outcome.kills + 1 >= kills
        client = _Client(target, address, number * 1_000_000, kept)
        try:
            anyio.run(
                client.run, sorted(kept) if whole else [*fresh, *old], rng.randrange(1, 150), outcome, backend=backend
            )
        finally:
            target.kill()
        outcome.kills += 1
        fresh = client.fresh
        progress(outcome.kills)
    target = Victim("node", path, 0, backend)
    _expect(target, "opening")
    try:
        client = _Client(target, _expect(target, "open"), 0, kept)
        anyio.run(client.run, sorted(kept), 0, outcome, backend=backend)
    finally:
        target.kill()
    outcome.damaged = _damaged(path)
    return outcome


class _Client:
    """A real client of the victim, for one of its lives."""

    def __init__(self, target: Victim, address: str, first: int, kept: dict[str, int]) -> None:
        self._victim = target
        self._address = address
        self._version = first
        self._kept = kept
        self.fresh: list[str] = []
        """Keys acknowledged in this life."""

    async def run(self, keys: list[str], puts: int, outcome: Outcome) -> None:
        """Look for what was acknowledged; then put until the victim, killed after some acknowledgements, is gone."""
        config = DhtConfig(mode="client", auto_refresh=False)
        async with Host() as host, Dht(host, config) as dht:
            server = PeerInfo.parse(self._address)
            await host.connect(server)
            with anyio.fail_after(_PATIENCE):
                while not len(dht.routing_table):
                    await anyio.sleep(0.001)
            for key in keys:
                outcome.checked += 1
                fault = await self._missing(dht, key)
                if fault is not None and await self._missing(dht, key) is not None:  # a busy machine may be late once
                    outcome.lost.append(f"{key}: version {self._kept[key]} was acknowledged, {fault}")
            if puts:
                async with anyio.create_task_group() as tasks:
                    for putter in range(_PUTTERS):
                        tasks.start_soon(self._put, dht, putter, puts, outcome)

    async def _missing(self, dht: Dht, key: str) -> str | None:
        """What is there instead of the value acknowledged, or of a later one; None if all is well."""
        try:
            found = int((await dht.get_value(key)).split()[0])
        except P2PError as fault:
            return repr(fault)
        return None if found >= self._kept[key] else f"found {found}"

    async def _put(self, dht: Dht, putter: int, puts: int, outcome: Outcome) -> None:
        while True:
            self._version += 1
            version = self._version
            key = f"/v/hot{putter}" if version % 2 else f"/v/{version}"
            value = value_of(0, 0, version)
            try:
                await dht.put_value(key, value, timeout=5)
            except P2PError:
                return  # the victim is gone
            self._kept[key] = version
            self.fresh.append(key)
            outcome.acknowledged += 1
            if len(self.fresh) == puts:
                self._victim.strike()
