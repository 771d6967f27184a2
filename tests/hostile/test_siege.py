"""Attackers of all kinds at once, on TCP, while honest peers work (the long form is `python -m tests.soak`)."""

from __future__ import annotations

import math

import pytest

from tests.soak import siege

pytestmark = pytest.mark.anyio


async def test_honest_peers_are_served_under_siege() -> None:
    outcome = await siege.besiege(math.inf, seed=1, enough=lambda seen: seen.attacks >= 20 and seen.operations >= 8)
    assert outcome.share >= siege.SHARE, outcome.failed
