"""Claims about networks of full hosts: everybody enters, everybody is found, and the same seed tells the same story."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.network import run


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_same_seed_gives_the_same_log_in_a_process_with_other_hashes(backend: str) -> None:
    program = (
        f"from tests.simulation.network import run\nprint(run(12, seed=7, backend={backend!r}, searches=10).digest)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run(12, seed=7, backend=backend, searches=10).digest == there.stdout.strip()


def test_another_seed_gives_another_log() -> None:
    assert run(8, seed=1, backend="asyncio", searches=5).digest != run(8, seed=2, backend="asyncio", searches=5).digest


def test_twenty_four_hosts_join_refresh_and_find_each_other() -> None:
    """`python -m tests.soak` runs two hundred."""
    record = run(24, seed=3, backend="asyncio", searches=60)
    bootstrapped = [entry for entry in record.entries if entry.what.startswith("bootstrapped")]
    found = [entry for entry in record.entries if entry.what.startswith("found")]
    assert (len(bootstrapped), len(found)) == (24, 60)
    assert all(int(entry.what.rpartition(" ")[2]) >= 1 for entry in bootstrapped[1:])  # the first had nobody to ask
