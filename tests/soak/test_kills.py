"""The kills in short: what was acknowledged is there after every kill -9."""

from __future__ import annotations

from pathlib import Path

from tests.soak import kills


def test_a_store_killed_at_random_moments_loses_nothing_it_acknowledged(tmp_path: Path, anyio_backend: str) -> None:
    outcome = kills.kill_store(tmp_path, 8, seed=1, backend=anyio_backend)
    assert outcome.good, (outcome, outcome.lost)
    assert outcome.kills == 8
    assert outcome.acknowledged > 50


def test_a_dht_server_killed_at_random_moments_serves_every_value_it_acknowledged(
    tmp_path: Path, anyio_backend: str
) -> None:
    outcome = kills.kill_node(tmp_path, 4, seed=1, backend=anyio_backend)
    assert outcome.good, (outcome, outcome.lost)
    assert outcome.kills == 4
    assert outcome.acknowledged > 5
    assert outcome.checked >= outcome.acknowledged / 2
