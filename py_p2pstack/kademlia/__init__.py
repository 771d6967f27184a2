"""Kademlia's decisions without any I/O: distance, routing table, lookup. Shared by the DHT and by node discovery.

A peer is any hashable value; a function given once (`key_of`) maps it to its key, a 256-bit integer. Nothing here reads
a clock or draws a number: `now` and `rng` are passed in. So thousands of nodes' lookups run in a plain loop.

    RoutingTable   who is known, in buckets by how long a prefix their key shares with ours
    Lookup         whom to ask next on the way to a key, and when to stop
    DisjointLookup the same on several paths that share no peer
    IpDiversity    how many of one neighbourhood may sit in the table
    NetworkSize    how many peers there are, told from how near the nearest of some keys lie
    Region         whether a key is surrounded by more peers than chance puts there, and the way around them
"""

from py_p2pstack.kademlia.bucket import Entry as Entry
from py_p2pstack.kademlia.disjoint import DisjointLookup as DisjointLookup
from py_p2pstack.kademlia.distance import KEY_BITS as KEY_BITS
from py_p2pstack.kademlia.distance import cached_keys as cached_keys
from py_p2pstack.kademlia.distance import common_prefix_length as common_prefix_length
from py_p2pstack.kademlia.distance import key_of as key_of
from py_p2pstack.kademlia.distance import random_key as random_key
from py_p2pstack.kademlia.distance import random_preimage as random_preimage
from py_p2pstack.kademlia.diversity import IpDiversity as IpDiversity
from py_p2pstack.kademlia.diversity import crowded_out as crowded_out
from py_p2pstack.kademlia.diversity import independent as independent
from py_p2pstack.kademlia.lookup import EndReason as EndReason
from py_p2pstack.kademlia.lookup import Lookup as Lookup
from py_p2pstack.kademlia.lookup import LookupConfig as LookupConfig
from py_p2pstack.kademlia.lookup import LookupResult as LookupResult
from py_p2pstack.kademlia.lookup import PeerState as PeerState
from py_p2pstack.kademlia.network_size import NetworkSize as NetworkSize
from py_p2pstack.kademlia.network_size import NetworkSizeEstimator as NetworkSizeEstimator
from py_p2pstack.kademlia.region import Region as Region
from py_p2pstack.kademlia.region import crowding as crowding
from py_p2pstack.kademlia.region import honest_region as honest_region
from py_p2pstack.kademlia.table import AddOutcome as AddOutcome
from py_p2pstack.kademlia.table import RoutingTable as RoutingTable
