"""`python -m benchmarks`: run every work on every implementation, in turns, and end with one table."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from contextlib import ExitStack
from importlib.util import find_spec
from statistics import median

from benchmarks.works import WORKS, Bar, Pair, Work
from tests.interop.peer import CommandFailed, Peer, PeerMissing

IMPLEMENTATIONS: dict[str, tuple[str, ...]] = {
    "ours": ("ours",),
    "ours, trio": ("ours", "--backend", "trio"),
    "ours, uvloop": ("ours", "--backend", "uvloop"),
    "py": ("py",),
    "go": ("go",),
}
Figures = dict[str, dict[str, list[float]]]


def has_uvloop() -> bool:
    """Whether the optional event loop is installed."""
    return find_spec("uvloop") is not None


def connect(stack: ExitStack, name: str) -> Pair | None:
    """Start two connected peers of one implementation; None, said aloud, where its toolchain is missing."""
    language, *arguments = IMPLEMENTATIONS[name]
    try:
        listener = stack.enter_context(Peer.listening(language, *arguments))
        dialer = stack.enter_context(Peer(language, *arguments))
    except PeerMissing as missing:
        print(f"without {name}: {missing}", file=sys.stderr)
        return None
    dialer.call("connect", addr=listener.address)
    return Pair(dialer=dialer, listener=listener, slow=language == "py")


def measure(works: tuple[Work, ...], names: list[str], repetitions: int) -> Figures:
    """Run each work `repetitions` times on each implementation, implementation by implementation in turns."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        pairs = {name: pair for name in names if (pair := connect(stack, name)) is not None}
        for work in works:
            for _ in range(repetitions):
                if work.floor is not None:
                    figures[work.name]["floor"].append(work.floor())
                for name, pair in pairs.items():
                    if work.alone and name != "ours":
                        continue
                    try:
                        figures[work.name][name].append(work.run(pair))
                    except CommandFailed as fault:
                        print(f"{name}, {work.name}: {fault}", file=sys.stderr)
            print(
                f"  {work.name}: " + ", ".join(f"{k} {show(median(v))}" for k, v in figures[work.name].items()),
                flush=True,
            )
    return figures


def show(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(work: Work, bar: Bar, medians: dict[str, float]) -> str:
    """A bar and how it stands."""
    if bar.against not in medians or "ours" not in medians:
        return f"? {bar.against}"
    ours, other = medians["ours"], medians[bar.against]
    ratio = other / ours if work.less_is_better else ours / other
    return f"{show(ratio)} × {bar.against} (bar {bar.ratio:g}{'' if ratio >= bar.ratio else ', MISSED'})"


def table(works: tuple[Work, ...], figures: Figures, names: list[str]) -> str:
    """The one table, in Markdown."""
    columns = ["floor", *names]
    rows = [["work", "unit", *columns, "ratio to go", "bars"]]
    for work in works:
        medians = {name: median(values) for name, values in figures[work.name].items() if values}
        bars = [verdict(work, bar, medians) for bar in work.bars]
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("-n", "--repetitions", type=int, default=5, help="rounds of each work (default 5)")
    parser.add_argument("-w", "--work", action="append", help="only works whose name contains this; may be repeated")
    parser.add_argument("-i", "--implementation", action="append", choices=list(IMPLEMENTATIONS), help="only these")
    options = parser.parse_args()
    works = tuple(work for work in WORKS if not options.work or any(part in work.name for part in options.work))
    names = options.implementation or [name for name in IMPLEMENTATIONS if "uvloop" not in name or has_uvloop()]
    figures = measure(works, names, options.repetitions)
    result = table(works, figures, names)
    print(f"\nMedians of {options.repetitions}; two processes each; in `bars`, more is better.\n\n{result}")
    return int("MISSED" in result)


if __name__ == "__main__":
    sys.exit(main())
