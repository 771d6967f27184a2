"""Peer records: a peer's addresses, numbered and signed by the peer. Source: RFC 0003."""

from __future__ import annotations

from dataclasses import dataclass

from py_p2pstack.errors import InvalidPeerId, RecordError
from py_p2pstack.identity.envelope import Envelope
from py_p2pstack.identity.keys import PrivateKey
from py_p2pstack.identity.peer_id import PeerId

DOMAIN = "libp2p-peer-record"
PAYLOAD_TYPE = b"\x03\x01"
MAX_ADDRESSES = 500  # go-libp2p identify: connectedPeerMaxAddrs


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """What a peer says of itself; a higher `seq` replaces a lower one."""

    peer_id: PeerId
    seq: int
    addresses: tuple[bytes, ...]
    """Multiaddrs in their binary form, as they came: unchecked."""

    def seal(self, private_key: PrivateKey) -> Envelope:
        """Sign the record.

        Raises RecordError unless the key is the peer's own, `seq` an unsigned 64-bit number, the addresses
        at most MAX_ADDRESSES.
        """
        from py_p2pstack.wire.pb.peer_record_pb2 import PeerRecord as _Message

        if private_key.public_key.peer_id() != self.peer_id:
            raise RecordError("a peer record is signed by the peer itself")
        if not 0 <= self.seq < 1 << 64 or len(self.addresses) > MAX_ADDRESSES:
            raise RecordError(f"a peer record numbered {self.seq}, of {len(self.addresses)} addresses")
        message = _Message(
            peer_id=self.peer_id.to_bytes(),
            seq=self.seq,
            addresses=[_Message.AddressInfo(multiaddr=address) for address in self.addresses],
        )
        return Envelope.seal(private_key, DOMAIN, PAYLOAD_TYPE, message.SerializeToString(deterministic=True))

    @classmethod
    def open(cls, envelope: Envelope) -> PeerRecord:
        """Verify an envelope and read the record in it.

        The signer must be the record's own peer (RUSTSEC-2022-0009); whether that is whom you expect is yours
        to check. Raises RecordError.
        """
        from google.protobuf.message import DecodeError

        from py_p2pstack.wire.pb.peer_record_pb2 import PeerRecord as _Message

        if envelope.payload_type != PAYLOAD_TYPE:
            raise RecordError(f"payload type {envelope.payload_type.hex()} is no peer record")
        envelope.verify(DOMAIN)
        message = _Message()
        try:
            message.ParseFromString(envelope.payload)
            peer = PeerId(message.peer_id)
        except (DecodeError, InvalidPeerId) as fault:
            raise RecordError(f"malformed peer record: {fault}") from None
        signer = envelope.public_key.peer_id()
        if peer != signer:
            raise RecordError(f"a record of {peer} signed by {signer}")
        if len(message.addresses) > MAX_ADDRESSES:
            raise RecordError(f"a peer record of {len(message.addresses)} addresses; the limit is {MAX_ADDRESSES}")
        return cls(peer, message.seq, tuple(each.multiaddr for each in message.addresses))
