"""`dht …`: values, peers and providers, and a look at the routing table."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from typing import Any

import click

from py_p2pstack.cli.asking import Question, ask, read_value, say
from py_p2pstack.cli.failures import one_line
from py_p2pstack.cli.settings import options

MAX_VALUE = 4 * 1024 * 1024  # bytes read; the network takes less, and says so

_COMMON = options("bootstrap", "network", "timeout", "data-dir", "json", "trace", "quiet", "backend")
_TO_LOOK_AT = options("bootstrap", "network", "timeout", "data-dir", "json", "quiet", "backend")

Answer = dict[str, Any]


class KeyType(click.ParamType):
    """A DHT key: `/namespace/…`, or bare, which the option `--namespace` completes."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Leave it; the namespace may not be known yet."""
        if not value:
            self.fail("a key has at least one character", param, ctx)
        return str(value)


@click.group()
def dht() -> None:
    """Values, peers and providers in the DHT.

    A command uses the node that runs in the data directory. If none does, or if you name peers with --bootstrap and no
    --data-dir, it starts a short-lived node of its own. A bare KEY means /v/KEY.
    """


def _key(ctx: click.Context, key: str, namespace: str) -> tuple[str, bytes]:
    """A key as it is written in full, and its bytes."""
    from py_p2pstack.errors import InvalidRecord
    from py_p2pstack.protocols.dht.key_text import key_from_text

    text = key if key.startswith("/") else f"/{namespace.strip('/')}/{key}"
    try:
        return text, key_from_text(text)
    except InvalidRecord as fault:
        raise click.BadParameter(str(fault), ctx, param_hint="KEY") from None


def _peer(ctx: click.Context, text: str) -> bytes:
    from py_p2pstack.errors import InvalidPeerId
    from py_p2pstack.identity import PeerId

    try:
        return PeerId.parse(text).to_bytes()
    except InvalidPeerId as fault:
        raise click.BadParameter(str(fault), ctx, param_hint="PEER_ID") from None


def _content(ctx: click.Context, text: str) -> str:
    from py_p2pstack.protocols.dht.content import content_key

    try:
        content_key(text)
    except ValueError as fault:
        raise click.BadParameter(str(fault), ctx, param_hint="CID") from None
    return text


def _write(answer: Answer) -> None:
    """Write a value's bytes as they are; on a terminal, a line end behind them."""
    data = b64decode(answer["value"])
    if sys.stdout.isatty() and not data.endswith(b"\n"):
        data += b"\n"
    click.get_binary_stream("stdout").write(data)
    click.get_binary_stream("stdout").flush()


def _peers(told: list[Answer]) -> None:
    for each in told:
        _peer_line(each)


def _peer_line(each: Answer) -> None:
    click.echo("  ".join([each["peer"], *(address.partition("/p2p/")[0] for address in each["addresses"])]))


# --- values ----------------------------------------------------------------------------------------


@dht.command()
@click.argument("key", type=KeyType())
@click.argument("value")
@options("namespace", "quorum")
@_COMMON
@click.pass_context
def put(
    ctx: click.Context, key: str, value: str, namespace: str, quorum: int | None, timeout: float, **_: Any
) -> int:
    """Put VALUE under KEY: its own text, @FILE for a file's bytes, or - for standard input.

    A running node puts it again every 22 to 24 hours; one that is put by a short-lived node is forgotten after 48.
    """
    text, name = _key(ctx, key, namespace)
    data = read_value(value, MAX_VALUE)

    def show(result: Answer) -> None:
        for peer, reason in result["refused"].items():
            say(f"warning: {peer} does not keep it: {one_line(reason)}")
        click.echo(f"{one_line(text)}: {len(data)} bytes, kept by {len(result['replicas'])} of {len(result['asked'])} peers")

    arguments = {
        "key": b64encode(name).decode(),
        "value": b64encode(data).decode(),
        "quorum": 1 if quorum is None else quorum,
        "timeout": timeout,
    }
    return ask(
        ctx,
        Question(call="dht.put", arguments=arguments, title=f"put {one_line(text)}", show=show, plain={"key": text}),
    )


@dht.command()
@click.argument("key", type=KeyType())
@options("namespace", "quorum")
@_COMMON
@click.pass_context
def get(ctx: click.Context, key: str, namespace: str, quorum: int | None, timeout: float, **_: Any) -> int:
    """Write the value under KEY to standard output, byte by byte."""
    text, name = _key(ctx, key, namespace)
    arguments = {"key": b64encode(name).decode(), "quorum": quorum or 0, "timeout": timeout}
    return ask(
        ctx,
        Question(call="dht.get", arguments=arguments, title=f"get {one_line(text)}", show=_write, plain={"key": text}),
    )


