"""One dial per peer at a time: whoever asks meanwhile waits for the same one; it ends when nobody waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from typing import Generic, Protocol, TypeVar

import anyio

from py_p2pstack.errors import NetworkError
from py_p2pstack.identity import PeerId
from py_p2pstack.workers import WorkerPool


class _Closeable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closeable)


class _Flight(Generic[C]):
    __slots__ = ("connection", "done", "fault", "peer", "scope", "waiters")

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.waiters = 0
        self.connection: C | None = None
        self.fault: Exception | None = None


class DialSync(Generic[C]):
    """Joins concurrent dials of the same peer; `dial` is run by one of `workers`."""

    def __init__(self, workers: WorkerPool, dial: Callable[[PeerId], Awaitable[C]]) -> None:
        self._workers = workers
        self._dial = dial
        self._flights: dict[PeerId, _Flight[C]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def dial(self, peer: PeerId) -> C:
        """Wait for a connection to `peer`. Raises what the dial raised."""
        flight = self._flights.get(peer)
        if flight is None:
            flight = self._flights[peer] = _Flight(peer)
            self._workers.run(self._run, flight)
        flight.waiters += 1
        try:
            await flight.done.wait()
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.done.is_set():
                self._forget(flight)
                flight.scope.cancel()
        if flight.connection is None:
            fault = flight.fault or NetworkError("the network is closing")
            raise copy(fault).with_traceback(fault.__traceback__)
        return flight.connection

    async def _run(self, flight: _Flight[C]) -> None:
        try:
            with flight.scope:
                flight.connection = await self._dial(flight.peer)
                if flight.scope.cancel_called:  # too late to stop it, and nobody wants it any more
                    flight.connection.close()
        except Exception as fault:  # noqa: BLE001 - the boundary that tells a dial's fault to its callers alone
            flight.fault = fault
        finally:
            self._forget(flight)
            flight.done.set()
            del flight  # which holds the fault, which holds this frame

    def _forget(self, flight: _Flight[C]) -> None:
        if self._flights.get(flight.peer) is flight:
            del self._flights[flight.peer]
