"""`ping` and `identify`: one peer, by its address or its id."""

from __future__ import annotations

from typing import Any

import click

from py_p2pstack.cli.asking import Question, ask
from py_p2pstack.cli.failures import one_line
from py_p2pstack.cli.settings import options

_COMMON = options("bootstrap", "network", "psk", "timeout", "data-dir", "json", "verbose", "quiet", "backend")


@click.command(short_help="Measure round trips to a peer.")
@click.argument("peer", metavar="PEER")
@click.option("--count", "-c", type=click.IntRange(1, 1_000_000), default=4, show_default=True, help="How many pings.")
@click.option(
    "--interval", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="SECONDS", help="Between two."
)
@_COMMON
def ping(peer: str, count: int, interval: float, timeout: float, **_: Any) -> int:
    """Ping PEER: an address that ends in /p2p/<peer id>, or a peer id, which is looked up first."""
    rtts: list[float] = []

    def show_item(item: dict[str, Any]) -> None:
        rtts.append(item["rtt"])
        click.echo(f"{item['number']}: {item['rtt'] * 1e3:.2f} ms")

    def show(result: dict[str, Any]) -> None:
        mean = sum(rtts) / len(rtts)
        times = f"min {min(rtts) * 1e3:.2f}, mean {mean * 1e3:.2f}, max {max(rtts) * 1e3:.2f} ms"
        click.echo(f"{result['peer']}: {result['count']} ping{'s' if result['count'] != 1 else ''}, {times}")

    arguments = {"peer": peer, "count": count, "interval": interval, "timeout": timeout}
    return ask(Question(call="ping", arguments=arguments, title=f"ping {peer}", show=show, show_item=show_item))


@click.command(short_help="Show what a peer tells of itself.")
@click.argument("peer", metavar="PEER")
@_COMMON
def identify(peer: str, timeout: float, **_: Any) -> int:
    """Show what PEER tells of itself: its software, its addresses, the protocols it speaks."""

    def show(result: dict[str, Any]) -> None:
        click.echo(result["peer"])
        click.echo(f"  agent      {one_line(result['agent'] or '-')}")
        click.echo(f"  network    {one_line(result['protocol_version'] or '-')}")
        click.echo(f"  rtt        {result['latency'] * 1e3:.2f} ms")
        for name in ("addresses", "protocols"):
            for number, text in enumerate(result[name]):
                click.echo(f"  {name if not number else '':<10} {one_line(text)}")

    arguments = {"peer": peer, "timeout": timeout}
    return ask(Question(call="identify", arguments=arguments, title=f"identify {peer}", show=show))
