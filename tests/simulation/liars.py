"""Peers that lie: they tell of each other only, invent peers, send garbage, and keep nothing of what they are given."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from random import Random

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.stream import Stream
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import key_of
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import KadPeer, Message, MessageType, Record
from py_p2pstack.testing.light_host import LightHost

K = 20
TRIES = 64  # ids drawn for each invented one: the nearest to the key is told


class Lie(Enum):
    """What a liar answers when asked for closer peers."""

    COLLUDERS = "the liars nearest to the key"
    INVENTED = "ids made up near the key, at the addresses of liars"
    GARBAGE = "bytes"


class Gang:
    """Those who lie together."""

    def __init__(self) -> None:
        self.members: list[LightHost] = []

    def nearest(self, key: int) -> list[PeerInfo]:
        """The members nearest to a key."""
        ranked = sorted(self.members, key=lambda host: key_of(host.id.to_bytes()) ^ key)
        return [host.peer_info for host in ranked[:K]]


class Liar:
    """Serves the DHT protocol in bad faith."""

    def __init__(self, gang: Gang, lie: Lie, rng: Random) -> None:
        self._gang = gang
        self._lie = lie
        self._rng = rng

    def join(self, host: LightHost) -> None:
        """Become one of the gang."""
        self._gang.members.append(host)

    async def serve(self, stream: Stream) -> None:
        """Answer whatever is asked."""
        while True:
            request = codec.decode(await stream.receive_message(1 << 20), max_peers=K)
            answer = self._answer(request)
            if answer:
                await stream.send_message(answer)

    def _answer(self, request: Message) -> bytes:
        if request.type is MessageType.PUT_VALUE:  # confirmed, and forgotten
            return codec.encode(Message(type=request.type, key=request.key, record=request.record))
        if request.type is MessageType.PING:
            return codec.encode(Message(type=request.type))
        if request.type is MessageType.ADD_PROVIDER:
            return b""
        if self._lie is Lie.GARBAGE:
            return self._rng.randbytes(200)
        target = key_of(request.key)
        peers: Sequence[PeerInfo] = self._gang.nearest(target)
        if self._lie is Lie.INVENTED:
            peers = [PeerInfo(self._invent(target), info.addresses) for info in peers]
        record = None
        if request.type is MessageType.GET_VALUE:
            record = Record(key=request.key, value=self._rng.randbytes(32))
        answer = Message(
            type=request.type, key=request.key, record=record, closer_peers=tuple(KadPeer(info) for info in peers)
        )
        return codec.encode(answer)

    def _invent(self, target: int) -> PeerId:
        ids = [b"\x12\x20" + self._rng.randbytes(32) for _ in range(TRIES)]
        return PeerId(min(ids, key=lambda each: key_of(each) ^ target))
