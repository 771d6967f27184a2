"""What may be asked of a node: JSON goes in and comes out, so that it is one whether the node is here or elsewhere.

A call has a name, arguments, one result, and may give out items before it. Keys are text; a bare one is the name of an
owned record of ours. Values are base64; of an owned record, what its owner put, and its number beside it.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio

from py_p2pstack import __version__
from py_p2pstack.addresses import PeerInfo
from py_p2pstack.cli.callee import Answer, Give
from py_p2pstack.cli.failures import Exit, Failure
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import InvalidAddress, InvalidPeerId, InvalidRecord, P2PError
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.kademlia import key_of
from py_p2pstack.node import Host
from py_p2pstack.protocols.dht import Dht, DualDht, OwnedRecord, put_owned
from py_p2pstack.protocols.dht.content import content_key
from py_p2pstack.protocols.dht.events import OnEvent
from py_p2pstack.protocols.dht.key_text import key_from_text, key_to_text
from py_p2pstack.protocols.dht.records import owned


class Calls:
    """The calls of one node."""

    def __init__(
        self, host: Host, dht: Dht | DualDht, private_key: Callable[[], PrivateKey], *, short_lived: bool = False
    ) -> None:
        """`private_key` owns records. `short_lived`: the node lives for one call, and has not looked around yet."""
        self._host = host
        self._dht = dht
        self._dhts = (dht.wan, dht.lan) if isinstance(dht, DualDht) else (dht,)
        self._private_key = private_key
        self._short_lived = short_lived
        self._started = time.time()
        self._calls: Mapping[str, Callable[..., Awaitable[Answer]]] = {
            "status": self._status,
            "ping": self._ping,
            "identify": self._identify,
            "dht.put": self._put,
            "dht.get": self._get,
            "dht.search": self._search,
            "dht.find-peer": self._find_peer,
            "dht.closest": self._closest,
            "dht.provide": self._provide,
            "dht.find-providers": self._find_providers,
            "dht.stats": self._stats,
            "dht.table": self._table,
        }

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, give: Give, on_event: OnEvent | None = None
    ) -> Answer:
        """Do what is asked. Raises P2PError; Failure for a call or arguments that are none."""
        call = self._calls.get(name)
        if call is None:
            raise Failure(Exit.USAGE, f"the node knows no call {name!r:.80}", "use the same version for both")
        try:
            return await call(give=give, on_event=on_event, **arguments)
        except (TypeError, ValueError) as fault:
            if isinstance(fault, P2PError):
                raise
            raise Failure(Exit.USAGE, f"the arguments of {name}: {fault}", "check what was given") from fault

    # --- the host -----------------------------------------------------------------------------------

    async def _status(self, give: Give, on_event: OnEvent | None) -> Answer:
        return {
            "peer_id": str(self._host.id),
            "addresses": [str(address) for address in self._host.full_addresses],
            "protocol": self._dhts[0].config.protocol,
            "mode": self._dhts[0].mode,
            "version": __version__,
            "uptime": time.time() - self._started,
        }

    async def _ping(
        self, peer: str, count: int, interval: float, timeout: float, give: Give, on_event: OnEvent | None
    ) -> Answer:
        with anyio.fail_after(timeout):
            peer_id = await self._reach(peer)
        async with aclosing(self._host.pings(peer_id)) as rounds:
            for number in range(1, count + 1):
                if number > 1:
                    await anyio.sleep(interval)
                with anyio.fail_after(timeout):
                    rtt = await anext(rounds)
                await give({"peer": str(peer_id), "number": number, "rtt": rtt})
        return {"peer": str(peer_id), "count": count}

    async def _identify(self, peer: str, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        with anyio.fail_after(timeout):
            peer_id = await self._reach(peer)
            store = self._host.peerstore
            return {
                "peer": str(peer_id),
                "agent": store.get(peer_id, "AgentVersion"),
                "protocol_version": store.get(peer_id, "ProtocolVersion"),
                "protocols": sorted(store.protocols(peer_id)),
                "addresses": [str(address) for address in store.peer_info(peer_id).full_addresses()],
                "latency": await self._host.ping(peer_id),
            }

    async def _reach(self, peer: str) -> PeerId:
        """Connect to a peer given by an address, or by its id alone; then the DHT finds it."""
        if not peer.startswith("/"):
            peer_id = _peer_id(peer)
            if self._host.network.connectedness(peer_id) is not Connectedness.CONNECTED:
                await self._dht.find_peer(peer_id)
            return peer_id
        try:
            info = PeerInfo.parse(peer)
        except InvalidAddress as fault:
            raise Failure(Exit.USAGE, str(fault), "write it as /ip4/…/tcp/…/p2p/<peer id>") from None
        await self._host.connect(info)
        return info.peer_id

    # --- the DHT ------------------------------------------------------------------------------------

    async def _put(
        self, key: str, value: str, quorum: int, timeout: float, give: Give, on_event: OnEvent | None
    ) -> Answer:
        data, name = b64decode(value, validate=True), self._key(key)
        numbered = {}
        mine = None if not name.startswith(owned.PREFIX) else self._private_key()
        if mine is not None and owned.split_key(name)[0] == mine.public_key.peer_id():
            record, result = await put_owned(
                self._dht, mine, owned.split_key(name)[1], data, quorum=quorum, timeout=timeout, on_event=on_event
            )
            numbered = {"sequence": record.sequence}
        else:
            result = await self._dht.put_value(name, data, quorum=quorum, timeout=timeout, on_event=on_event)
        return numbered | {
            "key": key_to_text(name),
            "replicas": list(map(str, result.replicas)),
            "asked": list(map(str, result.asked)),
            "refused": {str(peer): reason for peer, reason in result.refused.items()},
        }

    async def _get(self, key: str, quorum: int, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        name = self._key(key)
        return _told(name, await self._dht.get_value(name, quorum=quorum, timeout=timeout, on_event=on_event))

    async def _search(self, key: str, quorum: int, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        name, found = self._key(key), 0
        async with self._dht.search_value(name, quorum=quorum, timeout=timeout, on_event=on_event) as values:
            async for value in values:
                found += 1
                await give(_told(name, value))
        if not found:
            raise Failure(Exit.NOT_FOUND, "nobody has a valid value", "check the key; somebody must put it first")
        return {"key": key_to_text(name), "found": found}

    def _key(self, text: str) -> bytes:
        return _key(text if text.startswith("/") else f"/owned/{self._private_key().public_key.peer_id()}/{text}")

    async def _find_peer(self, peer: str, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        info = await self._dht.find_peer(_peer_id(peer), timeout=timeout, on_event=on_event)
        return {"peer": peer, "addresses": [str(address) for address in info.full_addresses()]}

    async def _closest(self, key: str, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        target = _place(key)
        peers = await self._dht.get_closest_peers(target, timeout=timeout, on_event=on_event)
        return {
            "key": key,
            "peers": [
                self._described(peer) | {"distance": f"{key_of(peer.to_bytes()) ^ key_of(target):064x}"}
                for peer in peers
            ],
        }

    def _described(self, peer: PeerId) -> Answer:
        info = self._host.peerstore.peer_info(peer)
        return {"peer": str(peer), "addresses": [str(address) for address in info.full_addresses()]}

    async def _provide(self, content: str, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        result = await self._dht.provide(_content(content), timeout=timeout, on_event=on_event)
        return {
            "content": content,
            "key": result.key.hex(),
            "told": list(map(str, result.told)),
            "pending": list(map(str, result.pending)),
            "failed": {str(peer): reason for peer, reason in result.failed.items()},
        }

    async def _find_providers(
        self, content: str, count: int, timeout: float, give: Give, on_event: OnEvent | None
    ) -> Answer:
        found = 0
        async with self._dht.find_providers(
            _content(content), count=count, timeout=timeout, on_event=on_event
        ) as providers:
            async for info in providers:
                found += 1
                await give({"peer": str(info.peer_id), "addresses": [str(each) for each in info.full_addresses()]})
        if not found:
            raise Failure(Exit.NOT_FOUND, "nobody provides this", "check the CID; somebody must provide it first")
        return {"content": content, "found": found}

    async def _look_around(self) -> None:
        """A node that lives for one call fills its table now."""
        if self._short_lived and not await self._dht.bootstrap():
            raise Failure(Exit.NO_PEERS, "no peer answers in this network", "check --bootstrap and --network")

    async def _stats(self, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        with anyio.fail_after(timeout):
            await self._look_around()
        host = self._host
        return (
            await self._status(give, on_event)
            | self._for_each(_stand)
            | {
                "connections": len(host.network.conns()),
                "connected_peers": len(host.network.peers()),
            }
        )

    async def _table(self, timeout: float, give: Give, on_event: OnEvent | None) -> Answer:
        with anyio.fail_after(timeout):
            await self._look_around()
        return {"peer_id": str(self._host.id)} | self._for_each(self._buckets)

    def _for_each(self, describe: Callable[[Dht], Answer]) -> Answer:
        """The description of the DHT; where there are two, that of the public one, with the other one's in it."""
        main, *lan = map(describe, self._dhts)
        return main | {"lan": lan[0]} if lan else main

    def _buckets(self, dht: Dht) -> Answer:
        table, now, store = dht.routing_table, anyio.current_time(), self._host.peerstore
        return {
            "protocol": dht.config.protocol,
            "key": f"{table.local:064x}",
            "bucket_size": table.bucket_size,
            "replacements": {str(cpl): count for cpl, count in table.waiting_counts().items()},
            "peers": [
                self._described(entry.peer)
                | {
                    "cpl": entry.cpl,
                    "key": f"{entry.key:064x}",
                    "age": now - entry.added_at,
                    "silent": now - entry.last_success_at,
                    "rtt": store.latency(entry.peer),
                    "connected": _connected(self._host, entry.peer),
                }
                for entry in sorted(table.entries(), key=lambda entry: (entry.cpl, entry.added_at))
            ],
        }


