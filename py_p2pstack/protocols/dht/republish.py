"""Puts again what we publish before others forget it, and forgets what others left with us."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256
from random import Random

import anyio

from py_p2pstack.errors import P2PError, StorageError
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.storage import StoredValue, ValueStore
from py_p2pstack.protocols.dht.values import Values

logger = logging.getLogger(__name__)

PAGE = 100


class Republisher:
    """Keeps what is stored in time: every value we publish is put again each `republish_interval`, give or take.

    When each was put last is stored with it, so a node that was off for a day catches up after it starts.
    """

    def __init__(
        self, values: Values, store: ValueStore, config: DhtConfig, rng: Random, wall_clock: Callable[[], float]
    ) -> None:
        self.republished = 0
        """How many values were put again."""
        self._values = values
        self._store = store
        self._config = config
        self._wall_clock = wall_clock
        self._rng = rng
        self._salt = rng.randbytes(8)

    async def run(self) -> None:
        """Republish what is due, over and over, until cancelled."""
        while True:
            # Not all at once behind a power cut that hit a whole street.
            await anyio.sleep(self._config.republish_check * self._rng.uniform(0.5, 1.0))
            try:
                await self.republish()
            except StorageError as fault:
                logger.warning("what we publish cannot be read: %s", fault)

    async def collect_garbage(self) -> None:
        """Remove what is too old, every `value_gc_interval`, until cancelled."""
        while True:
            await anyio.sleep(self._config.value_gc_interval)
            try:
                logger.debug("%d old values removed", await self._store.collect_garbage())
            except StorageError as fault:
                logger.warning("old values cannot be removed: %s", fault)

    async def republish(self) -> None:
        """Put again what is due, a few at a time. Raises StorageError."""
        after: bytes | None = None
        while True:
            page = await self._store.published(after, PAGE)
            due = [(key, stored) for key, stored in page if self._wall_clock() >= self._due(key, stored)]
            limiter = anyio.CapacityLimiter(self._config.max_republishing)
            async with anyio.create_task_group() as tasks:
                for key, stored in due:
                    tasks.start_soon(self._republish, key, stored, limiter)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def _due(self, key: bytes, stored: StoredValue) -> float:
        """When a value is to be put again: spread, so that what was put together drifts apart."""
        config = self._config
        spread = sha256(self._salt + key + str(stored.received).encode()).digest()
        share = int.from_bytes(spread[:4], "big") / 2**32
        return stored.received + config.republish_interval + share * config.republish_spread

    async def _republish(self, key: bytes, stored: StoredValue, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            try:
                if await self._values.republish(key, stored.value):
                    self.republished += 1
            except P2PError as fault:
                logger.info("%r could not be republished, and will be tried again: %s", key, fault)
