"""yamux and mplex keep the same contract, over wide and narrow pipes, noise and TLS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from py_p2pstack.core.muxer import ConnectionInfo, MuxedConnection, MuxerFactory
from py_p2pstack.core.types import Direction
from py_p2pstack.muxers.mplex import MplexConfig
from py_p2pstack.muxers.session import mplex_factory, yamux_factory
from py_p2pstack.muxers.yamux import YamuxConfig
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.tls import TlsTransport
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.contracts import MUXER, MuxerCase, SecurityCase
from py_p2pstack.testing.contracts.security_case import begin, pump
from py_p2pstack.testing.pairs import raw_pair
from tests.security.tls.certificates import NOW

YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"
MUXERS: dict[str, MuxerFactory] = {
    YAMUX: yamux_factory(YamuxConfig()),
    MPLEX: mplex_factory(MplexConfig(stall_timeout=0.3)),
}
NOISE = SecurityCase(NoiseTransport)
TLS = SecurityCase(lambda key: TlsTransport(key, wall_clock=lambda: NOW))


@asynccontextmanager
async def connect(
    muxer: str, security: SecurityCase, max_read: int | None
) -> AsyncGenerator[tuple[MuxedConnection, MuxedConnection]]:
    """Two ends over a pipe in memory, secured, as an upgrade leaves them."""
    pipes = raw_pair(max_read=max_read)
    outcomes = pump(begin(security))
    ends = []
    for number, direction in enumerate((Direction.OUTBOUND, Direction.INBOUND)):
        raw, secured = pipes[number], outcomes[number]
        info = ConnectionInfo(
            direction=direction,
            local_peer=outcomes[1 - number].remote_peer,
            remote_peer=secured.remote_peer,
            remote_public_key=secured.remote_public_key,
            local_address=raw.local_address,
            remote_address=raw.remote_address,
            transport="memory",
            security="/test",
            muxer=muxer,
        )
        make = MUXERS[muxer]
        ends.append(make(raw=raw, records=secured.records, unread=b"", early_plaintext=b"", unsent=b"", info=info))
    try:
        yield ends[0], ends[1]
    finally:
        for raw in pipes:
            raw.close()


def case(muxer: str, security: SecurityCase, max_read: int | None = None) -> MuxerCase:
    return MuxerCase(
        connect=lambda: connect(muxer, security, max_read),
        bulk=(64 << 20) if max_read is None else 256 * max_read,
        streams=1000 if max_read is None else 50,
        windows=muxer == YAMUX,
    )


CASES = {
    "yamux, noise": case(YAMUX, NOISE),
    "yamux, tls": case(YAMUX, TLS),
    "yamux, tls, in bits": case(YAMUX, TLS, 1000),
    "mplex, noise": case(MPLEX, NOISE),
    "mplex, tls, in bits": case(MPLEX, TLS, 1000),
    "yamux, tls, byte by byte": case(YAMUX, TLS, 1),
    "mplex, noise, byte by byte": case(MPLEX, NOISE, 1),
}
MEGABYTES = {  # moved on purpose, whatever the case: not byte by byte
    "a_megabyte_comes_back_and_both_sides_end",
    "a_cancelled_send_goes_out_whole_or_not_at_all",
    "a_sender_waits_for_its_reader",
    "a_stream_nobody_reads_holds_up_no_other",
    "a_reset_wakes_a_waiting_sender",
    "every_waiter_wakes_when_the_connection_ends",
    "a_close_in_the_midst_of_everything_ends_everything",
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("claim", "name"),
    [
        pytest.param(claim, name, id=f"{claim.__name__}, {name}")
        for claim in MUXER
        for name in CASES
        if "byte by byte" not in name or claim.__name__ not in MEGABYTES
    ],
)
def test_contract(claim: Callable[[MuxerCase], Awaitable[None]], name: str, backend: str) -> None:
    virtual_time.run(claim, CASES[name], backend=backend)
