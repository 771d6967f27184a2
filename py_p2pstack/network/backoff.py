"""Which addresses failed lately, and how long each is left alone: quadratic backoff per peer and address.

After the n-th failure in a row an address rests 5 s + 1 s · (n-1)², at most 5 min (go-libp2p:
swarm.DialBackoff). A failure is forgotten when the address works, or once it has rested twice as long without
another attempt.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.identity import PeerId

_SWEEP = 4  # entries looked at for each one added: the map empties itself without a task


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffConfig:
    """The knobs of backoff."""

    base: float = 5.0
    """Seconds of rest after the first failure (go-libp2p: BackoffBase)."""
    coefficient: float = 1.0
    """Seconds added, times the square of the failures before (go-libp2p: BackoffCoef)."""
    maximum: float = 300.0
    """The longest rest in seconds (go-libp2p: BackoffMax)."""
    max_entries: int = 16_384
    """Addresses remembered in all; the longest untouched goes first. Ours: go bounds them by time alone."""


class _Failure:
    __slots__ = ("forget_at", "tries", "until")

    def __init__(self) -> None:
        self.tries = 0
        self.until = 0.0
        self.forget_at = 0.0


class AddressBackoff:
    """Remembers failed dials. Pure: `now` is monotonic time in seconds."""

    __slots__ = ("_config", "_failures")

    def __init__(self, config: BackoffConfig | None = None) -> None:
        self._config = config or BackoffConfig()
        self._failures: OrderedDict[tuple[PeerId, Multiaddr], _Failure] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def retry_after(self, peer: PeerId, address: Multiaddr, now: float) -> float:
        """Seconds until `peer` may be dialled at `address` again; 0 if it may be now."""
        failure = self._failures.get((peer, address))
        return 0.0 if failure is None else max(0.0, failure.until - now)

    def add(self, peer: PeerId, address: Multiaddr, now: float) -> float:
        """Note that dialling `peer` at `address` failed; returns for how many seconds it now rests."""
        config = self._config
        self.collect(now, limit=_SWEEP)
        key = (peer, address)
        failure = self._failures.get(key)
        if failure is None or failure.forget_at <= now:
            failure = self._failures[key] = _Failure()
        self._failures.move_to_end(key)
        rest = min(config.base + config.coefficient * failure.tries**2, config.maximum)
        failure.tries += 1
        failure.until = now + rest
        failure.forget_at = failure.until + rest
        if len(self._failures) > config.max_entries:
            self._failures.popitem(last=False)
        return rest

    def clear(self, peer: PeerId, address: Multiaddr | None = None) -> None:
        """Forget the failures of `address`, or of all addresses of `peer`: it works."""
        if address is not None:
            self._failures.pop((peer, address), None)
            return
        for key in [key for key in self._failures if key[0] == peer]:
            del self._failures[key]

    def collect(self, now: float, *, limit: int = 1024) -> int:
        """Forget what has rested long enough among the `limit` longest untouched; returns how many."""
        count = 0
        for _ in range(min(limit, len(self._failures))):
            key, failure = next(iter(self._failures.items()))
            if failure.forget_at > now:
                break
            del self._failures[key]
            count += 1
        return count
