"""The scenarios with few nodes: short forms of what `python -m tests.soak --simulation` plays with a thousand."""

from __future__ import annotations

import gc
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.simulation import picture
from tests.simulation.scenarios import SCENARIOS, run


@pytest.mark.parametrize("name", ["quiet", "loss", "liars", "sybils"])
def test_a_small_network_reaches_the_bars_of_a_large_one(name: str) -> None:
    assert run(SCENARIOS[name], nodes=24, seed=1).missed == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_same_seed_gives_the_same_log_wherever_objects_lie_in_memory(backend: str) -> None:
    """What is walked through remembers the order of its coming: an address in memory decides nothing."""
    thresholds, digests = gc.get_threshold(), set()
    try:
        for often in (200, 1_000_000):  # objects are cleared away, and their places used again, at other times
            gc.set_threshold(often, 5, 5)
            digests.add(run(SCENARIOS["churn-20"], nodes=12, seed=3, backend=backend).digest)
    finally:
        gc.set_threshold(*thresholds)
    assert len(digests) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_same_seed_gives_the_same_log_in_another_process(backend: str) -> None:
    program = (
        "from tests.simulation.scenarios import SCENARIOS, run\n"
        f"print(run(SCENARIOS['loss'], nodes=12, seed=5, backend={backend!r}).digest)"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert run(SCENARIOS["loss"], nodes=12, seed=5, backend=backend).digest == there


def test_the_picture_shows_every_scenario() -> None:
    outcomes = {
        name: {
            "figures": {
                f"{what}_percent": 99.0,
                f"{what}_seconds_median": 1.0,
                f"{what}_seconds_p95": 400.0,
                f"{what}_tries": 7,
            },
            "bars": scenario.bars,
            "missed": [],
            "nodes": 1000,
        }
        for name, scenario in SCENARIOS.items()
        for what in (("gets" if "gets_percent" in scenario.bars else "lookups"),)
    }
    texts = [element.text for element in ElementTree.fromstring(picture.draw(outcomes)).iter() if element.text]
    assert {f"{name}, 1000" for name in SCENARIOS} <= set(texts)
