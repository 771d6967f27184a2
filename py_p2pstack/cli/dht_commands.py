"""`dht …`: values, peers and providers, and a look at the routing table."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from typing import Any

import click

from py_p2pstack.cli.asking import Question, ask, counted, read_value, say
from py_p2pstack.cli.callee import Answer
from py_p2pstack.cli.failures import one_line
from py_p2pstack.cli.settings import options

MAX_VALUE = 4 * 1024 * 1024  # bytes read; the network takes less, and says so

_COMMON = options("bootstrap", "network", "psk", "timeout", "data-dir", "json", "trace", "verbose", "quiet", "backend")
_OWNED = click.option(
    "--owned", is_flag=True, help="KEY is the name of a record that only you can replace: signed by you, and numbered."
)
_TO_LOOK_AT = options("bootstrap", "network", "psk", "timeout", "data-dir", "json", "verbose", "quiet", "backend")


@click.group()
def dht() -> None:
    """Values, peers and providers in the DHT.

    A command asks the node that runs in the data directory. If none does, or if you name peers with --bootstrap and no
    --data-dir, it starts a short-lived node of its own. A bare KEY means /v/KEY; with --owned a record of your own,
    which others get as /owned/PEER_ID/KEY.
    """


def _full(key: str, namespace: str, *, owned: bool = False) -> str:
    """A key with its namespace; left bare if it is a record of the node's own. Raises click.BadParameter."""
    if not key:
        raise click.BadParameter("a key has at least one character", param_hint="KEY")
    if owned and key.startswith("/"):
        raise click.BadParameter("with --owned a key is a name, without a slash before it", param_hint="KEY")
    return key if key.startswith("/") or owned else f"/{namespace.strip('/')}/{key}"


def _write(answer: Answer) -> None:
    """Write a value's bytes as they are; on a terminal, a line end behind them."""
    data = b64decode(answer["value"])
    if sys.stdout.isatty() and not data.endswith(b"\n"):
        data += b"\n"
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _peers(told: list[Answer]) -> None:
    for each in told:
        _peer_line(each)


def _peer_line(each: Answer) -> None:
    click.echo("  ".join([each["peer"], *(address.partition("/p2p/")[0] for address in each["addresses"])]))


# --- values ----------------------------------------------------------------------------------------


@dht.command(short_help="Put a value under a key.")
@click.argument("key")
@click.argument("value")
@_OWNED
@options("namespace", "quorum")
@_COMMON
def put(key: str, value: str, namespace: str, owned: bool, quorum: int | None, timeout: float, **_: Any) -> int:
    """Put VALUE under KEY: its own text, @FILE for a file's bytes, or - for standard input.

    A running node puts it again every 22 to 24 hours; one that is put by a short-lived node is forgotten after 48.
    """
    text = _full(key, namespace, owned=owned)
    data = read_value(value, MAX_VALUE)

    def show(result: Answer) -> None:
        for peer, reason in result["refused"].items():
            say(f"warning: {peer} does not keep it: {one_line(reason)}")
        number = f", number {result['sequence']}" if "sequence" in result else ""
        kept = f"kept by {len(result['replicas'])} of {len(result['asked'])} peers"
        click.echo(f"{one_line(result['key'])}: {counted(len(data), 'byte')}{number}, {kept}")

    arguments = {
        "key": text,
        "value": b64encode(data).decode(),
        "quorum": 1 if quorum is None else quorum,
        "timeout": timeout,
    }
    return ask(
        Question(call="dht.put", arguments=arguments, title=f"put {one_line(text)}", show=show),
    )


@dht.command(short_help="Write the value under a key to standard output.")
@click.argument("key")
@_OWNED
@options("namespace", "quorum")
@_COMMON
def get(key: str, namespace: str, owned: bool, quorum: int | None, timeout: float, **_: Any) -> int:
    """Write the value under KEY to standard output, byte by byte."""
    text = _full(key, namespace, owned=owned)
    arguments = {"key": text, "quorum": quorum or 0, "timeout": timeout}
    return ask(
        Question(call="dht.get", arguments=arguments, title=f"get {one_line(text)}", show=_write),
    )


@dht.command(short_help="Write ever better values under a key.")
@click.argument("key")
@_OWNED
@options("namespace", "quorum")
@_COMMON
def search(key: str, namespace: str, owned: bool, quorum: int | None, timeout: float, **_: Any) -> int:
    """Write each value under KEY that is better than those before it, a line end behind each.

    For values that are no text take --json, where they are base64.
    """
    text = _full(key, namespace, owned=owned)

    def show_item(item: Answer) -> None:
        sys.stdout.buffer.write(b64decode(item["value"]) + b"\n")
        sys.stdout.flush()

    arguments = {"key": text, "quorum": quorum or 0, "timeout": timeout}
    question = Question(
        call="dht.search", arguments=arguments, title=f"search {one_line(text)}", show=_nothing, show_item=show_item,
    )  # fmt: skip
    return ask(question)


