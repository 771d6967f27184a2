"""What is drawn says what there is, with colour and without, with UTF-8 and without."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console, RenderableType

from py_p2pstack.cli import render
from py_p2pstack.cli.lookup_tree import LookupTree
from py_p2pstack.kademlia import key_of
from tests.cli.test_lookup_tree import BOB, CAROL, story
from tests.peer_ids import peer as peer_id


def drawn(what: RenderableType, *, colour: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=100, force_terminal=colour, color_system="truecolor" if colour else None, highlight=False
    )
    console.print(what)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def tree_of(count: int | None = None) -> LookupTree:
    tree = LookupTree()
    for event in story()[:count]:
        tree.take(event)
    return tree


def short(peer: object) -> str:
    return str(peer)[-8:]


def test_a_lookup_is_drawn_as_a_tree() -> None:
    lines = drawn(render.lookup(tree_of(), "get /v/greeting")).splitlines()
    assert lines[0].startswith("get /v/greeting  target ")
    assert "this node" in lines[1]
    assert lines[2].startswith("└─ ● …")
    assert "12.0 ms" in lines[2]
    assert lines[3].startswith(f"   ├─ ● …{short(BOB)}")
    assert "★ has a value of 5 bytes" in lines[3]
    assert lines[4].startswith(f"   ├─ ✗ …{short(CAROL)}")
    assert lines[4].endswith(" refused")
    assert lines[5] == "   └─ · 1 more heard of, not asked"
    assert lines[6] == "done  2 answered  1 unreachable  1 heard of  2 hops  180.0 ms"


def test_a_lookup_is_drawn_at_every_step() -> None:
    for count in range(1, len(story()) + 1):
        assert drawn(render.lookup(tree_of(count), "get"))
    assert "dialing" in drawn(render.lookup(tree_of(11), "get"))
    assert "waiting" in drawn(render.lookup(tree_of(4), "get"))


def test_a_long_remark_gives_way_to_the_rest() -> None:
    tree = tree_of()
    tree.hops[CAROL].reason = "cannot dial:\n  " + "so many words " * 20
    lines = drawn(render.lookup(tree, "get")).splitlines()
    assert len(lines) == 7
    assert "12.0 ms" in lines[2]
    assert re.search(r" 2\S+ +so many words.*…$", lines[4])


def test_what_has_not_begun_is_not_drawn() -> None:
    assert drawn(render.lookup(tree_of(0), "get")) == ""


def test_colours_are_for_terminals() -> None:
    assert "\x1b[" in drawn(render.lookup(tree_of(), "get"), colour=True)
    assert "\x1b[" not in drawn(render.lookup(tree_of(), "get"))


def test_without_utf_8_the_signs_are_ascii() -> None:
    assert drawn(render.lookup(tree_of(), "get", render.ASCII)).isascii()
    assert drawn(render.buckets(table(), render.ASCII)).isascii()


@pytest.mark.parametrize(("encoding", "glyphs"), [("utf-8", render.UNICODE), ("cp1252", render.ASCII)])
def test_the_signs_are_those_the_terminal_can_show(encoding: str, glyphs: render.Glyphs) -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert render.glyphs_for(console) is glyphs


@pytest.mark.parametrize(("part", "cells"), [(0.0, ""), (0.5, "█████"), (1.0, "█" * 10), (2.0, "█" * 10), (0.05, "▌")])
def test_a_bar_is_as_long_as_its_part(part: float, cells: str) -> None:
    assert render.bar(part, 10, render.UNICODE).plain == cells.ljust(10)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12.3 ms"), (2.0, "2.0 s"), (600.0, "10 min"), (86400.0, "24 h")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert render.seconds(seconds) == text


def table(count: int = 6) -> dict[str, Any]:
    ours = key_of(peer_id(0).to_bytes())
    peers = [
        {"peer": str(peer_id(number)), "addresses": [f"/ip4/127.0.0.1/tcp/{number}"], "cpl": 0 if number > 1 else 2,
         "key": "00", "age": 90.0, "silent": 3.0, "rtt": None if number == 1 else 0.002, "connected": number > 1}
        for number in range(1, count + 1)
    ]  # fmt: skip
    return {
        "peer_id": str(peer_id(0)),
        "key": f"{ours:064x}",
        "bucket_size": 20,
        "replacements": {"0": 3},
        "peers": peers,
    }


def test_a_routing_table_is_drawn_as_buckets() -> None:
    lines = drawn(render.buckets(table())).splitlines()
    bits = f"{key_of(peer_id(0).to_bytes()):0256b}"
    flipped = "1" if bits[0] == "0" else "0"
    assert "6 peers, at most 20 a bucket" in lines[0]
    assert bits[:8] in lines[1]
    assert lines[3].split() == ["0", flipped, "█████" + "·" * 15, "5", "+3", "waiting"]
    assert sum("here 90.0 s, seen 3.0 s ago" in line for line in lines) == 5  # four of the five, and the near one
    assert any("… 1 more (-v)" in line for line in lines)
    assert any(line.split()[:1] == ["1"] for line in lines)  # an empty bucket is drawn too


def test_every_peer_is_drawn_if_wanted() -> None:
    text = drawn(render.buckets(table(), every_peer=True))
    assert sum("here 90.0 s" in line for line in text.splitlines()) == 6
    assert "more" not in text


def test_an_empty_table_is_drawn() -> None:
    assert "0 peers" in drawn(render.buckets(table(0)))
