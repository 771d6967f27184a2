"""Names in addresses: `/dns`, `/dns4`, `/dns6` become IP addresses, `/dnsaddr` the addresses a zone lists.

What a zone lists is a stranger's word: how deep it may refer on, how many lookups one address may cost and
how many addresses it may yield are bounded, and whatever leads to another peer than the one asked for is
dropped. Source: multiformats/multiaddr, DNSADDR; go-multiaddr-dns.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio

from py_p2pstack.addresses import Multiaddr, is_dns
from py_p2pstack.errors import InvalidAddress, ResolutionError
from py_p2pstack.network.dns_lookup import DnsLookup

logger = logging.getLogger(__name__)

_PREFIX = "dnsaddr="
_SECURE_WEBSOCKET = re.compile(r"^(/tcp/\d+)(?:/wss|/tls/ws)(?=/|$)")


class Resolver(Protocol):
    """From an address with a name in it to addresses that can be dialled."""

    async def resolve(self, address: Multiaddr) -> list[Multiaddr]:
        """Resolve until no name is left. Raises ResolutionError when nothing comes of it."""
        ...


class Lookup(Protocol):
    """One question to a name service; an unknown name has no answers."""

    async def addresses(self, name: str, version: int) -> Sequence[str]:
        """The IP addresses of `version` 4 or 6. Raises ResolutionError."""
        ...

    async def texts(self, name: str) -> Sequence[str]:
        """The TXT records. Raises ResolutionError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverConfig:
    """Bounds on resolving one address; depth and results are go-libp2p's."""

    max_depth: int = 4
    """Steps from the address asked for to one without a name."""
    max_results: int = 100
    """Addresses that come of it; the first ones listed are kept."""
    max_lookups: int = 64
    """Questions asked, all steps together."""
    max_parallel: int = 8
    """Names looked up at a time."""
    timeout: float = 10.0
    """Seconds for all of it; what was found by then is used."""


class AddressResolver:
    """Implements `Resolver` over a `Lookup`. Keeps nothing between calls."""

    def __init__(self, lookup: Lookup, config: ResolverConfig | None = None) -> None:
        self._lookup = lookup
        self._config = config or ResolverConfig()

    async def resolve(self, address: Multiaddr) -> list[Multiaddr]:
        """Resolve until no name is left; an address without one is returned as it is.

        What stands behind a `/dnsaddr/<name>` (say `/p2p/<peer id>`) must also end whatever its zone lists,
        or it is dropped. Results stand where the address they came of stood. Raises ResolutionError when
        not one address comes of it; the faults of single names are told only then.
        """
        if not is_dns(address):
            return [address]
        run = _Run(self._lookup, self._config)
        with anyio.move_on_after(self._config.timeout) as scope:
            await run.expand(address)
        if not run.results:
            reasons = [str(fault) for fault in run.faults]
            if scope.cancelled_caught:
                reasons.append(f"no answer within {self._config.timeout:g} s")
            raise ResolutionError(address, "; ".join(reasons) or "no usable addresses")
        for fault in run.faults:
            logger.debug("resolving %s: %s", address, fault)
        return run.results


class DnsResolver(AddressResolver):
    """Resolves by DNS, as the system is configured or from the `nameservers` given as (IP address, port)."""

    def __init__(
        self, config: ResolverConfig | None = None, *, nameservers: Sequence[tuple[str, int]] | None = None
    ) -> None:
        super().__init__(DnsLookup(nameservers), config)


class StaticResolver(AddressResolver):
    """Resolves from tables: for tests, simulations and hosts without DNS. By the same rules as DNS."""

    def __init__(
        self,
        *,
        addresses: Mapping[str, Sequence[str]] | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        config: ResolverConfig | None = None,
    ) -> None:
        """`addresses`: name → IP addresses; `texts`: name (with its `_dnsaddr.`) → TXT records."""
        super().__init__(_Tables(addresses or {}, texts or {}), config)


@dataclass(frozen=True, slots=True)
class _Tables:
    by_name: Mapping[str, Sequence[str]]
    text_by_name: Mapping[str, Sequence[str]]

    async def addresses(self, name: str, version: int) -> Sequence[str]:
        return [ip for ip in self.by_name.get(name, ()) if (":" in ip) == (version == 6)]

    async def texts(self, name: str) -> Sequence[str]:
        return self.text_by_name.get(name, ())


