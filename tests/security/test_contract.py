"""Noise and TLS keep the same contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.tls import TlsTransport
from py_p2pstack.testing.contracts import SECURITY, SecurityCase
from tests.security.tls.certificates import NOW

CASES = {
    "noise": SecurityCase(NoiseTransport),
    "tls": SecurityCase(lambda key: TlsTransport(key, wall_clock=lambda: NOW)),
}


@pytest.mark.parametrize("claim", SECURITY, ids=lambda claim: str(claim.__name__))
@pytest.mark.parametrize("name", CASES)
def test_contract(name: str, claim: Callable[[SecurityCase], None]) -> None:
    claim(CASES[name])
