"""The liar at a QUIC endpoint, in short."""

from __future__ import annotations

import pytest

from tests.soak import quic


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_endpoint_survives_any_datagram(backend: str) -> None:
    outcome = quic.run(5000, seed=1, backend=backend)
    assert outcome.sent.total() == 5000
    assert len(outcome.sent) == 9  # every kind of lie
    assert outcome.arrived > 100  # some of them cost us the beginning of a handshake
    assert (outcome.echoes, outcome.dials) == (5, 1)
