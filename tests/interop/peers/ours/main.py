"""py_p2pstack as an interop peer: see ../CONTRACT.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from commands import COMMANDS, Peer
from handlers import Handlers

import py_p2pstack
from py_p2pstack import Dht, DhtConfig, Host, HostConfig, KeyType, P2PError, PrivateKey
from py_p2pstack.network.resources import ResourceLimits

KEY_TYPES = [kind.name.lower() for kind in KeyType]


def emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


async def stdin_lines() -> AsyncIterator[str]:
    while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        yield line


async def answer(peer: Peer, request: dict[str, Any]) -> None:
    """Run one command and tell its outcome in one line."""
    reply: dict[str, Any] = {"id": request.get("id")}
    try:
        command = COMMANDS[request.pop("cmd")]
        request.pop("id", None)
        if "peer" in request:
            request["peer_id"] = request.pop("peer")
        with anyio.fail_after(60):
            reply |= {"ok": True, "result": await command(peer, **request) or {}}
    except (
        P2PError,
        OSError,
        TypeError,
        KeyError,
        ValueError,
        anyio.EndOfStream,
        anyio.IncompleteRead,
    ) as fault:
        reply |= {"ok": False, "error": " ".join(f"{type(fault).__name__}: {fault}".split())}
    emit(reply)


async def serve(options: argparse.Namespace) -> None:
    identity = PrivateKey.generate(KeyType[options.key_type.upper()])
    config = HostConfig(resources=ResourceLimits.unlimited())
    async with (
        Host(listen=options.listen, identity=identity, config=config) as host,
        anyio.create_task_group() as tasks,
    ):
        handlers = Handlers(host)
        tasks.start_soon(handlers.watch, host)
        dht = None
        if options.dht != "off":
            dht = await tasks.start(run_dht, host, options)
        peer = Peer(host, dht, handlers, tasks)
        emit(
            {
                "ready": True,
                "peer_id": str(host.id),
                "addrs": [str(address) for address in host.full_addresses],
                "implementation": "py_p2pstack",
                "version": py_p2pstack.__version__,
                "key_types": KEY_TYPES,
                "commands": sorted(COMMANDS),
            }
        )
        async for line in stdin_lines():
            tasks.start_soon(answer, peer, json.loads(line))
        tasks.cancel_scope.cancel()


async def run_dht(host: Host, options: argparse.Namespace, *, task_status: anyio.abc.TaskStatus[Dht]) -> None:
    async with Dht(
        host, DhtConfig(prefix=options.dht_prefix, mode=options.dht, auto_refresh=not options.dht_idle)
    ) as dht:
        task_status.started(dht)
        await anyio.sleep_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--key-type", choices=KEY_TYPES, default="ed25519")
    parser.add_argument("--security", choices=["noise"], default="noise")
    parser.add_argument("--muxer", choices=["yamux"], default="yamux")
    parser.add_argument("--dht", choices=["off", "server", "client"], default="off")
    parser.add_argument("--dht-prefix", default="/p2pstack")
    parser.add_argument("--dht-idle", action="store_true", help="of ours alone: no lookups but those asked for")
    parser.add_argument("--backend", choices=["asyncio", "trio", "uvloop"], default="asyncio")
    options = parser.parse_args()
    if options.backend == "uvloop":
        anyio.run(serve, options, backend="asyncio", backend_options={"use_uvloop": True})
    else:
        anyio.run(serve, options, backend=options.backend)


if __name__ == "__main__":
    main()
