"""Three nodes that find each other: bootstrap, find a node, talk to it.

Without flags it runs the whole demo: three processes on loopback TCP. Node 1 listens. Node 2 bootstraps to node 1.
Node 3 bootstraps to node 1, knows nothing of node 2 but its peer id, finds it with an iterative FIND_NODE, prints
every step, and then exchanges a message with it. The exit code is 0 only if all of that happened.

With flags it runs one node, until Ctrl-C or until what was asked with --findnode is done:

    python examples/three_nodes.py -p 4001 -k alice
    python examples/three_nodes.py -p 4002 -k bob   -b /ip4/127.0.0.1/tcp/4001/p2p/<alice's id>
    python examples/three_nodes.py -p 4003 -k carol -b /ip4/127.0.0.1/tcp/4001/p2p/<alice's id> -f <bob's id>

Exit codes: 0 done · 1 the demo failed · 2 bad flags · 3 the port is taken · 4 the peer was not found · 5 the bootstrap
node cannot be reached · 6 the peer was found but does not talk · 130 interrupted.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from py_p2pstack import (
    Dht,
    DhtConfig,
    DialError,
    Host,
    InvalidAddress,
    InvalidPeerId,
    ListenError,
    P2PError,
    PeerId,
    PeerInfo,
    PrivateKey,
    QueryEvent,
    RoutingError,
    Stream,
)

HANDSHAKE = "/p2p/1.0.0"
CHAT = "/chat/1.0.0"
CODE_HELLO = 1
MAX_LINE = 4096


# --- the handshake message: one JSON line {"Code":1,"Size":…,"Payload":base64 of the sender's full address} --------


async def say_hello(host: Host, peer: PeerId) -> None:
    """Tell `peer` where we listen."""
    payload = str(host.full_addresses[0]).encode()
    line = {"Code": CODE_HELLO, "Size": len(payload), "Payload": base64.b64encode(payload).decode()}
    async with await host.new_stream(peer, HANDSHAKE) as stream:
        await stream.send(json.dumps(line, separators=(",", ":")).encode() + b"\n")


async def read_line(stream: Stream) -> bytes:
    """Read up to the first newline; the line is bounded."""
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive(MAX_LINE)
        if len(line) > MAX_LINE:
            raise P2PError(f"{stream.remote_peer} sent a line of more than {MAX_LINE} bytes")
    return line


def hello_handler(host: Host):  # type: ignore[no-untyped-def]
    async def on_hello(stream: Stream) -> None:
        """Store the sender's address in the peerstore."""
        try:
            message = json.loads(await read_line(stream))
            payload = base64.b64decode(message["Payload"], validate=True)
            if message["Code"] != CODE_HELLO or message["Size"] != len(payload):
                raise ValueError("wrong code or size")
            sender = PeerInfo.parse(payload.decode())
        except (ValueError, KeyError, TypeError) as fault:
            say(f"malformed hello from {stream.remote_peer}: {fault}")
            stream.reset()
            return
        if sender.peer_id == stream.remote_peer:
            host.peerstore.add_addresses(sender.peer_id, sender.addresses, ttl=3600)
            say(f"hello from {sender.peer_id} at {sender.addresses[0]}")

    return on_hello


async def on_chat(stream: Stream) -> None:
    """Print the message and answer it."""
    line = (await read_line(stream)).decode(errors="replace").strip()
    say(f"message from {stream.remote_peer}: {line!r}")
    await stream.send(f"{line} - heard you".encode() + b"\n")


# --- one node ------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def on_event(event: QueryEvent) -> None:
    """Print one step of a lookup."""
    say(f"  {event}")


