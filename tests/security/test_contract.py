"""Noise and TLS keep the same contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.tls import TlsTransport, openssl
from py_p2pstack.testing.contracts import SECURITY, SecurityCase
from tests.security.tls.certificates import NOW

TLS = SecurityCase(lambda key: TlsTransport(key, wall_clock=lambda: NOW))
CASES = {"noise": SecurityCase(NoiseTransport), "tls": TLS, "tls by public calls": TLS}


@pytest.mark.parametrize("claim", SECURITY, ids=lambda claim: str(claim.__name__))
@pytest.mark.parametrize("name", CASES)
def test_contract(name: str, claim: Callable[[SecurityCase], None], monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "tls by public calls":
        monkeypatch.setattr(openssl, "has_direct", False)
    claim(CASES[name])


def test_the_pyopenssl_installed_lets_openssl_use_our_own_buffers() -> None:
    """Else TLS works, a tenth slower: see whether `openssl.Direct` can be mended."""
    assert openssl.has_direct
