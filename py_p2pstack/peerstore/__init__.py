"""What is known about peers, in memory: addresses, keys, protocols, metadata, latency.

Strangers fill these books (identify, DHT answers, peer exchange), so each has a bound in entries and in
bytes, told by `PeerstoreConfig`; what makes room is what would be missed least: soonest to expire, longest
untouched, and peers we are connected to after all others (CVE-2023-40583). Expired addresses are never given
out, and are collected a few at a time as others come in: no task is needed.
"""

from py_p2pstack.peerstore.config import PeerstoreConfig as PeerstoreConfig
from py_p2pstack.peerstore.store import MemoryPeerstore as MemoryPeerstore
