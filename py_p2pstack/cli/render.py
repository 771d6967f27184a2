"""Everything drawn in the terminal: the lookup as a tree, the routing table as buckets.

Colours say how it stands: green answered, yellow under way, red failed; the bar says how near a peer is, full for the
nearest known. Without colour (NO_COLOR, a plain terminal) the signs say the same; without UTF-8 they are ASCII.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from py_p2pstack.cli.failures import one_line
from py_p2pstack.cli.lookup_tree import Hop, LookupTree, Row
from py_p2pstack.kademlia import KEY_BITS, PeerState
from py_p2pstack.protocols.dht.key_text import key_to_text

BAR = 10  # cells
BUCKET_PEERS = 4  # drawn under each bucket, unless all are wanted


class Glyphs(NamedTuple):
    """The signs a drawing is made of."""

    fork: str
    end: str
    line: str
    root: str
    states: Mapping[PeerState, str]
    dialing: str
    final: str
    eighths: str
    empty: str
    dots: str
    power: str


UNICODE = Glyphs(
    fork="├─ ", end="└─ ", line="│  ", root="◉",
    states={PeerState.HEARD: "·", PeerState.WAITING: "◌", PeerState.QUERIED: "●", PeerState.UNREACHABLE: "✗"},
    dialing="◦", final="★", eighths=" ▏▎▍▌▋▊▉█", empty="·", dots="…", power="⁰¹²³⁴⁵⁶⁷⁸⁹",
)  # fmt: skip
ASCII = Glyphs(
    fork="|- ", end="`- ", line="|  ", root="@",
    states={PeerState.HEARD: ".", PeerState.WAITING: "o", PeerState.QUERIED: "+", PeerState.UNREACHABLE: "x"},
    dialing="~", final="*", eighths=" " * 5 + "#" * 4, empty=".", dots="..", power="",
)  # fmt: skip

COLOURS = {
    PeerState.HEARD: "bright_black",
    PeerState.WAITING: "yellow",
    PeerState.QUERIED: "green",
    PeerState.UNREACHABLE: "red",
}
ENDS = {"completed": "done", "starved": "done, everybody was asked", "stopped": "done", "cancelled": "cancelled"}


def stdout() -> Console:
    """The console for what was asked for."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def stderr() -> Console:
    """The console for progress."""
    return Console(file=sys.stderr, highlight=False)


def glyphs_for(console: Console) -> Glyphs:
    """The signs a console can show."""
    return UNICODE if console.encoding.lower().replace("-", "").startswith("utf") else ASCII


# --- the lookup ------------------------------------------------------------------------------------


def lookup(tree: LookupTree, title: str, glyphs: Glyphs = UNICODE) -> RenderableType:
    """Draw a lookup as it stands; nothing, if none has begun."""
    if tree.node is None:
        return Text(end="")
    rows = list(tree.rows())
    # The peer looked for is no measure for the others.
    nearest = max((row.hop.nearness for row in rows if row.hop is not None and row.hop.distance), default=0.0)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)  # the tree
    grid.add_column(no_wrap=True, width=BAR)  # how near
    grid.add_column(no_wrap=True, justify="right")  # bits shared
    grid.add_column(no_wrap=True, justify="right")  # distance
    grid.add_column(no_wrap=True, justify="right")  # round trip
    grid.add_column()  # remark: the one that gives way (its text does not wrap)
    us = Text.assemble((f"{glyphs.root} ", "bold cyan"), (_short(tree.node, glyphs), "bold"), ("  this node", "dim"))
    grid.add_row(
        us,
        Text("near", style="dim"),
        *(Text(name, style="dim") for name in ("bits", "distance", "rtt")),
        Text(tree.found_here, style="magenta"),
    )
    for row in rows:
        grid.add_row(*_cells(row, nearest, glyphs, over=tree.ended not in ("", "cancelled")))
    head = Text.assemble((title, "bold"), ("  target ", "dim"), (f"{tree.target:064x}"[:16] + glyphs.dots, "cyan"))
    return Group(head, grid, _summary(tree))


def _cells(row: Row, nearest: float, glyphs: Glyphs, *, over: bool) -> list[Text]:
    stem = "".join("   " if last else glyphs.line for last in row.last[:-1])
    guide = Text(stem + (glyphs.end if row.last[-1] else glyphs.fork), style="bright_black")
    hop = row.hop
    if hop is None:
        guide.append(f"{glyphs.states[PeerState.HEARD]} {row.unasked} more heard of, not asked", style="bright_black")
        return [guide]
    state = PeerState.QUERIED if hop.final else hop.state  # one that was found need not have been asked
    colour = COLOURS[state]
    sign = glyphs.dialing if hop.dialing and state is PeerState.WAITING else glyphs.states[state]
    guide.append(f"{sign} ", style=f"bold {colour}")
    guide.append(_short(hop.peer, glyphs), style="bold" if hop.final else colour)
    return [
        guide,
        bar(hop.nearness / nearest if nearest else 0.0, BAR, glyphs),
        Text(str(hop.shared_bits), style=colour),
        Text(_distance(hop, glyphs), style="dim"),
        Text("" if hop.rtt is None else seconds(hop.rtt)),
        _remark(hop, glyphs, over=over),
    ]


def _remark(hop: Hop, glyphs: Glyphs, *, over: bool) -> Text:
    remark = Text(no_wrap=True, overflow="ellipsis")
    if hop.state is PeerState.UNREACHABLE or hop.reason:
        causes = hop.reason.splitlines() or ["unreachable"]
        cause = one_line(causes[-1])  # of a dial: what became of the last address
        return remark.append(cause.partition(": ")[2] or cause, style="red")
    if hop.final:
        remark.append(f"{glyphs.final} ", style="bold yellow")
    elif hop.state is PeerState.WAITING:
        doing = "not needed any more" if over else "dialing" if hop.dialing else "waiting"
        return remark.append(doing, style="bright_black" if over else "yellow")
    notes = [note for note in ("" if hop.distance else "found", hop.found, "written" if hop.stored else "") if note]
    return remark.append(", ".join(notes), style="magenta")


