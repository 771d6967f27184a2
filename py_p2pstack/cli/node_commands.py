"""`node run`: a node that stays."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from py_p2pstack.cli.asking import say, write_json
from py_p2pstack.cli.failures import Failure
from py_p2pstack.cli.settings import KEY_FILE, PUBLIC, bootstrap_of, data_dir, options

if TYPE_CHECKING:
    from py_p2pstack.node import Host
    from py_p2pstack.protocols.dht import Dht, DualDht

STORE = "data.sqlite"
FIRST_RETRY = 2.0  # seconds until a bootstrap that failed is tried again; doubled each time
LAST_RETRY = 60.0


@click.group()
def node() -> None:
    """A node of the network."""


@node.command()
@options("listen", "announce", "bootstrap", "network", "psk", "mode", "data-dir", "json", "verbose", "backend")
def run(backend: str, data_dir: Path | None, **settings: Any) -> int:
    """Run a node until Ctrl-C (exit code 130) or SIGTERM (0).

    It prints its full addresses as soon as it listens. Its identity and what it keeps for others stay in the data
    directory, where the dht commands find it. There is one node for each data directory.
    """
    from py_p2pstack.cli.running import BY_SIGNAL, run_async

    source = click.get_current_context().get_parameter_source("mode")
    if settings["network"] == PUBLIC and source is ParameterSource.DEFAULT:
        settings["mode"] = "auto"  # whoever cannot be reached is a burden to the others as a server
    directory = _prepared(data_dir)
    code = run_async(lambda: _run(directory, settings), backend=backend)
    return 0 if code == BY_SIGNAL + signal.SIGTERM else code  # that is how a service is stopped


def _prepared(given: Path | None) -> Path:
    directory = data_dir(given)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as fault:
        raise Failure(1, f"cannot make {directory}: {fault.strerror}", "name another --data-dir") from None
    return directory


async def _run(directory: Path, settings: dict[str, Any]) -> None:
    import anyio

    from py_p2pstack.addresses import PeerInfo
    from py_p2pstack.cli.access import make_dht
    from py_p2pstack.cli.calls import Calls
    from py_p2pstack.cli.control import ControlServer
    from py_p2pstack.errors import StorageLocked
    from py_p2pstack.identity import load_or_create_key_file
    from py_p2pstack.node import Host
    from py_p2pstack.protocols.dht import DhtConfig
    from py_p2pstack.storage import SqliteDatastore

    network = settings["network"]
    peers = tuple(map(PeerInfo.parse, bootstrap_of(network, settings["bootstrap"])))
    config = DhtConfig(prefix=network, mode=settings["mode"], bootstrap_peers=peers)
    identity = load_or_create_key_file(directory / KEY_FILE)
    async with AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(SqliteDatastore(directory / STORE))
        except StorageLocked:
            raise Failure(1, f"a node runs in {directory} already", "stop it, or name another --data-dir") from None
        host = await stack.enter_async_context(
            Host(listen=settings["listen"], announce=settings["announce"], identity=identity, psk=settings["psk"])
        )
        dht = make_dht(host, config, store)
        await stack.enter_async_context(dht)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        await tasks.start(ControlServer(Calls(host, dht, lambda: identity), directory, network=network).serve)
        _tell_addresses(host, as_json=settings["json"])
        if settings["verbose"]:
            tasks.start_soon(_tell_peers, host)
        if peers:
            tasks.start_soon(_join, host, dht, peers)


def _tell_addresses(host: Host, *, as_json: bool) -> None:
    addresses = [str(address) for address in host.full_addresses]
    if as_json:
        write_json({"event": "listening", "peer_id": str(host.id), "addresses": addresses})
        return
    for address in addresses or [f"/p2p/{host.id}"]:
        click.echo(address)


async def _tell_peers(host: Host) -> None:
    """Tell who comes and goes."""
    from py_p2pstack.core.notifications import PeerConnected, PeerDisconnected

    with host.events.subscribe(PeerConnected, PeerDisconnected, buffer=1024) as changes:
        async for change in changes:
            say(f"{'+' if isinstance(change, PeerConnected) else '-'} {change.peer}")


async def _join(host: Host, dht: Dht | DualDht, peers: Any) -> None:
    """Connect to the bootstrap peers and fill the table; try again for as long as none can be reached."""
    import anyio

    from py_p2pstack.cli.access import CONNECT_TIMEOUT, join

    wait = FIRST_RETRY
    while True:
        try:
            await join(host, peers, timeout=CONNECT_TIMEOUT)
            break
        except Failure as failure:
            say(f"warning: {failure.cause}; trying again in {wait:.0f} s")
        await anyio.sleep(wait)
        wait = min(2 * wait, LAST_RETRY)
    await dht.bootstrap()