@dht.command()
@click.argument("key", type=KeyType())
@options("namespace", "quorum")
@_COMMON
@click.pass_context
def search(ctx: click.Context, key: str, namespace: str, quorum: int | None, timeout: float, **_: Any) -> int:
    """Write each value under KEY that is better than those before it, a line end behind each.

    For values that are no text take --json, where they are base64.
    """
    text, name = _key(ctx, key, namespace)

    def show_item(item: Answer) -> None:
        click.get_binary_stream("stdout").write(b64decode(item["value"]) + b"\n")
        click.get_binary_stream("stdout").flush()

    arguments = {"key": b64encode(name).decode(), "quorum": quorum or 0, "timeout": timeout}
    question = Question(
        call="dht.search", arguments=arguments, title=f"search {one_line(text)}", show=_nothing, show_item=show_item,
        plain={"key": text},
    )  # fmt: skip
    return ask(ctx, question)


# --- peers -----------------------------------------------------------------------------------------


@dht.command("find-peer")
@click.argument("peer_id")
@_COMMON
@click.pass_context
def find_peer(ctx: click.Context, peer_id: str, timeout: float, **_: Any) -> int:
    """Find the peer PEER_ID, connect to it, and print its addresses."""
    _peer(ctx, peer_id)

    def show(result: Answer) -> None:
        for address in result["addresses"]:
            click.echo(address)

    arguments = {"peer": peer_id, "timeout": timeout}
    return ask(ctx, Question(call="dht.find-peer", arguments=arguments, title=f"find-peer {peer_id}", show=show))


@dht.command()
@click.argument("key", metavar="KEY|PEER_ID", type=KeyType())
@options("namespace")
@_COMMON
@click.pass_context
def closest(ctx: click.Context, key: str, namespace: str, timeout: float, **_: Any) -> int:
    """Print the peers nearest to KEY, or to a peer's own place, nearest first."""
    try:
        name = _peer(ctx, key)
    except click.BadParameter:
        key, name = _key(ctx, key, namespace)
    arguments = {"key": b64encode(name).decode(), "timeout": timeout}
    question = Question(
        call="dht.closest", arguments=arguments, title=f"closest {one_line(key)}",
        show=lambda result: _peers(result["peers"]), plain={"key": key},
    )  # fmt: skip
    return ask(ctx, question)


# --- providers -------------------------------------------------------------------------------------


@dht.command()
@click.argument("cid")
@_COMMON
@click.pass_context
def provide(ctx: click.Context, cid: str, timeout: float, **_: Any) -> int:
    """Have the running node tell the network that it provides the content CID, now and every 22 hours."""
    content = _content(ctx, cid)

    def show(result: Answer) -> None:
        for peer, reason in result["failed"].items():
            say(f"warning: {peer} was not told: {one_line(reason)}")
        click.echo(f"{cid}: {len(result['told'])} peers told")

    arguments = {"content": content, "timeout": timeout}
    return ask(ctx, Question(call="dht.provide", arguments=arguments, title=f"provide {cid}", show=show))


@dht.command("find-providers")
@click.argument("cid")
@click.option("--count", "-n", type=click.IntRange(min=0), default=20, show_default=True, help="Enough; 0: all.")
@_COMMON
@click.pass_context
def find_providers(ctx: click.Context, cid: str, count: int, timeout: float, **_: Any) -> int:
    """Print who provides the content CID, each as soon as it is found."""
    content = _content(ctx, cid)
    arguments = {"content": content, "count": count, "timeout": timeout}
    question = Question(
        call="dht.find-providers", arguments=arguments, title=f"find-providers {cid}", show=_nothing,
        show_item=_peer_line,
    )  # fmt: skip
    return ask(ctx, question)


def _nothing(result: Answer) -> None:
    """All was shown on the way."""


# --- the node --------------------------------------------------------------------------------------


@dht.command()
@_TO_LOOK_AT
@click.pass_context
def stats(ctx: click.Context, timeout: float, **_: Any) -> int:
    """Show how the node stands in the network."""

    def show(result: Answer) -> None:
        size = result["network_size"]
        about = "not known yet" if size is None else f"about {size:.0f} peers, give or take {size * result['network_size_error']:.0f}"
        for name, value in (
            ("peer id", result["peer_id"]),
            ("protocol", f"{result['protocol']} ({result['mode']})"),
            ("connections", f"{result['connections']} with {result['connected_peers']} peers"),
            ("routing table", f"{result['table_peers']} peers in {len(result['buckets'])} buckets"),
            ("network", about),
            ("up", f"{result['uptime']:.0f} s"),
        ):
            click.echo(f"{name:<14} {value}")

    return ask(ctx, Question(call="dht.stats", arguments={"timeout": timeout}, title="stats", show=show))


@dht.command()
@options("verbose")
@_TO_LOOK_AT
@click.pass_context
def table(ctx: click.Context, timeout: float, verbose: bool, **_: Any) -> int:
    """Draw the routing table: a bucket for each number of leading bits that a peer's key shares with ours."""

    def show(result: Answer) -> None:
        from py_p2pstack.cli import render

        console = render.stdout()
        console.print(render.buckets(result, render.glyphs_for(console), every_peer=verbose))

    return ask(ctx, Question(call="dht.table", arguments={"timeout": timeout}, title="table", show=show))
