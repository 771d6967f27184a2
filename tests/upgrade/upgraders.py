"""Upgraders for tests, whose muxed connections keep what they were built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import anyio.lowlevel

from py_p2pstack.core.muxer import ConnectionInfo, MemoryBudget, MuxedStream, MuxerFactory
from py_p2pstack.core.security import RecordLayer, SecurityTransport
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Direction
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.security.noise import NoiseHandshake, NoiseTransport
from py_p2pstack.upgrade.negotiate import RawPipe
from py_p2pstack.upgrade.upgrader import Upgrader, UpgraderConfig
from tests.upgrade.pipes import PipeEnd, raw_pair

ALICE = PrivateKey.from_seed(b"alice".ljust(32))
BOB = PrivateKey.from_seed(b"bob".ljust(32))
ALICE_ID, BOB_ID = ALICE.public_key.peer_id(), BOB.public_key.peer_id()
YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"


class Muxed:
    """A muxed connection that keeps what it was built from."""

    def __init__(
        self,
        *,
        raw: RawConnection,
        records: RecordLayer,
        unread: bytes,
        early_plaintext: bytes,
        unsent: bytes,
        info: ConnectionInfo,
    ) -> None:
        self.unsent = unsent[raw.send_nowait(unsent) :] if unsent else b""
        self.raw = raw
        self.records = records
        self.unread = unread
        self.early_plaintext = early_plaintext
        self.info = info
        self.closed = False
        self.close_reason: Exception | None = None
        self.rtt: float | None = None

    async def open_stream(self) -> MuxedStream:
        raise NotImplementedError

    def tick(self, now: float) -> None:
        raise NotImplementedError

    async def serve(self, handler: Callable[[MuxedStream], bool], budget: MemoryBudget | None = None) -> None:
        raise NotImplementedError

    def close(self, code: int = 0) -> None:
        self.closed = True
        self.raw.close()


class LateMuxers(NoiseTransport):
    """Noise without early muxer negotiation."""

    def handshake(self, *, initiator: bool, peer: PeerId | None, muxers: Sequence[str]) -> NoiseHandshake:
        return super().handshake(initiator=initiator, peer=peer, muxers=())


class OtherNoise(NoiseTransport):
    """A security protocol that only some speak."""

    protocol = "/other-noise"


def upgrader(
    key: PrivateKey,
    *,
    securities: Sequence[SecurityTransport] | None = None,
    muxers: Sequence[str] = (YAMUX,),
    timeout: float = 10.0,
    pending: int = 256,
    factory: MuxerFactory = Muxed,
) -> Upgrader:
    return Upgrader(
        local_peer=key.public_key.peer_id(),
        securities=[NoiseTransport(key)] if securities is None else securities,
        muxers=dict.fromkeys(muxers, factory),
        config=UpgraderConfig(handshake_timeout=timeout, max_pending_inbound=pending),
    )


async def outbound(up: Upgrader, raw: RawConnection, peer: PeerId | None = BOB_ID) -> Muxed:
    muxed = await up.upgrade(raw, Direction.OUTBOUND, transport="memory", peer=peer)
    assert isinstance(muxed, Muxed)
    await RawPipe(raw).send(muxed.unsent)
    return muxed


async def inbound(up: Upgrader, raw: RawConnection) -> Muxed:
    muxed = await up.upgrade(raw, Direction.INBOUND, transport="memory")
    assert isinstance(muxed, Muxed)
    await RawPipe(raw).send(muxed.unsent)
    return muxed


async def upgrade_both(
    alice: Upgrader, bob: Upgrader, ends: tuple[PipeEnd, PipeEnd] | None = None
) -> tuple[Muxed, Muxed]:
    raw_alice, raw_bob = ends or raw_pair()
    done: list[Muxed] = []

    async def listen() -> None:
        done.append(await inbound(bob, raw_bob))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        done.insert(0, await outbound(alice, raw_alice))
    return done[0], done[-1]


def seal(records: RecordLayer, plaintext: bytes) -> bytes:
    out = bytearray(len(plaintext) + records.overhead)
    return bytes(out[: records.seal_into(plaintext, memoryview(out))])
