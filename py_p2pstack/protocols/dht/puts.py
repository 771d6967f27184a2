"""Having values kept by the peers nearest to their keys.

go-libp2p asks the k nearest twice: whether they are there, and to keep the value. Here the second shows the first as
well: as soon as the β nearest have answered, whoever is then known to be among the k nearest is asked to keep it. Only
if one of them does not, or if the key is crowded, is the lookup made whole, and those are asked whom it finds besides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import anyio

from py_p2pstack.errors import DialError, InvalidRecord, LookupFailure, OperationTimeout, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht import rfc3339
from py_p2pstack.protocols.dht.codec import Message, MessageType, Record
from py_p2pstack.protocols.dht.events import DialingPeer, FinalPeer, PeerResponse, QueryError, SendingQuery
from py_p2pstack.protocols.dht.local_node import LocalNode
from py_p2pstack.protocols.dht.lookups import Lookups
from py_p2pstack.protocols.dht.operations import Operation

Faults: TypeAlias = dict[PeerId, P2PError]
"""Who did not confirm that it keeps a value: an InvalidRecord is a refusal, an OperationTimeout silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """What became of a put."""

    key: bytes
    replicas: tuple[PeerId, ...]
    """Who confirmed that it keeps the value, nearest to the key first. We are not among them."""
    asked: tuple[PeerId, ...]
    """Who was asked to: the k nearest, others instead of those that did not, the wider region if the key is crowded."""
    refused: Mapping[PeerId, str]
    """Who does not keep it, and why."""


class Puts:
    """Asks peers to keep values."""

    def __init__(self, node: LocalNode, lookups: Lookups, wall_clock: Callable[[], float]) -> None:
        self._node = node
        self._config = node.config
        self._lookups = lookups
        self._wall_clock = wall_clock

    async def at_nearest(self, operation: Operation, value: bytes, *, timeout: float | None) -> PutResult:
        """Look up the k nearest, and ask them to keep a value.

        Raises LookupFailure (nobody to ask), OperationTimeout.
        """
        end = anyio.current_time() + (self._config.lookup_timeout if timeout is None else timeout)
        asked, faults = await self._at_first_sight(operation, value, end)
        if not asked or not all(isinstance(fault, InvalidRecord) for fault in faults.values()):
            gone = [peer for peer, fault in faults.items() if isinstance(fault, (DialError, OperationTimeout))]
            for peer in gone:
                self._node.failed(peer)
            try:
                nearest = await self._nearest(operation, end, without=gone)
            except (LookupFailure, OperationTimeout):
                if len(faults) == len(asked):
                    raise
                nearest = ()
            rest = [peer for peer in nearest if peer not in asked]
            faults |= await self._ask(operation, value, rest, end)
            asked = sorted((*asked, *rest), key=lambda peer: self._node.key_of(peer) ^ operation.target)
        return _result(operation.key, asked, faults)

    async def _at_first_sight(self, operation: Operation, value: bytes, end: float) -> tuple[Sequence[PeerId], Faults]:
        """Ask the k nearest as they are known when the β nearest have answered; nobody where more is to be known."""
        if self._config.security.disjoint_paths == 1:
            nearest = await self._nearest(operation, end, brief=True)
            if self._lookups.crowded_region(operation.target, nearest) is None:
                return nearest, await self._ask(operation, value, nearest, end)
        return (), {}

    async def _nearest(
        self, operation: Operation, end: float, *, brief: bool = False, without: Collection[PeerId] = ()
    ) -> Sequence[PeerId]:
        request = Message(type=MessageType.FIND_NODE, key=operation.key)
        left = end - anyio.current_time()
        _, found = await self._lookups.run(
            operation, request, timeout=left, whole_region=not brief, brief=brief, without=without
        )
        return found.peers

    async def at(self, operation: Operation, value: bytes, peers: Sequence[PeerId]) -> PutResult:
        """Ask all `peers` to keep a value, within `put_timeout`."""
        faults = await self._ask(operation, value, peers, anyio.current_time() + self._config.put_timeout)
        return _result(operation.key, peers, faults)

    async def _ask(self, operation: Operation, value: bytes, peers: Sequence[PeerId], end: float) -> Faults:
        """Ask them all at once, within `put_timeout` and until `end`."""
        for peer in peers:
            operation.tell_of(FinalPeer, peer)
        stamp = rfc3339.format(int(self._wall_clock() * rfc3339.SECOND))
        record = Record(key=operation.key, value=value, time_received=stamp)  # js-libp2p reads none without a time
        request = Message(type=MessageType.PUT_VALUE, key=operation.key, record=record)
        silence = OperationTimeout("no answer in time")
        faults: Faults = dict.fromkeys(peers, silence)
        with anyio.move_on_after(min(end - anyio.current_time(), self._config.put_timeout)):
            async with anyio.create_task_group() as tasks:
                for peer in peers:
                    tasks.start_soon(self._put_to, operation, peer, request, faults)
        return faults

    async def _put_to(self, operation: Operation, peer: PeerId, request: Message, faults: Faults) -> None:
        try:
            if not self._node.is_connected(peer):
                operation.tell_of(DialingPeer, peer)
                await self._node.dial(peer)
            operation.tell_of(SendingQuery, peer)
            start = operation.now()
            answer = await self._node.messenger.request(peer, request)
            operation.tell_of(PeerResponse, peer, closer=(), rtt=operation.now() - start)
            assert request.record is not None
            if answer.record is None or answer.record.value != request.record.value:
                raise InvalidRecord("it does not confirm the value: it has one that it takes for better")
            del faults[peer]
        except P2PError as fault:
            faults[peer] = fault
            operation.tell(QueryError, peer=peer, reason=_text(fault))


def _result(key: bytes, asked: Sequence[PeerId], faults: Faults) -> PutResult:
    return PutResult(
        key=key,
        replicas=tuple(peer for peer in asked if peer not in faults),
        asked=tuple(asked),
        refused={peer: _text(fault) for peer, fault in faults.items()},
    )


def _text(fault: P2PError) -> str:
    return str(fault) or type(fault).__name__


def shortfall(result: PutResult, quorum: int) -> str:
    """What is wrong with a put whose quorum was not reached."""
    reasons = "".join(f"\n  {peer}: {reason}" for peer, reason in result.refused.items())
    wanted = f"{len(result.replicas)} of {max(quorum, 1)} replicas written"
    return f"{wanted}, {len(result.asked)} peers asked{reasons}"
