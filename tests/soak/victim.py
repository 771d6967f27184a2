"""A process that stores things and says so, until it is killed.

It says `opening`; `open` (a node: `open <address>`); a store: `kept <writer> <slot> <version>` after each write that
returned.
"""

from __future__ import annotations

from multiprocessing.connection import Connection

import anyio

from py_p2pstack import Host, PrivateKey
from py_p2pstack.protocols.dht import Dht, DhtConfig
from py_p2pstack.storage import SqliteDatastore

WRITERS = 8
SLOTS = 50  # keys a writer writes in turn
SEED = b"\x07" * 32  # of the node's identity


def value_of(writer: int, slot: int, version: int) -> bytes:
    """What a version of a key holds; some are large enough to fill the log quickly."""
    size = 20_000 if version % 50 == 0 else version % 700
    return b"%d " % version + b"%d/%d " % (writer, slot) * (size // 4)


def run(kind: str, path: str, first: int, backend: str, parent: Connection) -> None:
    """Be a `store` or a `node`; versions of values begin with `first`."""
    if kind == "store":
        anyio.run(store, path, first, parent, backend=backend)
    else:
        anyio.run(node, path, parent, backend=backend)


async def store(path: str, first: int, parent: Connection) -> None:
    """Write from many tasks, durably most of the time, two keys at a time, with rubbish that comes and goes."""

    async def write(writer: int) -> None:
        version = first
        while True:
            slot = version % SLOTS
            value = value_of(writer, slot, version)
            place = b"%d/%d" % (writer, slot)
            await datastore.write(
                [
                    (b"left/" + place, value),
                    (b"rubbish/%d/%d" % (writer, version), b"x" * 100),
                    (b"rubbish/%d/%d" % (writer, version - 1), None),
                    (b"right/" + place, value),
                ],
                durable=version % 5 != 0,
            )
            parent.send_bytes(b"kept %d %d %d" % (writer, slot, version))
            version += 1

    parent.send_bytes(b"opening")
    async with SqliteDatastore(path) as datastore, anyio.create_task_group() as tasks:
        parent.send_bytes(b"open")
        for writer in range(WRITERS):
            tasks.start_soon(write, writer)


async def node(path: str, parent: Connection) -> None:
    """Serve the DHT on loopback."""
    parent.send_bytes(b"opening")
    async with (
        SqliteDatastore(path) as datastore,
        Host(identity=PrivateKey.from_seed(SEED), listen=["/ip4/127.0.0.1/tcp/0"]) as host,
        Dht(host, DhtConfig(auto_refresh=False), datastore=datastore),
    ):
        parent.send_bytes(f"open {host.addrs[0].with_peer(host.id)}".encode())
        while True:
            await anyio.sleep(5)
            parent.send_bytes(b"alive")  # an error, and the end, once nobody is there to kill us
