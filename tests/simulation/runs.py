"""Runs scenarios, each in a process of its own, and writes down what came of them: JSON, and a picture for the docs."""

from __future__ import annotations

import gc
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.simulation import picture
from tests.simulation.scenarios import SCENARIOS, Outcome, run

DOCS = Path(__file__).parents[2] / "docs"
LONGEST_FIRST = ("churn-20", "quiet", "partition", "churn-10", "churn-5", "churn-1", "sybils", "liars", "loss")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario, and what it cost."""

    outcome: Outcome
    wall_seconds: float
    cpu_seconds: float

    def __str__(self) -> str:
        outcome = self.outcome
        verdict = f"MISSED {', '.join(outcome.missed)}" if outcome.missed else "good"
        figures = "".join(f"\n    {name} {value:g}" for name, value in outcome.figures.items())
        return (
            f"{outcome.scenario}: {verdict}; {outcome.nodes} nodes, seed {outcome.seed}, "
            f"{outcome.virtual_seconds:.0f} virtual s in {self.wall_seconds:.0f} s ({self.cpu_seconds:.0f} s of CPU), "
            f"log {outcome.digest[:16]}{figures}"
        )


def run_one(name: str, nodes: int, seed: int, backend: str) -> Run:
    """Run one scenario in this process."""
    logging.getLogger("py_p2pstack").setLevel(logging.ERROR)  # peers that crash and lie are what it is about
    gc.set_threshold(8_000_000, 2, 0)  # a thousand nodes are too many objects to look through over and over
    wall, cpu = time.monotonic(), time.process_time()
    outcome = run(SCENARIOS[name], nodes=nodes, seed=seed, backend=backend)
    return Run(outcome, round(time.monotonic() - wall, 1), round(time.process_time() - cpu, 1))


def run_all(
    names: Sequence[str], *, nodes: int, seed: int, backend: str = "asyncio", jobs: int | None = None
) -> Iterator[Run]:
    """Run scenarios side by side, as many as there are processors, and give out each as it ends."""
    ordered = sorted(names, key=LONGEST_FIRST.index)
    workers = min(jobs or os.cpu_count() or 1, len(ordered))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for each in as_completed([pool.submit(run_one, name, nodes, seed, backend) for name in ordered]):
            yield each.result()


def write_down(runs: Sequence[Run]) -> None:
    """Merge runs into `docs/simulation.json` and draw `docs/simulation.svg` of all that is there."""
    path = DOCS / "simulation.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for each in runs:
        entry = asdict(each.outcome) | {"bars": SCENARIOS[each.outcome.scenario].bars}
        known[each.outcome.scenario] = entry | {"wall_seconds": each.wall_seconds, "cpu_seconds": each.cpu_seconds}
    known = {name: known[name] for name in SCENARIOS if name in known}
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    (DOCS / "simulation.svg").write_text(picture.draw(known), encoding="utf-8")
