"""The DHT and its commands."""

from __future__ import annotations

import argparse
import base64

import trio
from commands import Node, Result
from libp2p.abc import IHost
from libp2p.custom_types import TProtocol
from libp2p.kad_dht import common, kad_dht, peer_routing, provider_store, value_store
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from libp2p.records.validator import BlankValidator
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes
from multiaddr import Multiaddr

SETTLE_PATIENCE = 3.0
LOOK_EVERY = 0.02


def make_dht(host: IHost, options: argparse.Namespace) -> KadDHT:
    """The library takes a prefix and speaks /ipfs/kad/1.0.0 all the same: the name is a constant of each module."""
    protocol = TProtocol(f"{options.dht_prefix}/kad/1.0.0")
    for module in (common, kad_dht, peer_routing, provider_store, value_store):
        module.PROTOCOL_ID = protocol
    mode = DHTMode.SERVER if options.dht == "server" else DHTMode.CLIENT
    dht = KadDHT(host, mode, protocol_prefix=TProtocol(options.dht_prefix))
    dht.register_validator("v", BlankValidator())  # takes every value; the last writer wins
    return dht


def dht_of(node: Node) -> KadDHT:
    if node.dht is None:
        raise ValueError("started with --dht off")
    return node.dht


def described(info: PeerInfo) -> Result:
    return {"id": str(info.peer_id), "addrs": [str(address) for address in info.addrs]}


async def find_node(node: Node, peer: str, target: str) -> Result:
    """The library has the one RPC only as a step of a lookup: here with its messages, by hand."""
    dht_of(node)
    request = Message(type=Message.MessageType.FIND_NODE, key=ID.from_string(target).to_bytes()).SerializeToString()
    async with node.stream(peer, common.PROTOCOL_ID) as stream:
        await stream.write(encode_varint_prefixed(request))
        response = Message.FromString(await read_varint_prefixed_bytes(stream))
    closer = [PeerInfo(ID(each.id), [Multiaddr(raw) for raw in each.addrs]) for each in response.closerPeers]
    return {"closer": [described(info) for info in closer]}


async def find_peer(node: Node, target: str) -> Result:
    info = await dht_of(node).find_peer(ID.from_string(target))
    if info is None:
        raise ValueError("not found")
    return described(info)


async def bootstrap(node: Node) -> None:
    """Nothing but the application enters peers in the routing table."""
    dht = dht_of(node)
    for connected in node.host.get_connected_peers():
        await identified(node.host, connected)
        await dht.add_peer(connected)
    await dht.refresh_routing_table()
    if dht.get_routing_table_size() == 0:
        raise ValueError("the routing table is still empty")


async def identified(host: IHost, peer_id: ID) -> None:
    """Wait, though not for ever, until it is known which protocols a peer serves: identify runs in the background."""
    with trio.move_on_after(SETTLE_PATIENCE):
        while True:
            try:
                if host.get_peerstore().get_protocols(peer_id):
                    return
            except PeerStoreError:
                pass
            await trio.sleep(LOOK_EVERY)


async def put(node: Node, key: str, value: str) -> None:
    if key.startswith("/pk/"):
        raise ValueError("the library takes keys that are text only")
    await dht_of(node).put_value(key, base64.b64decode(value, validate=True))


async def get(node: Node, key: str) -> Result:
    if key.startswith("/pk/"):
        raise ValueError("the library takes keys that are text only")
    value = await dht_of(node).get_value(key)
    if value is None:
        raise ValueError("not found")
    return {"value": base64.b64encode(value).decode()}


async def provide(node: Node, key: str) -> None:
    if not await dht_of(node).provide(key):
        raise ValueError("no peer took the record")


async def find_providers(node: Node, key: str) -> Result:
    return {"providers": [described(info) for info in await dht_of(node).find_providers(key)]}


DHT_COMMANDS = {
    function.__name__: function for function in (find_node, find_peer, bootstrap, put, get, provide, find_providers)
}
