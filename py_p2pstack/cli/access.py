"""A node to ask: the one that runs in the data directory, or one of our own that lives for this call.

A node of our own is taken when no node runs there, and when `--bootstrap` is a flag of the command and `--data-dir` is
not: who names peers by hand means those, and not the network that a node in the usual directory happens to be in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from py_p2pstack.cli.callee import Answer, Callee, Give
from py_p2pstack.cli.control_client import running_node
from py_p2pstack.cli.failures import Exit, Failure, one_line
from py_p2pstack.cli.settings import KEY_FILE, PUBLIC
from py_p2pstack.errors import P2PError

if TYPE_CHECKING:
    from py_p2pstack.addresses import PeerInfo
    from py_p2pstack.core.datastore import Datastore
    from py_p2pstack.identity import PrivateKey
    from py_p2pstack.node import Host
    from py_p2pstack.protocols.dht import Dht, DhtConfig, DualDht
    from py_p2pstack.protocols.dht.events import OnEvent

GRACE = 0.3  # seconds the other bootstrap peers have when one is connected
CONNECT_TIMEOUT = 15.0  # seconds for the first of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which node to ask."""

    data_dir: Path
    own: bool = False
    """Whether a node of our own is wanted, even if another one runs."""
    network: str
    network_given: bool = False
    bootstrap: Sequence[str] = ()
    psk: bytes | None = None
    """The key of a private network, for a node of our own."""
    timeout: float = 60.0
    interval: float = 0.0
    """Seconds between two things that are done one after the other."""


@asynccontextmanager
async def open_node(where: Where, *, needs_peers: bool = True) -> AsyncIterator[Callee]:
    """A node to ask. Raises Failure: nobody to join the network by."""
    async with AsyncExitStack() as stack:
        if not where.own:
            network = where.network if where.network_given else None
            running = await stack.enter_async_context(
                running_node(where.data_dir, network=network, timeout=where.timeout + where.interval)
            )
            if running is not None:
                yield running
                return
            if needs_peers and not where.bootstrap:
                raise Failure(
                    Exit.NO_PEERS,
                    f"no node runs in {where.data_dir}, and no peer is named",
                    "start one with p2pstack node run, or name a peer with --bootstrap",
                )
        yield await stack.enter_async_context(_own_node(where))


@asynccontextmanager
async def _own_node(where: Where) -> AsyncIterator[Callee]:
    from py_p2pstack.addresses import PeerInfo
    from py_p2pstack.cli.calls import Calls
    from py_p2pstack.node import Host
    from py_p2pstack.protocols.dht import DhtConfig

    peers = tuple(map(PeerInfo.parse, where.bootstrap))
    config = DhtConfig(prefix=where.network, mode="client", bootstrap_peers=peers, auto_refresh=False)
    # Its own identity is a fresh one: two nodes with one would be taken for each other.
    async with Host(psk=where.psk) as host, make_dht(host, config) as dht:
        contacts = await join(host, peers, timeout=min(where.timeout, CONNECT_TIMEOUT)) if peers else 0
        calls = Calls(host, dht, lambda: load_key(where.data_dir / KEY_FILE), short_lived=True)
        yield OwnNode(calls, contacts)


def make_dht(host: Host, config: DhtConfig, datastore: Datastore | None = None) -> Dht | DualDht:
    """The DHT of a network; on the public one, that of the private networks around us beside it, as go's nodes do."""
    from py_p2pstack.protocols.dht import Dht, DualDht

    return (DualDht if config.prefix == PUBLIC else Dht)(host, config, datastore=datastore)


def load_key(path: Path) -> PrivateKey:
    """The private key in a file. Raises Failure if there is none, InvalidKey."""
    from py_p2pstack.identity import load_key_file

    try:
        return load_key_file(path)
    except FileNotFoundError:
        raise Failure(Exit.NOT_FOUND, f"there is no key in {path}", "make one with p2pstack keygen") from None


class OwnNode:
    """A node of our own, which cannot be found by others."""

    def __init__(self, calls: Callee, contacts: int) -> None:
        """`contacts`: to how many bootstrap peers it is connected."""
        self._calls = calls
        self._contacts = contacts

    def __str__(self) -> str:
        return f"a node of our own, joined by {self._contacts} of the bootstrap peers"

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, give: Give, on_event: OnEvent | None = None
    ) -> Answer:
        """See `Calls.call`."""
        if name == "dht.provide":
            raise Failure(
                Exit.ERROR,
                "content is provided by a node that goes on running",
                "start one with p2pstack node run, and name its --data-dir",
            )
        return await self._calls.call(name, arguments, give=give, on_event=on_event)


async def join(host: Host, peers: Sequence[PeerInfo], *, timeout: float) -> int:
    """Connect to all of the peers at once; return to how many, soon after the first.

    Raises Failure if none can be reached, which tells why not.
    """
    causes: dict[PeerInfo, str] = {}
    connected: list[PeerInfo] = []

    async def connect(peer: PeerInfo) -> None:
        try:
            await host.connect(peer)
        except P2PError as fault:
            causes[peer] = str(fault) or type(fault).__name__
            return
        connected.append(peer)
        scope.deadline = min(scope.deadline, anyio.current_time() + GRACE)

    with anyio.move_on_after(timeout) as scope:
        async with anyio.create_task_group() as tasks:
            for peer in peers:
                tasks.start_soon(connect, peer)
    if not connected:
        first = peers[0]
        cause = causes.get(first, f"cannot reach {first.peer_id}: no answer within {timeout:g} s")
        others = f" (and {len(peers) - 1} more)" if len(peers) > 1 else ""
        raise Failure(Exit.NO_PEERS, one_line(cause) + others, "check --bootstrap, and that the peer is running")
    return len(connected)