def _stand(dht: Dht) -> Answer:
    """How a DHT stands."""
    size = dht.network_size()
    return {
        "protocol": dht.config.protocol,
        "mode": dht.mode,
        "table_peers": len(dht.routing_table),
        "buckets": dht.routing_table.bucket_sizes(),
        "network_size": None if size is None else size.size,
        "network_size_error": None if size is None else size.error,
    }


def _connected(host: Host, peer: PeerId) -> bool:
    """Whether the host has a connection to the peer."""
    return host.network.connectedness(peer) is Connectedness.CONNECTED


def _key(text: str) -> bytes:
    try:
        return key_from_text(text)
    except InvalidRecord as fault:
        raise Failure(
            Exit.USAGE, str(fault), "write a key as /namespace/name, with a peer id where it wants one"
        ) from None


def _place(text: str) -> bytes:
    """A key, or a peer's own place."""
    return _key(text) if text.startswith("/") else _peer_id(text).to_bytes()


def _peer_id(text: str) -> PeerId:
    try:
        return PeerId.parse(text)
    except InvalidPeerId as fault:
        raise Failure(Exit.USAGE, str(fault), "a peer id is what p2pstack id prints: 12D3KooW…") from None


def _content(text: str) -> str:
    try:
        content_key(text)
    except ValueError as fault:
        raise Failure(Exit.USAGE, str(fault), "name content by its CID: bafy… or Qm…") from None
    return text


def _told(key: bytes, value: bytes) -> Answer:
    """A value as it is told; of an owned record what is in it."""
    told: Answer = {"key": key_to_text(key)}
    if key.startswith(owned.PREFIX):
        record = OwnedRecord.parse(value)
        told |= {"sequence": record.sequence, "expires": record.expires}
        value = record.value
    return told | {"value": b64encode(value).decode()}
