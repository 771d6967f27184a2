"""Asks a node and shows what it answers: as text, as JSON, with the lookup drawn live."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from py_p2pstack.cli.failures import Failure
from py_p2pstack.cli.settings import SCHEMA, bootstrap_of, data_dir

FRAME = 0.08  # seconds between two drawings of a live lookup

Answer = dict[str, Any]


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
    plain: Mapping[str, object] = field(default_factory=dict)
    """Goes into the JSON result in place of what went over the wire."""


def ask(ctx: click.Context, question: Question) -> int:
    """Ask as the options of the command say; return the exit code. Raises Failure, P2PError."""
    from py_p2pstack.cli.running import run_async

    return run_async(lambda: _ask(ctx, question), backend=ctx.params["backend"])


async def _ask(ctx: click.Context, question: Question) -> None:
    from py_p2pstack.cli.access import open_node

    params = ctx.params
    as_json, trace = params["json"], params.get("trace", False)
    held: list[Answer] = []
    drawing = trace and not as_json and sys.stderr.isatty()

    async def give(item: Answer) -> None:
        if as_json:
            write_json({"command": question.call, "item": item | _plain_value(question, item)})
        elif question.show_item is not None:
            if drawing:  # the screen is the drawing's until it is done
                held.append(item)
            else:
                question.show_item(item)

    on_event = None
    async with _progress(question.title, quiet=params["quiet"] or as_json or drawing):
        async with open_node(where_of(ctx), needs_peers=question.call != "ping") as node:
            if drawing:
                result = await _drawn(question, node.call, give)
            else:
                if trace and as_json:
                    from py_p2pstack.protocols.dht.trace import to_json

                    def on_event(event: Any) -> None:
                        write_json(to_json(event))

                result = await node.call(question.call, question.arguments, give=give, on_event=on_event)
    for item in held:
        assert question.show_item is not None
        question.show_item(item)
    if as_json:
        write_json({"command": question.call} | result | dict(question.plain))
    else:
        question.show(result)


def _plain_value(question: Question, item: Answer) -> Mapping[str, object]:
    return {name: value for name, value in question.plain.items() if name in item}


async def _drawn(question: Question, call: Callable[..., Awaitable[Answer]], give: Callable[..., Any]) -> Answer:
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
        while True:
            await anyio.sleep(FRAME)
            if tree.node is not None:
                live.refresh()

    with live:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refresh)
            try:
                return await call(question.call, question.arguments, give=give, on_event=tree.take)
            finally:
                tasks.cancel_scope.cancel()
                live.vertical_overflow = "visible"


@asynccontextmanager
async def _progress(title: str, *, quiet: bool) -> AsyncIterator[None]:
    """Tell on standard error what is going on, if somebody looks at it."""
    if quiet or not sys.stderr.isatty():
        with nullcontext():
            yield
        return
    from py_p2pstack.cli import render

    with render.stderr().status(f"{title} …", spinner="dots"):
        yield


def where_of(ctx: click.Context) -> Any:
    """Which node the options mean."""
    from py_p2pstack.cli.access import Where

    params = ctx.params
    return Where(
        data_dir=data_dir(params["data_dir"]),
        data_dir_given=params["data_dir"] is not None,
        network=params["network"],
        network_given=ctx.get_parameter_source("network") is not ParameterSource.DEFAULT,
        bootstrap=bootstrap_of(params["network"], params["bootstrap"]),
        timeout=params["timeout"],
    )


def write_json(message: Mapping[str, object]) -> None:
    """Write one line of JSON to standard output, with the number of its schema."""
    click.echo(json.dumps({"schema": SCHEMA} | dict(message), ensure_ascii=False, separators=(",", ":")))


def say(text: str) -> None:
    """Tell something on standard error."""
    click.echo(text, err=True)


def read_value(text: str, limit: int) -> bytes:
    """The value an argument means: `@file`, `-` for standard input, or its own text. Raises Failure."""
    if text == "-":
        data = sys.stdin.buffer.read(limit + 1)
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