class _Run:
    """One call of `resolve`: breadth first, one step after the other, the names of a step in parallel."""

    def __init__(self, lookup: Lookup, config: ResolverConfig) -> None:
        self._lookup = lookup
        self._config = config
        self._limiter = anyio.CapacityLimiter(config.max_parallel)
        self._asked: set[Multiaddr] = set()
        self._lookups = 0
        self._pending: list[Multiaddr] = []
        self.faults: list[ResolutionError] = []

    @property
    def results(self) -> list[Multiaddr]:
        """What has no name left, so far."""
        found = dict.fromkeys(address for address in self._pending if not is_dns(address))
        return list(found)[: self._config.max_results]

    async def expand(self, address: Multiaddr) -> None:
        self._pending = [address]
        for _ in range(self._config.max_depth):
            if not any(map(is_dns, self._pending)):
                return
            answers: list[list[Multiaddr]] = [[each] for each in self._pending]
            try:
                async with anyio.create_task_group() as step:
                    for index, each in enumerate(self._pending):
                        if is_dns(each):
                            step.start_soon(self._ask, each, answers, index)
            finally:  # also when time is up: what was answered by then counts
                self._pending = list(dict.fromkeys(found for answer in answers for found in answer))
            if len(self._pending) > self._config.max_results:
                del self._pending[self._config.max_results :]
        if any(map(is_dns, self._pending)):
            self.faults.append(ResolutionError(address, f"refers on more than {self._config.max_depth} times"))

    async def _ask(self, address: Multiaddr, answers: list[list[Multiaddr]], index: int) -> None:
        if address in self._asked:  # a zone that refers to itself
            answers[index] = []
            return
        self._asked.add(address)
        kind = address.protocols[0]
        name = address.value(kind) or ""
        rest = str(address).removeprefix(f"/{kind}/{name}")
        async with self._limiter:
            if kind == "dnsaddr":
                answers[index] = await self._listed(address, name, rest)
            else:
                rest = _keep_name(rest, name)
                versions = {"dns4": (4,), "dns6": (6,)}.get(kind, (4, 6))
                texts = [
                    f"/ip{version}/{ip}{rest}"
                    for version in versions
                    for ip in await self._addresses(address, name, version)
                ]
                answers[index] = _parse_valid(texts)

    async def _addresses(self, address: Multiaddr, name: str, version: int) -> Sequence[str]:
        if not self._may_ask(address):
            return ()
        try:
            found = await self._lookup.addresses(name, version)
        except ResolutionError as fault:
            self.faults.append(fault)
            return ()
        return found[: self._config.max_results]

    async def _listed(self, address: Multiaddr, name: str, rest: str) -> list[Multiaddr]:
        if not self._may_ask(address):
            return []
        try:
            texts = await self._lookup.texts(f"_dnsaddr.{name}")
        except ResolutionError as fault:
            self.faults.append(fault)
            return []
        listed = _parse_valid(
            text.removeprefix(_PREFIX) for text in texts[: self._config.max_results] if text.startswith(_PREFIX)
        )
        return [found for found in listed if str(found).endswith(rest)]  # rest begins with a slash: whole protocols

    def _may_ask(self, address: Multiaddr) -> bool:
        if self._lookups >= self._config.max_lookups:
            self.faults.append(ResolutionError(address, f"more than {self._config.max_lookups} lookups"))
            return False
        self._lookups += 1
        return True


def _keep_name(rest: str, name: str) -> str:
    """What stands behind a name: where a web certificate has to prove the name, it stays in the address (as in go)."""
    return _SECURE_WEBSOCKET.sub(lambda found: f"{found[1]}/tls/sni/{name}/ws", rest, count=1)


def _parse_valid(texts: Iterable[str]) -> list[Multiaddr]:
    """The addresses among the texts."""
    parsed = []
    for text in texts:
        try:
            parsed.append(Multiaddr.parse(text))
        except InvalidAddress:
            continue
    return parsed