async def run_node(options: argparse.Namespace) -> int:
    """Run one node; returns the exit code."""
    identity = PrivateKey.from_seed(hashlib.sha256(options.key.encode()).digest()) if options.key else None
    async with (
        Host(listen=[f"/ip4/127.0.0.1/tcp/{options.port}"], identity=identity) as host,
        Dht(host, DhtConfig(auto_refresh=options.findnode is None)) as dht,
    ):
        host.set_stream_handler(HANDSHAKE, hello_handler(host))
        host.set_stream_handler(CHAT, on_chat)
        say(f"listening on {host.full_addresses[0]}")
        for bootstrap in options.bootstrap:
            await host.connect(bootstrap)
            await say_hello(host, bootstrap.peer_id)
        if options.bootstrap and options.findnode is None:  # a bootstrap would meet the peer before we look for it
            await dht.bootstrap()
            say(f"bootstrapped: {len(dht.routing_table)} in the routing table")
        if options.findnode is None:
            await anyio.sleep_forever()
        say(f"looking for {options.findnode}")
        found = await dht.find_peer(options.findnode, on_event=on_event)
        say(f"found {found.peer_id} at {', '.join(map(str, found.addresses))}")
        try:
            await host.connect(found)
            await say_hello(host, found.peer_id)
            async with await host.new_stream(found.peer_id, CHAT) as stream:
                await stream.send(b"hello from " + str(host.id).encode() + b"\n")
                answer = await read_line(stream)
        except (P2PError, anyio.EndOfStream) as fault:
            return complain(6, f"cannot talk to {found.peer_id}: {fault}")
        say(f"answer: {answer.decode().strip()!r}")
    return 0


def complain(code: int, text: str) -> int:
    """Print one clear line on stderr; returns the exit code."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code


def peer_or_multiaddr(text: str) -> PeerId:
    """A peer id, or the peer id at the end of a multiaddr."""
    try:
        return PeerInfo.parse(text).peer_id if text.startswith("/") else PeerId.parse(text)
    except (InvalidPeerId, InvalidAddress) as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None


def bootstrap_address(text: str) -> PeerInfo:
    try:
        return PeerInfo.parse(text)
    except (InvalidPeerId, InvalidAddress) as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None


def port_number(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"not a port: {text}")
    return int(text)


def main() -> int:
    description, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-p", "--port", type=port_number, default=0, help="TCP port on 127.0.0.1 (default: any free one)")
    add("-k", "--key", default="", help="seed of a deterministic Ed25519 identity (default: a fresh one)")
    add("-b", "--bootstrap", type=bootstrap_address, action="append", default=[], metavar="MULTIADDR",
        help="a node to start from, with /p2p/<id>; may be given more than once")  # fmt: skip
    add("-f", "--findnode", type=peer_or_multiaddr, metavar="PEER_OR_MULTIADDR",
        help="find this peer, send it a message, and end")  # fmt: skip
    if len(sys.argv) == 1:
        return demo()
    options = parser.parse_args()
    try:
        return anyio.run(run_node, options)
    except ListenError as fault:
        return complain(3, f"{fault}: choose another --port")
    except RoutingError as fault:
        return complain(4, f"peer not found: {fault}")
    except DialError as fault:
        return complain(5, f"bootstrap node cannot be reached: {fault}")
    except KeyboardInterrupt:
        return 130


# --- the demo: three of them -----------------------------------------------------------------------------------------


class Node:
    """A node in a process of its own, its output told line by line."""

    def __init__(self, name: str, *flags: str) -> None:
        self.name = name
        command = [sys.executable, __file__, "-p", "0", "-k", name, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            print(f"[{self.name}] {line}", end="", flush=True)
            yield line.strip()

    def wait_for(self, start: str) -> str:
        """Read until a line begins with `start`; returns the rest of it."""
        for line in self.lines():
            if line.startswith(start):
                return line.removeprefix(start).strip()
        raise RuntimeError(f"{self.name} ended before it said {start!r}")


@contextmanager
def node(name: str, *flags: str) -> Iterator[Node]:
    """Run a node for the time of the block; interrupt it behind."""
    running = Node(name, *flags)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        try:
            running.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            running.process.kill()


def demo() -> int:
    """Run the three nodes; 0 only if node 3 found node 2 and they exchanged a message."""
    start = time.monotonic()
    try:
        with node("node-1") as first:
            rendezvous = first.wait_for("listening on ")
            with node("node-2", "-b", rendezvous) as second:
                address = second.wait_for("listening on ")
                second.wait_for("bootstrapped")
                with node("node-3", "-b", rendezvous, "-f", address.rpartition("/")[2]) as third:
                    answer = third.wait_for("answer:")
                    code = third.process.wait(timeout=10)
                second.wait_for("message from ")
    except (RuntimeError, subprocess.TimeoutExpired) as fault:
        return complain(1, str(fault))
    except KeyboardInterrupt:
        return 130
    if code != 0 or "heard you" not in answer:
        return complain(1, f"node-3 ended with {code}")
    say(f"all of it happened, in {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
