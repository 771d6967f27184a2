"""QUIC keeps the contract of muxed connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from py_p2pstack.testing.contracts import MUXER, MuxerCase
from py_p2pstack.testing.contracts.muxer_case import PATIENCE
from py_p2pstack.testing.contracts.muxer_ends import what_was_sent_before_a_close_arrives
from py_p2pstack.transports.quic import QuicConfig
from tests.transports.quic.pairs import connected

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("claim", MUXER, ids=lambda claim: str(claim.__name__))
async def test_contract(claim: Callable[[MuxerCase], Awaitable[None]]) -> None:
    # A close of ours waits a second at most, and a machine with much else to do may need it all to itself.
    config = QuicConfig(flush_timeout=PATIENCE) if claim is what_was_sent_before_a_close_arrives else None
    await claim(MuxerCase(connect=lambda: connected(config)))
