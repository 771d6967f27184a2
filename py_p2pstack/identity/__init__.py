"""Who a peer is: keys and their protobuf coding, peer ids, signed envelopes and peer records, key files.

Everything is a pure function of bytes (but for `key_file`, which keeps a key on disk). The slow-to-import
parts, the four kinds of keys and protobuf, are loaded when they first turn up.
Source: libp2p/specs, peer-ids; RFC 0002, 0003.
"""

from py_p2pstack.identity.envelope import Envelope as Envelope
from py_p2pstack.identity.key_file import load_key_file as load_key_file
from py_p2pstack.identity.key_file import load_or_create_key_file as load_or_create_key_file
from py_p2pstack.identity.key_file import save_key_file as save_key_file
from py_p2pstack.identity.keys import KeyType as KeyType
from py_p2pstack.identity.keys import PrivateKey as PrivateKey
from py_p2pstack.identity.keys import PublicKey as PublicKey
from py_p2pstack.identity.peer_id import PeerId as PeerId
from py_p2pstack.identity.peer_record import PeerRecord as PeerRecord
