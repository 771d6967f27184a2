"""A week of a small network: the short form of the month that `python -m tests.soak` plays."""

from __future__ import annotations

from tests.simulation import months


def test_nodes_that_run_for_days_hold_no_more_at_the_end_and_lose_nothing_they_keep_alive() -> None:
    seen = months.run(8, nodes=5, refresh=6 * months.HOUR)
    assert seen.lost == []
    assert seen.growth < 1.1
