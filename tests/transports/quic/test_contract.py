"""QUIC keeps the contract of muxed connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from py_p2pstack.testing.contracts import MUXER, MuxerCase
from tests.transports.quic.pairs import connected

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("claim", MUXER, ids=lambda claim: str(claim.__name__))
async def test_contract(claim: Callable[[MuxerCase], Awaitable[None]]) -> None:
    await claim(MuxerCase(connect=connected))
