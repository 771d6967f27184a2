"""Asks a node and shows what it answers: as text, as JSON, with the lookup drawn live."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from py_p2pstack.cli.access import Where, open_node
from py_p2pstack.cli.callee import Answer, Callee, Give
from py_p2pstack.cli.failures import Failure
from py_p2pstack.cli.settings import SCHEMA, bootstrap_of, data_dir

if TYPE_CHECKING:
    from py_p2pstack.protocols.dht.events import QueryEvent

FRAME = 0.08  # seconds between two drawings of a live lookup


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and how the answer is to be shown."""

    call: str
    arguments: Mapping[str, object]
    title: str
    """For the drawing, and for whoever waits."""
    show: Callable[[Answer], None]
    """Writes the result to standard output."""
    show_item: Callable[[Answer], None] | None = None
    """Writes one thing found on the way."""


def ask(question: Question) -> int:
    """Ask as the options of the command that runs say; return the exit code. Raises Failure, P2PError."""
    from py_p2pstack.cli.running import run_async

    ctx = click.get_current_context()
    return run_async(lambda: _ask(ctx, question), backend=ctx.params["backend"])


async def _ask(ctx: click.Context, question: Question) -> None:
    params = ctx.params
    as_json, trace = params["json"], params.get("trace", False)
    held: list[Answer] = []
    drawing = trace and not as_json and sys.stderr.isatty()

    async def give(item: Answer) -> None:
        if as_json:
            write_json({"command": question.call, "item": item})
        elif question.show_item is not None:
            if drawing:  # the screen is the drawing's until it is done
                held.append(item)
            else:
                stop_progress()
                question.show_item(item)

    async with (
        _progress(question.title, quiet=params["quiet"] or as_json or drawing) as stop_progress,
        open_node(where_of(ctx), needs_peers=question.call.startswith("dht.")) as node,
    ):
        if params["verbose"]:
            stop_progress()
            say(f"asking {node}")
        if drawing:
            result = await _drawn(question, node, give)
        else:
            on_event = _write_event if trace and as_json else None
            result = await node.call(question.call, question.arguments, give=give, on_event=on_event)
    for item in held:
        assert question.show_item is not None
        question.show_item(item)
    if as_json:
        write_json({"command": question.call} | result)
    else:
        question.show(result)


async def _drawn(question: Question, node: Callee, give: Give) -> Answer:
    """Ask, and draw the lookup on standard error until it is over; the last picture stays."""
    import anyio
    from rich.live import Live

    from py_p2pstack.cli import render
    from py_p2pstack.cli.lookup_tree import LookupTree

    console, tree = render.stderr(), LookupTree()
    glyphs = render.glyphs_for(console)
    # No thread of its own may draw: the tree changes under the events.
    live = Live(
        get_renderable=lambda: render.lookup(tree, question.title, glyphs), console=console, auto_refresh=False,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip

    async def refresh() -> None:
        start: float | None = None
        while True:
            if tree.node is not None and not tree.ended:
                now = anyio.current_time()
                start = now - tree.elapsed if start is None else start
                tree.elapsed = max(tree.elapsed, now - start)  # the clock goes on between events
            live.refresh()
            await anyio.sleep(FRAME)

    with live:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refresh)
            try:
                result = await node.call(question.call, question.arguments, give=give, on_event=tree.take)
            finally:
                tasks.cancel_scope.cancel()
                live.vertical_overflow = "visible"
    return result


def _write_event(event: QueryEvent) -> None:
    from py_p2pstack.protocols.dht.trace import to_json

    write_json(to_json(event))


@asynccontextmanager
async def _progress(title: str, *, quiet: bool) -> AsyncIterator[Callable[[], None]]:
    """Tell on standard error what is going on, if somebody looks at it, until what is given is called."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from py_p2pstack.cli import render

    with render.stderr().status(f"{title} …", spinner="dots") as status:
        yield status.stop


def where_of(ctx: click.Context) -> Where:
    """Which node the options mean."""
    params = ctx.params
    by_hand = {name for name in params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return Where(
        data_dir=data_dir(params["data_dir"]),
        own="bootstrap" in by_hand and "data_dir" not in by_hand,
        network=params["network"],
        network_given=ctx.get_parameter_source("network") is not ParameterSource.DEFAULT,
        bootstrap=bootstrap_of(params["network"], params["bootstrap"]),
        psk=params["psk"],
        timeout=params["timeout"],
        interval=params.get("interval", 0.0),
    )


def write_json(message: Mapping[str, object]) -> None:
    """Write one line of JSON to standard output, with the number of its schema."""
    ascii_only = not sys.stdout.encoding.lower().startswith("utf")
    click.echo(json.dumps({"schema": SCHEMA} | dict(message), ensure_ascii=ascii_only, separators=(",", ":")))


def say(text: str) -> None:
    """Tell something on standard error."""
    click.echo(text, err=True)


def counted(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def read_value(text: str, limit: int) -> bytes:
    """The value an argument means: `@file`, `-` for standard input, or its own text. Raises Failure."""
    if text == "-":
        data = sys.stdin.buffer.read(limit + 1)
    elif text == "@":
        raise Failure(2, "@ has no file behind it", "write @FILE, or - for standard input")
    elif text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as file:
                data = file.read(limit + 1)
        except OSError as fault:
            raise Failure(1, f"cannot read {text[1:]}: {fault.strerror}", "check the path") from None
    else:
        data = text.encode(errors="surrogateescape")
    if len(data) > limit:
        raise Failure(6, f"a value of more than {limit} bytes", "put a smaller one, or a reference to it")
    return data
