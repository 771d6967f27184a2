"""py_p2pstack as an interop peer: see ../CONTRACT.md."""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from bench import BENCHMARKS
from commands import COMMANDS, Peer
from dht import DHT_COMMANDS
from handlers import Handlers
from tap import GARBAGE, Tap

import py_p2pstack
from py_p2pstack import Dht, DhtConfig, Host, HostConfig, KeyType, PrivateKey
from py_p2pstack.muxers.yamux import YamuxConfig
from py_p2pstack.network.config import SwarmConfig
from py_p2pstack.network.resources import ResourceLimits
from py_p2pstack.storage.memory import MemoryDatastore
from py_p2pstack.transports.pnet import load_psk
from py_p2pstack.transports.quic import QuicConfig
from py_p2pstack.transports.websocket import WebSocketConfig

TABLE = COMMANDS | DHT_COMMANDS | BENCHMARKS
PATIENCE = 50.0  # seconds: on a machine with much else to do some take long over a thousand streams
KEY_TYPES = [kind.name.lower() for kind in KeyType]


def emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


async def stdin_lines() -> AsyncIterator[str]:
    while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        yield line


async def answer(nodes: list[Peer], request: dict[str, Any]) -> None:
    """Run one command and tell its outcome in one line."""
    reply: dict[str, Any] = {"id": request.pop("id", None)}
    try:
        command = TABLE[request.pop("cmd")]
        node = nodes[request.pop("node", 0)]
        if "peer" in request:
            request["peer_id"] = request.pop("peer")
        with anyio.fail_after(60):
            reply |= {"ok": True, "result": await command(node, **request) or {}}
    except Exception as fault:  # noqa: BLE001 - the edge of a task: whatever it was, it is the answer
        reply |= {"ok": False, "error": " ".join(f"{type(fault).__name__}: {fault}".split())}
    emit(reply)


def server_tls(path: str | None) -> ssl.SSLContext | None:
    """Of a file with chain and key."""
    if path is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


def client_tls(path: str | None) -> ssl.SSLContext | None:
    """That trusts the certificates in a file."""
    return None if path is None else ssl.create_default_context(cafile=path)


async def serve(options: argparse.Namespace) -> None:
    async with anyio.create_task_group() as tasks:
        nodes: list[Peer] = []
        for _ in range(options.nodes):
            await tasks.start(run_node, options, nodes)
        told = [
            {"peer_id": str(node.host.id), "addrs": [str(address) for address in node.host.full_addresses]}
            for node in nodes
        ]
        emit(
            {
                "ready": True,
                **told[0],
                "nodes": told,
                "implementation": "py_p2pstack",
                "version": py_p2pstack.__version__,
                "key_types": KEY_TYPES,
                "commands": sorted(TABLE),
            }
        )
        async for line in stdin_lines():
            tasks.start_soon(answer, nodes, json.loads(line))
        tasks.cancel_scope.cancel()


async def run_node(options: argparse.Namespace, nodes: list[Peer], *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """One more host, its handlers and its DHT, until cancelled."""
    identity = PrivateKey.generate(KeyType[options.key_type.upper()])
    web = WebSocketConfig(server_tls=server_tls(options.web_cert), client_tls=client_tls(options.web_trust))
    config = HostConfig(
        resources=ResourceLimits.unlimited(),
        swarm=SwarmConfig(negotiation_timeout=PATIENCE),
        yamux=YamuxConfig(open_timeout=PATIENCE),
        websocket=web,
        quic=QuicConfig(open_timeout=PATIENCE),
    )
    async with (
        Host(
            listen=options.listen,
            identity=identity,
            config=config,
            security=options.security.split(","),
            muxers=[options.muxer],
            psk=options.psk,
        ) as host,
        anyio.create_task_group() as tasks,
    ):
        handlers = Handlers(host)
        tasks.start_soon(handlers.watch, host)
        peer = Peer(host, identity, handlers, tasks, nodes)
        kind = list(GARBAGE)[len(nodes) % len(GARBAGE)] if options.garbage else None
        nodes.append(peer)
        if options.dht == "off":
            task_status.started()
            await anyio.sleep_forever()
        tap = Tap(host, kind, spare_puts=options.spare_puts) if options.tap or kind else None
        settings = DhtConfig(prefix=options.dht_prefix, mode=options.dht, auto_refresh=not options.dht_idle)
        async with MemoryDatastore() as datastore, Dht(tap or host, settings, datastore=datastore) as dht:
            peer.serve_dht(dht, datastore, tap)
            task_status.started()
            await anyio.sleep_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--key-type", choices=KEY_TYPES, default="ed25519")
    parser.add_argument("--security", choices=["noise", "tls", "noise,tls"], default="noise")
    parser.add_argument("--muxer", choices=["yamux", "mplex"], default="yamux")
    parser.add_argument("--psk", type=load_psk, help="key file of a private network")
    parser.add_argument("--web-cert", help="PEM file with certificate chain and key, to listen on wss")
    parser.add_argument("--web-trust", help="PEM file with the certificates trusted on wss")
    parser.add_argument("--dht", choices=["off", "server", "client"], default="off")
    parser.add_argument("--dht-prefix", default="/p2pstack")
    parser.add_argument("--dht-idle", action="store_true", help="of ours alone: no lookups but those asked for")
    parser.add_argument("--nodes", type=int, default=1, help="how many hosts this process runs")
    parser.add_argument("--tap", action="store_true", help="of ours alone: note the requests the DHT serves")
    parser.add_argument(
        "--garbage", action="store_true", help="of ours alone: each node spoils its answers in its own way"
    )
    parser.add_argument("--spare-puts", action="store_true", help="with --garbage: PUT_VALUE is answered honestly")
    parser.add_argument("--backend", choices=["asyncio", "trio", "uvloop"], default="asyncio")
    options = parser.parse_args()
    if options.backend == "uvloop":
        anyio.run(serve, options, backend="asyncio", backend_options={"use_uvloop": True})
    else:
        anyio.run(serve, options, backend=options.backend)


if __name__ == "__main__":
    main()