def _summary(tree: LookupTree) -> Text:
    counts = [
        (f"{tree.count(state)} {name}", COLOURS[state])
        for state, name in (
            (PeerState.QUERIED, "answered"),
            (PeerState.WAITING, "waiting"),
            (PeerState.UNREACHABLE, "unreachable"),
            (PeerState.HEARD, "heard of"),
        )
        if tree.count(state) and not (tree.ended and state is PeerState.WAITING)
    ]
    text = Text(tree.failure or ENDS.get(tree.ended, "looking up"), style="bold red" if tree.failure else "bold")
    for words, colour in counts:
        text.append("  ").append(words, style=colour)
    if tree.depth:
        text.append(f"  {tree.depth} hop{'s' if tree.depth > 1 else ''}", style="dim")
    return text.append(f"  {seconds(tree.elapsed)}", style="dim")


def _distance(hop: Hop, glyphs: Glyphs) -> str:
    """About which power of two."""
    exponent = str(hop.distance.bit_length())
    if not glyphs.power:
        return f"2^{exponent}"
    return "2" + "".join(glyphs.power[int(digit)] for digit in exponent)


def _short(peer: object, glyphs: Glyphs) -> str:
    return glyphs.dots + str(peer)[-8:]


def bar(part: float, width: int, glyphs: Glyphs) -> Text:
    """A bar that is full for 1; red when far, green when near."""
    part = min(max(part, 0.0), 1.0)
    whole, rest = divmod(round(part * width * 8), 8)
    cells = glyphs.eighths[8] * whole + (glyphs.eighths[rest] if rest else "")
    red, green = round(230 * (1 - part)) + 20, round(150 * part) + 60
    return Text(cells.ljust(width)[:width], style=Style(color=f"#{red:02x}{green:02x}50"))


def seconds(value: float) -> str:
    """A time as people read it."""
    if value < 1:
        return f"{value * 1e3:.1f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


# --- the routing table -----------------------------------------------------------------------------


def buckets(table: Mapping[str, Any], glyphs: Glyphs = UNICODE, *, every_peer: bool = False) -> RenderableType:
    """Draw a routing table, as `dht.table` tells it: a bucket for each number of leading bits shared with us."""
    peers, size = table["peers"], table["bucket_size"]
    bits = f"{int(table['key'], 16):0{KEY_BITS}b}"
    waiting = {int(cpl): count for cpl, count in table["replacements"].items()}
    depth = max([peer["cpl"] for peer in peers] + [0])
    width = min(depth + 1, 24)
    head = Text.assemble(
        (f"{glyphs.root} ", "bold cyan"), (table["peer_id"], "bold"),
        (f"  {len(peers)} peer{'' if len(peers) == 1 else 's'}, at most {size} a bucket", "dim"),
    )  # fmt: skip
    ours = Text.assemble(
        ("our key  ", "dim"), (" ".join(bits[at : at + 8] for at in range(0, 48, 8)), "cyan"), glyphs.dots
    )
    lines: list[RenderableType] = [head, ours, Text()]
    for cpl in range(depth + 1):
        mine = [peer for peer in peers if peer["cpl"] == cpl]
        lines.append(_bucket(cpl, bits, width, mine, size, waiting.get(cpl, 0), glyphs))
        shown = mine if every_peer else mine[:BUCKET_PEERS]
        lines += [_bucket_peer(peer, width, glyphs) for peer in shown]
        if len(shown) < len(mine):
            lines.append(Text(f"{'':{width + 7}}{glyphs.dots} {len(mine) - len(shown)} more (-v)", style="dim"))
    return Group(*lines)


def _bucket(cpl: int, bits: str, width: int, peers: Iterable[object], size: int, waiting: int, glyphs: Glyphs) -> Text:
    count = len(list(peers))
    shown = bits[:cpl] if cpl < width else glyphs.dots + bits[cpl - width + 2 : cpl]
    flipped = "1" if bits[cpl] == "0" else "0"
    line = Text(f"{cpl:>4}  ", style="bold")
    line.append(shown, style="bright_black").append(flipped, style="bold cyan")
    line.append(" " * (width - len(shown)))
    line.append(glyphs.eighths[8] * count, style="green" if count >= size else "yellow" if count < 3 else "cyan")
    line.append(glyphs.empty * (size - count), style="bright_black")
    line.append(f" {count:>2}", style="bold")
    if waiting:
        line.append(f"  +{waiting} waiting", style="magenta")
    return line


def _bucket_peer(peer: Mapping[str, Any], width: int, glyphs: Glyphs) -> Text:
    line = Text(" " * (width + 7))
    connected = peer["connected"]
    line.append(
        f"{glyphs.states[PeerState.QUERIED if connected else PeerState.HEARD]} ", "green" if connected else "dim"
    )
    line.append(_short(peer["peer"], glyphs), style="bold")
    rtt = peer["rtt"]
    line.append(f"  {'-' if rtt is None else seconds(rtt):>9}  here {seconds(peer['age'])}, seen ", style="dim")
    line.append(f"{seconds(peer['silent'])} ago", style="dim")
    if peer["addresses"]:
        line.append(f"  {one_line(peer['addresses'][0]).partition('/p2p/')[0]}", style="bright_black")
    return line


def key_title(command: str, key: bytes) -> str:
    """What a lookup is for, in one line."""
    return f"{command} {one_line(key_to_text(key))}"
