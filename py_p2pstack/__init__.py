"""A libp2p-style peer-to-peer stack: secure hosts, streams and a Kademlia DHT on asyncio and trio.

    application
      Host               id, connect, new_stream, set_stream_handler, events      node, host
      Dht                find_peer, get_closest_peers, query events               protocols.dht
      identify, ping     stream handlers like any other                           protocols
      Swarm              dials, listens, limits, routes protocols                 network, peerstore
      Upgrader           raw bytes → noise → yamux                                upgrade, security, muxers
      TcpTransport       sockets                                                  transports
      SqliteDatastore    what survives a restart                                  storage
      PeerId, Multiaddr  who and where                                            identity, addresses

The names below are imported when they are first used: importing the package costs next to nothing. Names not listed
are reached through their own modules; what begins with an underscore is private.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from py_p2pstack.addresses import Multiaddr as Multiaddr
    from py_p2pstack.addresses import PeerInfo as PeerInfo
    from py_p2pstack.core.connection import Connection as Connection
    from py_p2pstack.core.notifications import PeerConnected as PeerConnected
    from py_p2pstack.core.notifications import PeerDisconnected as PeerDisconnected
    from py_p2pstack.core.notifications import PeerIdentified as PeerIdentified
    from py_p2pstack.core.stream import Stream as Stream
    from py_p2pstack.errors import ConnectionClosed as ConnectionClosed
    from py_p2pstack.errors import DialError as DialError
    from py_p2pstack.errors import InvalidAddress as InvalidAddress
    from py_p2pstack.errors import InvalidKey as InvalidKey
    from py_p2pstack.errors import InvalidPeerId as InvalidPeerId
    from py_p2pstack.errors import ListenError as ListenError
    from py_p2pstack.errors import NegotiationError as NegotiationError
    from py_p2pstack.errors import P2PError as P2PError
    from py_p2pstack.errors import PeerNotFound as PeerNotFound
    from py_p2pstack.errors import ResourceLimitExceeded as ResourceLimitExceeded
    from py_p2pstack.errors import RoutingError as RoutingError
    from py_p2pstack.errors import StorageError as StorageError
    from py_p2pstack.errors import StreamReset as StreamReset
    from py_p2pstack.identity import KeyType as KeyType
    from py_p2pstack.identity import PeerId as PeerId
    from py_p2pstack.identity import PrivateKey as PrivateKey
    from py_p2pstack.identity import PublicKey as PublicKey
    from py_p2pstack.identity import load_or_create_key_file as load_or_create_key_file
    from py_p2pstack.node import Host as Host
    from py_p2pstack.node import HostConfig as HostConfig
    from py_p2pstack.protocols.dht import Dht as Dht
    from py_p2pstack.protocols.dht import DhtConfig as DhtConfig
    from py_p2pstack.protocols.dht import IpnsRecord as IpnsRecord
    from py_p2pstack.protocols.dht import OwnedRecord as OwnedRecord
    from py_p2pstack.protocols.dht import QueryEvent as QueryEvent
    from py_p2pstack.storage import MemoryDatastore as MemoryDatastore
    from py_p2pstack.storage import SqliteDatastore as SqliteDatastore

_HOMES = {
    "addresses": ("Multiaddr", "PeerInfo"),
    "core.connection": ("Connection",),
    "core.notifications": ("PeerConnected", "PeerDisconnected", "PeerIdentified"),
    "core.stream": ("Stream",),
    "errors": (
        "ConnectionClosed",
        "DialError",
        "InvalidAddress",
        "InvalidKey",
        "InvalidPeerId",
        "ListenError",
        "NegotiationError",
        "P2PError",
        "PeerNotFound",
        "ResourceLimitExceeded",
        "RoutingError",
        "StorageError",
        "StreamReset",
    ),
    "identity": ("KeyType", "PeerId", "PrivateKey", "PublicKey", "load_or_create_key_file"),
    "node": ("Host", "HostConfig"),
    "protocols.dht": ("Dht", "DhtConfig", "IpnsRecord", "OwnedRecord", "QueryEvent"),
    "storage": ("MemoryDatastore", "SqliteDatastore"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
