"""Where a peer is: multiaddrs, what kind they are, and a peer id together with them.

`Multiaddr` is an immutable value with a strict parser of its own for what strangers send; rare protocols' text
is left to the `multiaddr` package, which this package alone imports.
"""

from py_p2pstack.addresses.classify import host_and_port as host_and_port
from py_p2pstack.addresses.classify import ip_group as ip_group
from py_p2pstack.addresses.classify import ip_of as ip_of
from py_p2pstack.addresses.classify import is_dns as is_dns
from py_p2pstack.addresses.classify import is_loopback as is_loopback
from py_p2pstack.addresses.classify import is_private as is_private
from py_p2pstack.addresses.classify import is_public as is_public
from py_p2pstack.addresses.classify import is_relay as is_relay
from py_p2pstack.addresses.classify import is_unspecified as is_unspecified
from py_p2pstack.addresses.classify import subnet_of as subnet_of
from py_p2pstack.addresses.classify import transport_of as transport_of
from py_p2pstack.addresses.multiaddr import Multiaddr as Multiaddr
from py_p2pstack.addresses.multiaddr import parse_bytes as parse_bytes
from py_p2pstack.addresses.peer_info import PeerInfo as PeerInfo
