"""Attackers of all kinds at once, on TCP, while honest peers work (the long form is `python -m tests.soak`)."""

from __future__ import annotations

import pytest

from tests.soak import siege

pytestmark = pytest.mark.anyio


async def test_honest_peers_are_served_under_siege() -> None:
    outcome = await siege.besiege(1.5, seed=1)
    assert outcome.attacks > 5  # how many fit in depends on the machine; that all honest work succeeds does not
    assert outcome.done > 2
    assert outcome.share >= siege.SHARE, outcome.failed
