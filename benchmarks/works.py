"""The works that are timed: each drives a pair of peers of one implementation and returns one figure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks import floor
from tests.interop.peer import Peer

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two connected processes of one implementation, and how fast it is roughly: slow ones get fewer rounds."""

    dialer: Peer
    listener: Peer
    slow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What must hold: our figure against another's, as a ratio in which more is better."""

    against: str
    ratio: float
    work: str = ""
    """The work in which `against` had its figure, if another."""


Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[Subject]):
    """One row of the table."""

    name: str
    unit: str
    run: Callable[[Subject], float]
    less_is_better: bool = False
    floor: Callable[[], float] | None = None
    bars: tuple[Bar, ...] = ()
    at_most: float | None = None
    """An absolute bar in `unit`, for figures that are no race."""
    only: tuple[str, ...] = ()
    """The implementations that can tell it; all, if empty."""
    way: str = "noise"
    """Over which of `WAYS`."""


WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "noise": ("/tcp/0", ()),
    "TLS": ("/tcp/0", ("--security", "tls")),
    "ws": ("/tcp/0/ws", ()),
    "QUIC": ("/udp/0/quic-v1", ()),
}
"""How two peers are connected, yamux on all but QUIC: where the one listens, and what both are told."""


def bulk(chunk: int, seconds: float = 1.5) -> Callable[[Pair], float]:
    """MiB/s of writes of `chunk` bytes on one stream, counted by the receiver."""

    def run(pair: Pair) -> float:
        result = pair.dialer.call("bench_bulk", peer=pair.listener.id, seconds=seconds, chunk=chunk)
        return float(result["bytes"]) / float(result["seconds"]) / MIB

    return run


def streams(concurrency: int) -> Callable[[Pair], float]:
    """Streams per second: open, one byte there and back, close."""

    def run(pair: Pair) -> float:
        result = pair.dialer.call("bench_streams", peer=pair.listener.id, seconds=1.0, concurrency=concurrency)
        return float(result["count"]) / float(result["seconds"])

    return run


def dial(pair: Pair) -> float:
    """Connections per second: dial, secure, mux, close; one after another."""
    pair.dialer.call("disconnect", peer=pair.listener.id)
    count = 5 if pair.slow else 200
    try:
        result = pair.dialer.call("bench_dial", addr=pair.listener.address, count=count)
    finally:
        pair.dialer.call("connect", addr=pair.listener.address)
    return float(result["count"]) / float(result["seconds"])


def ping(pair: Pair) -> float:
    """Median round trip in µs on an idle connection."""
    return float(pair.dialer.call("bench_ping", peer=pair.listener.id, count=500)["p50_us"])


def ping_under_load(pair: Pair) -> float:
    """99th percentile of the round trip in ms while one stream of the same connection is written to without pause."""
    load = pair.dialer.start("bench_bulk", peer=pair.listener.id, seconds=2.0, chunk=65536)
    result = pair.dialer.call("bench_ping", peer=pair.listener.id, count=30 if pair.slow else 400)
    load.result(60)
    return float(result["p99_us"]) / 1e3


def import_cpu(_: Pair) -> float:
    """CPU seconds of `import py_p2pstack`, beyond those of starting the interpreter."""
    code = "import time; start = time.process_time(); import py_p2pstack; print(time.process_time() - start)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout)


IDLE_HOST = """
import anyio, psutil
from py_p2pstack import Host

async def main():
    async with Host(listen=["/ip4/127.0.0.1/tcp/0"]):
        await anyio.sleep(0.1)
        print(psutil.Process().memory_info().rss)

anyio.run(main)
"""


def idle_host(_: Pair) -> float:
    """MiB of resident memory of a process with one listening host."""
    done = subprocess.run([sys.executable, "-c", IDLE_HOST], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout) / MIB


def idle_connection(_: Pair) -> float:
    """KiB of resident memory that one idle inbound connection costs the listener."""
    count = 500
    with Peer.listening("ours") as listener, Peer("ours") as dialer:
        dialer.call("bench_idle", addr=listener.address, count=50)  # pools and caches fill once
        before = listener.call("stats")
        dialer.call("bench_idle", addr=listener.address, count=count)
        after = listener.call("stats")
        return float(after["rss_kib"] - before["rss_kib"]) / float(after["connections"] - before["connections"])


BULK = "bulk, 64 KiB writes"

WORKS: tuple[Work[Pair], ...] = (
    Work(
        name=BULK,
        unit="MiB/s",
        run=bulk(65536),
        floor=lambda: floor.measure(1.5),
        bars=(Bar(against="py", ratio=8), Bar(against="floor", ratio=0.8)),
    ),
    Work(name="bulk, 512 B writes", unit="MiB/s", run=bulk(512), bars=(Bar(against="py", ratio=40),)),
    Work(name="streams, one at a time", unit="/s", run=streams(1), bars=(Bar(against="py", ratio=10),)),
    Work(name="streams, 64 in flight", unit="/s", run=streams(64), bars=(Bar(against="py", ratio=25),)),
    Work(name="connections", unit="/s", run=dial, bars=(Bar(against="py", ratio=100),)),
    Work(name="ping, p50", unit="µs", run=ping, less_is_better=True, bars=(Bar(against="py", ratio=2),)),
    Work(name="ping under bulk, p99", unit="ms", run=ping_under_load, less_is_better=True, at_most=3),
    Work(name="import", unit="CPU s", run=import_cpu, less_is_better=True, at_most=0.15, only=("ours",)),
    Work(name="idle host", unit="MiB", run=idle_host, less_is_better=True, at_most=40, only=("ours",)),
    Work(name="idle connection", unit="KiB", run=idle_connection, less_is_better=True, at_most=30, only=("ours",)),
    Work(name="TLS: bulk", unit="MiB/s", run=bulk(65536), bars=(Bar(against="ours", ratio=0.9, work=BULK),), way="TLS"),
    Work(name="TLS: streams, 64 in flight", unit="/s", run=streams(64), way="TLS"),
    Work(name="TLS: connections", unit="/s", run=dial, way="TLS"),
    Work(name="ws: bulk", unit="MiB/s", run=bulk(65536), way="ws"),
    Work(name="ws: connections", unit="/s", run=dial, way="ws"),
    Work(name="QUIC: bulk", unit="MiB/s", run=bulk(65536), bars=(Bar(against="py", ratio=50),), way="QUIC"),
    Work(name="QUIC: streams, one at a time", unit="/s", run=streams(1), way="QUIC"),
    Work(
        name="QUIC: streams, 64 in flight", unit="/s", run=streams(64), bars=(Bar(against="py", ratio=50),), way="QUIC"
    ),
    Work(name="QUIC: connections", unit="/s", run=dial, way="QUIC"),
)
