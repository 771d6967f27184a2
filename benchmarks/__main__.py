"""`python -m benchmarks`: run every work on every implementation, in turns, and end with one table."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import groupby
from statistics import median

from benchmarks import dht
from benchmarks.dht import DHT_WORKS, Network
from benchmarks.works import WAYS, WORKS, Bar, Pair, Subject, Work
from tests.interop.peer import CommandFailed, Peer, PeerMissing

IMPLEMENTATIONS: dict[str, tuple[str, ...]] = {
    "ours": ("ours",),
    "ours, trio": ("ours", "--backend", "trio"),
    "ours, uvloop": ("ours", "--backend", "uvloop"),
    "py": ("py",),
    "go": ("go",),
    "kademlia": ("kademlia",),
}
DHT_ALONE = "kademlia"  # which is nothing but a DHT
Figures = dict[str, dict[str, list[float]]]


def has_uvloop() -> bool:
    """Whether the optional event loop is installed."""
    return find_spec("uvloop") is not None


def connect(stack: ExitStack, name: str, way: str) -> Pair:
    """Start two peers of one implementation, connected in a way. Raises PeerMissing, and others if it cannot."""
    language, *arguments = IMPLEMENTATIONS[name]
    place, options = WAYS[way]
    listener = stack.enter_context(Peer(language, "--listen", f"/ip4/127.0.0.1{place}", *arguments, *options))
    dialer = stack.enter_context(Peer(language, *arguments, *options))
    dialer.call("connect", addr=listener.address)
    return Pair(dialer=dialer, listener=listener, slow=language == "py")


def join(stack: ExitStack, name: str, way: str) -> Network:
    """Start a DHT of one implementation. Raises PeerMissing."""
    return dht.start(stack, *IMPLEMENTATIONS[name])


def measure(
    works: Sequence[Work[Subject]],
    names: Sequence[str],
    begin: Callable[[ExitStack, str, str], Subject],
    repetitions: int,
    figures: Figures,
) -> None:
    """Run each work `repetitions` times on each implementation, implementation by implementation in turns."""
    for way, those in groupby(works, lambda work: work.way):
        measure_over(way, list(those), names, begin, repetitions, figures)


def measure_over(
    way: str,
    works: Sequence[Work[Subject]],
    names: Sequence[str],
    begin: Callable[[ExitStack, str, str], Subject],
    repetitions: int,
    figures: Figures,
) -> None:
    """The works of one way."""
    with ExitStack() as stack:
        subjects = {}
        for name in names:
            try:
                subjects[name] = begin(stack, name, way)
            except (PeerMissing, CommandFailed, RuntimeError) as fault:
                print(f"{way}, without {name}: {fault}", file=sys.stderr)
        for work in works:
            for _ in range(repetitions):
                if work.floor is not None:
                    figures[work.name]["floor"].append(work.floor())
                for name, subject in subjects.items():
                    if work.only and name not in work.only:
                        continue
                    try:
                        figures[work.name][name].append(work.run(subject))
                    except CommandFailed as fault:
                        print(f"{name}, {work.name}: {fault}", file=sys.stderr)
            print(
                f"  {work.name}: " + ", ".join(f"{k} {show(median(v))}" for k, v in figures[work.name].items() if v),
                flush=True,
            )


def show(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(work: Work[Pair] | Work[Network], bar: Bar, figures: Figures) -> str:
    """A bar and how it stands."""
    ours, others = figures[work.name].get("ours"), figures[bar.work or work.name].get(bar.against)
    whose = f"{bar.against}, {bar.work}" if bar.work else bar.against
    if not ours or not others:
        return f"? {whose}"
    ratio = median(others) / median(ours) if work.less_is_better else median(ours) / median(others)
    return f"{show(ratio)} × {whose} (bar {bar.ratio:g}{'' if ratio >= bar.ratio else ', MISSED'})"


def table(works: Sequence[Work[Pair] | Work[Network]], figures: Figures, names: Sequence[str]) -> str:
    """The one table, in Markdown."""
    columns = ["floor", *names]
    rows = [["work", "unit", *columns, "ratio to go", "bars"]]
    for work in works:
        medians = {name: median(values) for name, values in figures[work.name].items() if values}
        bars = [verdict(work, bar, figures) for bar in work.bars]
        if work.at_most is not None and "ours" in medians:
            bars.append(f"≤ {work.at_most:g}{'' if medians['ours'] <= work.at_most else ' MISSED'}")
        go = ""
        if "go" in medians and "ours" in medians:
            go = show(medians["go"] / medians["ours"] if work.less_is_better else medians["ours"] / medians["go"])
        cells = [show(medians[column]) if column in medians else "" for column in columns]
        rows.append([work.name, work.unit, *cells, go, "; ".join(bars)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def chosen(name: str, parts: list[str] | None) -> bool:
    """Whether a work was asked for."""
    return not parts or any(part in name for part in parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("-n", "--repetitions", type=int, default=5, help="rounds of each work (default 5)")
    parser.add_argument("-w", "--work", action="append", help="only works whose name contains this; may be repeated")
    parser.add_argument("-i", "--implementation", action="append", choices=list(IMPLEMENTATIONS), help="only these")
    parser.add_argument(
        "--only", choices=["pairs", "dht"], help="only what two peers do, or only what a DHT of 20 does"
    )
    options = parser.parse_args()
    pairs = [work for work in WORKS if chosen(work.name, options.work) and options.only != "dht"]
    networks = [work for work in DHT_WORKS if chosen(work.name, options.work) and options.only != "pairs"]
    names = options.implementation or [name for name in IMPLEMENTATIONS if "uvloop" not in name or has_uvloop()]
    figures: Figures = defaultdict(lambda: defaultdict(list))
    measure(pairs, [name for name in names if name != DHT_ALONE], connect, options.repetitions, figures)
    measure(networks, names, join, options.repetitions, figures)
    result = table([*pairs, *networks], figures, [name for name in names if name != DHT_ALONE or networks])
    print(f"\nMedians of {options.repetitions}; two processes each (of the DHT: ten nodes in each); in `bars`,")
    print(f"more is better.\n\n{result}")
    return int("MISSED" in result)


if __name__ == "__main__":
    sys.exit(main())
