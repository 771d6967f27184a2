"""The `kademlia` package as a peer to be measured: asyncio over UDP, without encryption or identities.

Driven as the interop peers are (tests/interop/peers/CONTRACT.md), with the few commands that make sense here; an
address is `127.0.0.1:PORT`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import psutil
from kademlia.network import Server

Result = dict[str, Any]


class Group:
    """The nodes of this process."""

    def __init__(self, nodes: list[Server]) -> None:
        self.nodes = nodes

    def addresses(self) -> list[str]:
        return ["{}:{}".format(*node.transport.get_extra_info("sockname")) for node in self.nodes]

    async def dht_join(self, node: Server, addr: str) -> Result:
        host, port = addr.split(":")
        joining = [
            each.bootstrap([(host, int(port))])
            for each, address in zip(self.nodes, self.addresses(), strict=True)
            if address != addr
        ]
        await asyncio.gather(*joining)
        sizes = [sum(len(bucket.nodes) for bucket in each.protocol.router.buckets) for each in self.nodes]
        return {"tables": sizes}

    async def bench_put(self, node: Server, prefix: str, count: int, concurrency: int, size: int) -> Result:
        async def one(index: int) -> None:
            if not await node.set(f"/v/{prefix} {index}", os.urandom(size)):
                raise ValueError("nobody took it")

        return {"count": count, "seconds": await timed(one, count, concurrency), "replicas": None}

    async def bench_get(self, node: Server, prefix: str, count: int, concurrency: int, size: int, **_: int) -> Result:
        async def one(index: int) -> None:
            value = await node.get(f"/v/{prefix} {index}")
            if value is None or len(value) != size:
                raise ValueError("another value, or none")

        node.storage.data.clear()  # no local copies
        return {"count": count, "seconds": await timed(one, count, concurrency)}

    async def stats(self, node: Server) -> Result:
        process = psutil.Process()
        cpu = process.cpu_times()
        return {
            "rss_kib": process.memory_info().rss // 1024,
            "cpu_seconds": cpu.user + cpu.system,
            "connections": 0,
        }


COMMANDS = ("dht_join", "bench_put", "bench_get", "stats")


async def timed(work: Callable[[int], Awaitable[None]], count: int, concurrency: int) -> float:
    """Seconds for `count` pieces of work, so many at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return time.perf_counter() - start


def emit(message: Result) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


async def answer(group: Group, line: str) -> None:
    """Run one command and tell how it went."""
    request = json.loads(line)
    reply: Result = {"id": request.pop("id")}
    try:
        name = request.pop("cmd")
        if name not in COMMANDS:
            raise ValueError("unknown command")
        node = group.nodes[request.pop("node", 0)]
        reply |= {"ok": True, "result": await asyncio.wait_for(getattr(group, name)(node, **request), 60)}
    except Exception as fault:  # noqa: BLE001 - the edge of a task: whatever it was, it is the answer
        reply |= {"ok": False, "error": " ".join(f"{type(fault).__name__}: {fault}".split())}
    emit(reply)


async def serve(options: argparse.Namespace) -> None:
    nodes = [Server() for _ in range(options.nodes)]
    for node in nodes:
        await node.listen(0, interface="127.0.0.1")
    group = Group(nodes)
    told = [{"peer_id": address, "addrs": [address]} for address in group.addresses()]
    emit(
        {
            "ready": True,
            **told[0],
            "nodes": told,
            "implementation": "kademlia",
            "version": version("kademlia"),
            "key_types": [],
            "commands": list(COMMANDS),
        }
    )
    running = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = asyncio.create_task(answer(group, line))
        running.add(task)
        task.add_done_callback(running.discard)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1)
    options, _ = parser.parse_known_args()  # what a libp2p peer is told besides means nothing here
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
