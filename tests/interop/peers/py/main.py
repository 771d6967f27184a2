"""py-libp2p as an interop peer: commands on standard input, answers on standard output, one JSON object a line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from typing import Any, NoReturn

import trio
from bench import BENCHMARKS
from commands import COMMANDS, Node
from dht import DHT_COMMANDS, make_dht
from handlers import Handlers
from libp2p.tools.anyio_service import background_trio_service
from node import KEY_TYPES, SECURITY, make_host, parse_addresses

COMMAND_TIMEOUT = 60.0
TABLE = COMMANDS | DHT_COMMANDS | BENCHMARKS


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def parse_options() -> argparse.Namespace:
    parser = Parser()
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--key-type", choices=sorted(KEY_TYPES), default="ed25519")
    parser.add_argument("--security", choices=sorted(SECURITY), default="noise")
    parser.add_argument("--muxer", choices=["yamux", "mplex"], default="yamux")
    parser.add_argument("--dht", choices=["off", "server", "client"], default="off")
    parser.add_argument("--dht-prefix", default="/p2pstack")
    parser.add_argument("--web-cert", help="PEM file with chain and key, to listen on wss")
    parser.add_argument("--web-trust", help="PEM file with the certificates trusted on wss")
    parser.add_argument("--nodes", type=int, default=1)
    return parser.parse_args()


def emit(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def in_one_line(fault: BaseException) -> str:
    """The first cause in a group of faults; nurseries raise groups."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    text = f"{type(fault).__name__}: {fault}"
    if fault.__cause__ is not None:
        text += f" ({type(fault.__cause__).__name__}: {fault.__cause__})"
    return " ".join(text.split())


async def answer(nodes: list[Node], line: str) -> None:
    """Run one command and tell how it went."""
    reply: dict[str, Any] = {"id": None}
    try:
        request = json.loads(line)
        reply["id"] = request.pop("id", None)
        command = TABLE.get(request.pop("cmd", None))
        if command is None:
            raise ValueError("unknown command")
        node = nodes[request.pop("node", 0)]
        with trio.fail_after(COMMAND_TIMEOUT):
            reply |= {"ok": True, "result": await command(node, **request) or {}}
    except Exception as fault:  # noqa: BLE001 - the edge of a task: whatever it was, it is the answer
        reply |= {"ok": False, "error": in_one_line(fault)}
    emit(reply)


async def serve(options: argparse.Namespace) -> None:
    async with trio.open_nursery() as tasks:
        nodes: list[Node] = []
        for _ in range(options.nodes):
            await tasks.start(run_node, options, nodes)
        told = [
            {"peer_id": str(node.host.get_id()), "addrs": [str(address) for address in node.host.get_addrs()]}
            for node in nodes
        ]
        emit(
            {
                "ready": True,
                **told[0],
                "nodes": told,
                "implementation": "py-libp2p",
                "version": f"v{version('libp2p')}",
                "key_types": sorted(KEY_TYPES),
                "commands": sorted(TABLE),
            }
        )
        async for line in trio.wrap_file(sys.stdin):
            if line.strip():
                tasks.start_soon(answer, nodes, line)
        # Closing each connection properly takes the library longer than anyone waits for.
        sys.stdout.flush()
        os._exit(0)


async def run_node(
    options: argparse.Namespace, nodes: list[Node], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """One host, its handlers and its DHT, until cancelled."""
    host = make_host(options)
    async with host.run(listen_addrs=parse_addresses(options.listen)), trio.open_nursery() as tasks:
        node = Node(host, Handlers(host), nodes)
        if options.dht != "off":
            node.dht = make_dht(host, options)
            await tasks.start(run_service, node.dht)
        nodes.append(node)
        task_status.started()
        await trio.sleep_forever()


async def run_service(service: Any, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with background_trio_service(service):
        task_status.started()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(serve, parse_options())
