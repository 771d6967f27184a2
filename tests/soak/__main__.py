"""The long runs: connections and streams by the ten thousand, a siege, kills, simulations, fuzzing till time is over.

    python -m tests.soak [--minutes N] [--seed S] [--connections N] [--streams N] [--siege S] [--kills N]
                         [--datagrams N] [--backend B]
    python -m tests.soak --simulation [--nodes N] [--seed S] [--scenario NAME]... [--jobs N] [--write]

The second plays only the scenarios of a thousand nodes, which the first plays too. Prints figures; exits with 1 if
something leaked, if honest peers were not served or the event loop stalled under attack, if a killed process had lost
what it acknowledged, if a scenario missed what it had to reach, or if a reader of foreign bytes let anything but a
refusal out.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio

from tests.simulation import months, network, runs
from tests.simulation.scenarios import SCENARIOS
from tests.soak import fuzz, fuzz_targets, kills, leaks, quic, siege

_IDLE_WORKERS = 2 * 64  # handler tasks two hosts keep for their next streams
_GROWTH = 16 * 1024 * 1024  # bytes the process may have grown by: arenas and caches


def main() -> int:
    """Run everything; returns the exit code."""
    arguments = _parse()
    print(f"seed {arguments.seed}")
    if arguments.simulation:
        return 0 if _play(arguments) else 1
    backends = ("asyncio", "trio") if arguments.backend == "both" else (arguments.backend,)
    good = True
    for backend in backends:
        for name, count, work in (
            ("connections", arguments.connections, leaks.connections),
            ("streams", arguments.streams, leaks.streams),
        ):
            if count:
                good = _leak_run(backend, name, count, work) and good
        if arguments.siege:
            outcome = anyio.run(siege.besiege, arguments.siege, arguments.seed, backend=backend)
            print(f"siege of {arguments.siege:g} s on {backend}\n  {outcome}", flush=True)
            for fault, count in Counter(outcome.failed).most_common(5):
                print(f"  {count} x {fault}")
            good = good and outcome.good
    if arguments.kills:
        for number, (name, kill) in enumerate((("store", kills.kill_store), ("DHT server", kills.kill_node))):
            good = _kill_run(name, kill, arguments.kills, arguments.seed, backends[number % len(backends)]) and good
    if arguments.datagrams:
        good = _lie_run(arguments.datagrams, arguments.seed) and good
    if arguments.hosts:
        for backend in backends:
            _simulate(arguments.hosts, arguments.seed, backend)
    if arguments.days:
        good = _run_on(arguments.days, arguments.seed) and good
    if arguments.nodes:
        good = _play(arguments) and good
    return 0 if _fuzz_run(arguments.seed, 60 * arguments.minutes) and good else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="The long runs.")
    parser.add_argument("--minutes", type=float, default=10.0, help="of fuzzing (default: 10)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(2**32), help="repeats a run (default: a fresh one)"
    )
    parser.add_argument("--connections", type=int, default=10_000, help="one after the other (default: 10000)")
    parser.add_argument("--streams", type=int, default=10_000, help="sixteen at a time (default: 10000)")
    parser.add_argument("--siege", type=float, default=60.0, help="seconds under attack (default: 60)")
    parser.add_argument("--kills", type=int, default=1000, help="of a store, and of a DHT server (default: 1000)")
    parser.add_argument("--datagrams", type=int, default=1_000_000, help="at a QUIC endpoint (default: 1000000)")
    parser.add_argument("--hosts", type=int, default=200, help="simulated, each with a DHT (default: 200)")
    parser.add_argument("--days", type=int, default=30, help="that 20 light nodes run, in virtual time (default: 30)")
    parser.add_argument("--simulation", action="store_true", help="only the scenarios of --nodes")
    parser.add_argument("--nodes", type=int, default=1000, help="light ones, in each scenario (default: 1000)")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be given again (default: all)")
    parser.add_argument("--jobs", type=int, help="scenarios played at once (default: as many as processors)")
    parser.add_argument("--write", action="store_true", help="outcomes of scenarios into docs/simulation.*")
    parser.add_argument("--backend", choices=("asyncio", "trio", "both"), default="both")
    return parser.parse_args()


def _lie_run(count: int, seed: int) -> bool:
    """Tell a QUIC endpoint lies; returns whether honest peers were served all the while."""
    start = time.monotonic()
    try:
        outcome = quic.run(count, seed)
    except Exception:  # noqa: BLE001 - whatever it is, it is the outcome
        traceback.print_exc()
        return False
    print(
        f"{count} hostile datagrams at a QUIC endpoint in {time.monotonic() - start:.0f} s: {outcome.arrived} began a "
        f"handshake; {outcome.echoes} words came back and {outcome.dials} dials were made meanwhile",
        flush=True,
    )
    return True


def _simulate(hosts: int, seed: int, backend: str) -> None:
    """Let hosts join, refresh and find each other in virtual time; raises where one is not found."""
    start = time.monotonic()
    record = network.run(hosts, seed, backend, searches=hosts)
    print(
        f"{hosts} hosts on {backend} joined, refreshed and found each other in {record.duration:.1f} virtual seconds, "
        f"{time.monotonic() - start:.0f} s; log {record.digest[:16]}",
        flush=True,
    )


def _run_on(days: int, seed: int) -> bool:
    """Let nodes run for weeks; returns whether they held no more at the end, and lost nothing they keep alive."""
    start = time.monotonic()
    seen = months.run(days, seed=seed)
    print(
        f"20 nodes ran for {days} days: they held {seen.growth:.2f} times what they did after {months.WARM_UP}, "
        f"and lost {seen.lost or 'nothing'}; {time.monotonic() - start:.0f} s",
        flush=True,
    )
    return not seen.lost and seen.growth < 1.2


def _play(arguments: argparse.Namespace) -> bool:
    """Play scenarios of many light nodes; returns whether all reached what they had to."""
    backend = "trio" if arguments.backend == "trio" else "asyncio"
    names = arguments.scenario or list(SCENARIOS)
    played = []
    for each in runs.run_all(names, nodes=arguments.nodes, seed=arguments.seed, backend=backend, jobs=arguments.jobs):
        print(each, flush=True)
        played.append(each)
    if arguments.write:
        runs.write_down(played)
    return not any(each.outcome.missed for each in played)


def _kill_run(name: str, kill: Callable[..., kills.Outcome], count: int, seed: int, backend: str) -> bool:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        outcome = kill(Path(directory), count, seed, backend)
    print(f"kill -9 of a {name} on {backend}, {time.monotonic() - start:.0f} s\n  {outcome}", flush=True)
    for fault in outcome.lost[:5]:
        print(f"  {fault}")
    return outcome.good


def _leak_run(
    backend: str,
    name: str,
    count: int,
    work: Callable[..., Awaitable[tuple[leaks.Held, leaks.Held]]],
) -> bool:
    start = time.monotonic()
    shown = start

    def progress(done: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            print(f"  … {done}", flush=True)

    before, after = anyio.run(partial(work, count, progress=progress), backend=backend)
    found = leaks.leaks(before, after, slack=_IDLE_WORKERS, growth=_GROWTH)
    leaks.report(f"{count} {name} on {backend}, {time.monotonic() - start:.1f} s", before, after, found)
    return not found


def _fuzz_run(seed: int, seconds: float) -> bool:
    good = True
    targets = fuzz_targets.targets()
    for target in targets:
        try:
            inputs, refused, longest = fuzz.run(target, seed, seconds=seconds / len(targets))
        except fuzz.Crash:
            good = False
            traceback.print_exc()
            continue
        share = refused / max(inputs, 1)
        print(
            f"fuzz {target.name:24} {inputs:9} inputs, {share:4.0%} refused, longest {longest * 1000:.1f} ms",
            flush=True,
        )
    return good


if __name__ == "__main__":
    sys.exit(main())
