"""From a peer id to a finished connection: which addresses, in which order, at which pace, and what became of each.

The order and pace are `dial_ranker`'s (happy eyeballs); this file follows the schedule: an attempt starts when its time
has come, or at once when nothing is in flight any more; the first success ends the race.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from py_p2pstack.addresses import Multiaddr, is_dns, is_public
from py_p2pstack.core.muxer import MuxedConnection
from py_p2pstack.core.peerstore import Peerstore
from py_p2pstack.core.transport import Transport
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import (
    DialBackoff,
    DialError,
    Gated,
    OperationTimeout,
    P2PError,
    ResourceLimitExceeded,
    UnsupportedAddress,
)
from py_p2pstack.identity import PeerId
from py_p2pstack.network import dial_ranker
from py_p2pstack.network.backoff import AddressBackoff
from py_p2pstack.network.black_hole import BlackHoleDetector
from py_p2pstack.network.config import SwarmConfig
from py_p2pstack.network.gater import ConnectionGater
from py_p2pstack.network.resolver import Resolver
from py_p2pstack.network.resources import ConnectionScope, ResourceManager


@dataclass(slots=True)
class _Race:
    """What the attempts at one peer share."""

    peer: PeerId
    limiter: anyio.Semaphore
    attempts: list[tuple[Multiaddr, BaseException]]
    in_flight: int = 0
    winner: tuple[MuxedConnection, ConnectionScope] | None = None
    changed: anyio.Event = field(default_factory=anyio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    def note(self, address: Multiaddr, fault: BaseException) -> None:
        """Remember why an address failed; not where: frames hold us, and all that they dealt with."""
        self.attempts.append((address, fault.with_traceback(None)))


class Dialer:
    """Dials peers. Stateless between dials but for backoff, black-hole memory and the bound on attempts in flight."""

    def __init__(
        self,
        *,
        local_peer: PeerId,
        transports: Sequence[Transport],
        peerstore: Peerstore,
        resolver: Resolver,
        gater: ConnectionGater,
        resources: ResourceManager,
        config: SwarmConfig,
    ) -> None:
        self._local_peer = local_peer
        self._transports = tuple(transports)
        self._peerstore = peerstore
        self._resolver = resolver
        self._gater = gater
        self._resources = resources
        self._config = config
        self._limiter = anyio.Semaphore(config.max_parallel_dials, fast_acquire=True)
        self.backoff = AddressBackoff()
        self.black_holes = BlackHoleDetector()

    def transport_for(self, address: Multiaddr) -> Transport | None:
        """The first transport that can dial `address`."""
        return next((transport for transport in self._transports if transport.can_dial(address)), None)

    async def dial(self, peer: PeerId) -> tuple[MuxedConnection, ConnectionScope]:
        """Connect to `peer` at one of its known addresses.

        The caller owns the connection and its scope. Raises DialError, which tells for each address why it did not
        do. A cancelled dial leaves nothing open.
        """
        if peer == self._local_peer:
            raise DialError(peer, (), "that is ourselves")
        if not self._gater.intercept_peer_dial(peer):
            raise DialError(peer, (), "the connection gater refused the peer")
        race = _Race(peer, anyio.Semaphore(self._config.max_parallel_dials_per_peer, fast_acquire=True), [])
        with anyio.move_on_after(self._config.dial_peer_timeout) as scope:
            candidates = self._screen(race, await self._resolve(race))
            await self._run(race, dial_ranker.rank(candidates))
        if race.winner is None:
            reason = "timed out" if scope.cancelled_caught else "" if race.attempts else "no known addresses"
            raise DialError(peer, race.attempts, reason)
        return race.winner

    # --- which addresses --------------------------------------------------------------------------

    async def _resolve(self, race: _Race) -> list[Multiaddr]:
        """The peer's addresses with names turned into numbers."""
        resolved: dict[Multiaddr, None] = {}
        for address in self._peerstore.addresses(race.peer):
            if not is_dns(address):
                resolved[address] = None
                continue
            try:
                found = await self._resolver.resolve(address.with_peer(race.peer))
            except (P2PError, OSError) as fault:
                race.note(address, fault)
                continue
            for candidate in found:
                if candidate.peer_id() in (None, race.peer):
                    resolved[candidate.without_peer()] = None
        return list(resolved)

    def _screen(self, race: _Race, addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
        """Drop what we cannot or must not dial now, noting why."""
        now = anyio.current_time()
        dialable = []
        for address in addresses:
            wait = self.backoff.retry_after(race.peer, address, now)
            if self.transport_for(address) is None:
                race.note(address, UnsupportedAddress("no transport for it"))
            elif wait > 0:
                race.note(address, DialBackoff(wait))
            elif not self._gater.intercept_addr_dial(race.peer, address):
                race.note(address, Gated("the connection gater refused the address"))
            else:
                dialable.append(address)
        usable = self.black_holes.filter(dialable)
        race.attempts += [
            (a, Gated("this kind of address does not work from here")) for a in dialable if a not in usable
        ]
        return usable

    # --- in which order ---------------------------------------------------------------------------

    async def _run(self, race: _Race, schedule: Sequence[tuple[Multiaddr, float]]) -> None:
        if len(schedule) == 1:  # nobody to race with: no task is needed
            race.in_flight = 1
            await self._attempt(race, schedule[0][0])
            return
        start = anyio.current_time()
        try:
            async with anyio.create_task_group() as attempts:
                for address, delay in schedule[: self._config.max_addresses_per_dial]:
                    with anyio.move_on_at(start + delay):
                        while race.in_flight and race.winner is None:
                            await race.changed.wait()
                    if race.winner is not None:
                        break
                    race.in_flight += 1
                    attempts.start_soon(self._attempt, race, address)
                while race.in_flight and race.winner is None:
                    await race.changed.wait()
                attempts.cancel_scope.cancel()
        except BaseException:
            if race.winner is not None:
                connection, scope = race.winner
                race.winner = None
                connection.close()
                scope.done()
            raise

    async def _attempt(self, race: _Race, address: Multiaddr) -> None:
        start = math.inf
        try:
            async with self._limiter, race.limiter:
                start = anyio.current_time()
                dialled = await self._dial_address(race.peer, address)
        except anyio.get_cancelled_exc_class():
            now = anyio.current_time()
            if race.winner is None and now - start >= self._config.given_up_after:
                self.backoff.add(race.peer, address, now)
            raise
        except ResourceLimitExceeded as fault:  # our own fault: the address is not punished
            race.note(address, fault)
        except (P2PError, OSError) as fault:
            race.note(address, fault)
            self.backoff.add(race.peer, address, anyio.current_time())
        else:
            if race.winner is None:
                race.winner = dialled
                self.backoff.clear(race.peer, address)
            else:
                dialled[0].close()
                dialled[1].done()
        finally:
            race.in_flight -= 1
            race.tell()

    async def _dial_address(self, peer: PeerId, address: Multiaddr) -> tuple[MuxedConnection, ConnectionScope]:
        transport = self.transport_for(address)
        assert transport is not None
        config = self._config
        timeout = config.dial_timeout if is_public(address) else config.local_dial_timeout
        scope = self._resources.reserve_connection(Direction.OUTBOUND, address)
        success = False
        try:
            with anyio.fail_after(timeout):
                connection = await transport.dial(address, peer)
            success = True
        except TimeoutError:
            raise OperationTimeout(f"no connection within {timeout:g} s") from None
        finally:
            self.black_holes.record(address, success)
            if not success:
                scope.done()
        return connection, scope