# --- peers -----------------------------------------------------------------------------------------


@dht.command("find-peer", short_help="Find a peer and its addresses.")
@click.argument("peer_id")
@_COMMON
def find_peer(peer_id: str, timeout: float, **_: Any) -> int:
    """Find the peer PEER_ID, connect to it, and print its addresses."""

    def show(result: Answer) -> None:
        for address in result["addresses"]:
            click.echo(address)

    arguments = {"peer": peer_id, "timeout": timeout}
    return ask(Question(call="dht.find-peer", arguments=arguments, title=f"find-peer {peer_id}", show=show))


@dht.command(short_help="Print the peers nearest to a key.")
@click.argument("key", metavar="KEY|PEER_ID")
@options("namespace")
@_COMMON
def closest(key: str, namespace: str, timeout: float, **_: Any) -> int:
    """Print the peers nearest to KEY, or to a peer's own place, nearest first."""
    from py_p2pstack.errors import InvalidPeerId
    from py_p2pstack.identity import PeerId

    try:
        PeerId.parse(key)
    except InvalidPeerId:
        key = _full(key, namespace)
    arguments = {"key": key, "timeout": timeout}
    question = Question(
        call="dht.closest", arguments=arguments, title=f"closest {one_line(key)}",
        show=lambda result: _peers(result["peers"]),
    )  # fmt: skip
    return ask(question)


# --- providers -------------------------------------------------------------------------------------


@dht.command(short_help="Tell the network that we provide some content.")
@click.argument("cid")
@_COMMON
def provide(cid: str, timeout: float, **_: Any) -> int:
    """Have the running node tell the network that it provides the content CID, now and every 22 hours."""

    def show(result: Answer) -> None:
        for peer, reason in result["failed"].items():
            say(f"warning: {peer} was not told: {one_line(reason)}")
        click.echo(f"{cid}: {counted(len(result['told']), 'peer')} told")

    arguments = {"content": cid, "timeout": timeout}
    return ask(Question(call="dht.provide", arguments=arguments, title=f"provide {cid}", show=show))


@dht.command("find-providers", short_help="Print who provides some content.")
@click.argument("cid")
@click.option("--count", "-n", type=click.IntRange(min=0), default=20, show_default=True, help="Enough; 0: all.")
@_COMMON
def find_providers(cid: str, count: int, timeout: float, **_: Any) -> int:
    """Print who provides the content CID, each as soon as it is found."""
    arguments = {"content": cid, "count": count, "timeout": timeout}
    question = Question(
        call="dht.find-providers", arguments=arguments, title=f"find-providers {cid}", show=_nothing,
        show_item=_peer_line,
    )  # fmt: skip
    return ask(question)


def _nothing(result: Answer) -> None:
    """All was shown on the way."""


# --- the node --------------------------------------------------------------------------------------


@dht.command()
@_TO_LOOK_AT
def stats(timeout: float, **_: Any) -> int:
    """Show how the node stands in the network."""

    def show(result: Answer) -> None:
        lines = [
            ("peer id", result["peer_id"]),
            ("connections", f"{result['connections']} with {counted(result['connected_peers'], 'peer')}"),
            ("up", f"{result['uptime']:.0f} s"),
        ]
        for each in _dhts(result):
            peers, buckets = counted(each["table_peers"], "peer"), counted(len(each["buckets"]), "bucket")
            lines += [
                ("protocol", f"{each['protocol']} ({each['mode']})"),
                ("routing table", f"{peers} in {buckets}"),
                ("network", _about(each["network_size"], each["network_size_error"])),
            ]
        for name, value in lines:
            click.echo(f"{name:<14} {value}")

    return ask(Question(call="dht.stats", arguments={"timeout": timeout}, title="stats", show=show))


def _dhts(result: Answer) -> list[Answer]:
    """The DHT told of; on the public network, that of the private networks around the node too."""
    return [result, result["lan"]] if "lan" in result else [result]


def _about(size: float | None, error: float | None) -> str:
    if size is None or error is None:
        return "not known yet"
    return f"about {size:.0f} peers, give or take {size * error:.0f}"


@dht.command(short_help="Draw the routing table.")
@_TO_LOOK_AT
def table(timeout: float, verbose: bool, **_: Any) -> int:
    """Draw the routing table: a bucket for each number of leading bits that a peer's key shares with ours."""

    def show(result: Answer) -> None:
        from py_p2pstack.cli import render

        console = render.stdout()
        for each in _dhts(result):
            if "lan" in result:
                console.print(each["protocol"])
            console.print(render.buckets(result | each, render.glyphs_for(console), every_peer=verbose))

    return ask(Question(call="dht.table", arguments={"timeout": timeout}, title="table", show=show))
