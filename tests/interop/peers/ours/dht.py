"""The commands on the DHT."""

from __future__ import annotations

import base64
import time

from commands import Command, Peer, Result
from tap import GARBAGE
from tap import send_garbage as send

from py_p2pstack import PeerId, PeerInfo
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message, MessageType, Record
from py_p2pstack.protocols.dht.records.ipns import IpnsRecord

IPNS_LIFETIME = 3600.0  # seconds


def record_key(key: str) -> bytes:
    """The text's bytes; after `/pk/` and `/ipns/` comes a peer id, which stands for its bytes."""
    for namespace in ("/pk/", "/ipns/"):
        if key.startswith(namespace):
            return namespace.encode() + PeerId.parse(key[len(namespace) :]).to_bytes()
    return key.encode()


def content_key(key: str) -> str | bytes:
    """A CID's text, or the bytes of a multihash in hex."""
    try:
        return bytes.fromhex(key)
    except ValueError:
        return key


def _infos(infos: list[PeerInfo]) -> list[Result]:
    return [{"id": str(info.peer_id), "addrs": [str(address) for address in info.addresses]} for info in infos]


async def find_node(peer: Peer, peer_id: str, target: str) -> Result:
    return {"closer": _infos(await peer.dht.find_node(PeerId.parse(peer_id), PeerId.parse(target).to_bytes()))}


async def find_peer(peer: Peer, target: str) -> Result:
    return _infos([await peer.dht.find_peer(PeerId.parse(target))])[0]


async def bootstrap(peer: Peer) -> None:
    await peer.dht.bootstrap()


async def put(peer: Peer, key: str, value: str) -> Result:
    result = await peer.dht.put_value(record_key(key), base64.b64decode(value, validate=True))
    return {"replicas": len(result.replicas)}


async def get(peer: Peer, key: str) -> Result:
    return {"value": base64.b64encode(await peer.dht.get_value(record_key(key))).decode()}


async def provide(peer: Peer, key: str) -> None:
    await peer.dht.provide(content_key(key))


async def provide_many(peer: Peer, keys: list[str]) -> Result:
    return {"count": await peer.dht.provide_many(map(content_key, keys))}


async def find_providers(peer: Peer, key: str) -> Result:
    async with peer.dht.find_providers(content_key(key)) as found:
        return {"providers": _infos([info async for info in found])}


async def _ask(peer: Peer, peer_id: str, request: Message) -> Message:
    """One request to one peer, past everything a DHT does with it."""
    async with await peer.host.new_stream(PeerId.parse(peer_id), [peer.dht.config.protocol]) as stream:
        await stream.send_message(codec.encode(request))
        return codec.decode(await stream.receive_message(1 << 20), max_peers=100)


async def put_at(peer: Peer, peer_id: str, key: str, value: str) -> None:
    record = Record(key=record_key(key), value=base64.b64decode(value, validate=True))
    answer = await _ask(peer, peer_id, Message(type=MessageType.PUT_VALUE, key=record.key, record=record))
    if answer.record is None or answer.record.value != record.value:
        raise ValueError("refused")


async def get_at(peer: Peer, peer_id: str, key: str) -> Result:
    answer = await _ask(peer, peer_id, Message(type=MessageType.GET_VALUE, key=record_key(key)))
    return {"value": None if answer.record is None else base64.b64encode(answer.record.value).decode()}


async def ipns_record(peer: Peer, value: str, sequence: int) -> Result:
    target = base64.b64decode(value, validate=True)
    _, record = IpnsRecord.create(peer.identity, target, sequence, now=time.time(), lifetime=IPNS_LIFETIME)
    return {"key": f"/ipns/{peer.host.id}", "value": base64.b64encode(record).decode()}


async def public_key(peer: Peer) -> Result:
    encoded = peer.identity.public_key.encode()
    return {"key": f"/pk/{peer.host.id}", "value": base64.b64encode(encoded).decode()}


async def served(peer: Peer) -> Result:
    """What the server was asked, by whom, oldest first; the keys in hex. How many answers were spoilt."""
    if peer.tap is None:
        raise ValueError("started without --tap and --garbage")
    requests = [
        {"peer": str(sender), "type": request.type.name, "key": request.key.hex()}
        for sender, request in peer.tap.requests
    ]
    return {"requests": requests, "spoilt": peer.tap.spoilt}


async def send_garbage(peer: Peer, peer_id: str, kind: str) -> None:
    await send(peer.host, PeerId.parse(peer_id), peer.dht.config.protocol, kind)


async def kinds_of_garbage(peer: Peer) -> Result:
    return {"kinds": list(GARBAGE)}


DHT_COMMANDS: dict[str, Command] = {
    function.__name__: function
    for function in (
        find_node, find_peer, bootstrap, put, get, provide, provide_many, find_providers, put_at, get_at, ipns_record,
        public_key, served, send_garbage, kinds_of_garbage,
    )
}  # fmt: skip
