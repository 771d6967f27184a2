"""Whether we serve the DHT or only ask it, and when that changes.

A server that nobody can reach is a hole in everybody's routing table. So in the automatic modes we serve only while we
have reason to believe that others can dial us. What counts, the strongest first:

- `LocalReachabilityChanged`: somebody found out, by having us dialled; from then on nothing else counts.
- An inbound connection from a public address: somebody did dial us from outside.
- A public address that we announce or listen at. One that others merely see us at may be that of a NAT.
- In a network of our own (any prefix but `/ipfs`) without a public address anywhere: whoever takes part shares our
  loopback or LAN, and dials us there.

Not to listen anywhere is to be unreachable. Source: go-libp2p-kad-dht subscriber_notifee.go.
"""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from py_p2pstack.addresses import Multiaddr, is_public
from py_p2pstack.core.notifications import (
    LocalAddressesUpdated,
    LocalReachabilityChanged,
    PeerIdentified,
    Reachability,
)
from py_p2pstack.core.stream import StreamHandler
from py_p2pstack.core.types import Direction, ProtocolId
from py_p2pstack.protocols.dht.config import PUBLIC_PREFIX, DhtConfig
from py_p2pstack.protocols.dht.server import Server

logger = logging.getLogger(__name__)


class ListeningNetwork(Protocol):
    """What serving needs of a host's network."""

    def interface_listen_addresses(self) -> list[Multiaddr]: ...


class ServingHost(Protocol):
    """What serving needs of a host."""

    @property
    def addrs(self) -> list[Multiaddr]: ...

    @property
    def network(self) -> ListeningNetwork: ...

    def set_stream_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None: ...

    def remove_stream_handler(self, protocol: ProtocolId) -> None: ...


class Modes:
    """Switches a server on and off. Begins as a client, until `start`."""

    def __init__(self, host: ServingHost, server: Server, config: DhtConfig) -> None:
        self._host = host
        self._server = server
        self._config = config
        self._serving = False
        self._told: Reachability | None = None
        self._dialled_from_outside = False

    @property
    def mode(self) -> Literal["client", "server"]:
        """What we are now."""
        return "server" if self._serving else "client"

    def start(self) -> None:
        """Begin in the mode that the config says, or that fits what is known."""
        if self._config.mode in ("client", "server"):
            self._switch(self._config.mode == "server")
        else:
            self._decide()

    def close(self) -> None:
        """Serve no longer."""
        self._switch(False)

    def heard(self, change: LocalReachabilityChanged | LocalAddressesUpdated | PeerIdentified) -> None:
        """Take in what the host tells; counts in the automatic modes only."""
        if self._config.mode in ("client", "server"):
            return
        if isinstance(change, LocalReachabilityChanged):
            self._told = change.reachability
        elif isinstance(change, PeerIdentified):
            info = change.connection.info
            if self._dialled_from_outside or info.direction is not Direction.INBOUND:
                return
            self._dialled_from_outside = is_public(info.remote_address)
        self._decide()

    def reachability(self) -> Reachability:
        """What we believe of ourselves."""
        if self._told is not None:
            return self._told
        listening = self._host.network.interface_listen_addresses()
        if not listening:
            return Reachability.PRIVATE
        if self._dialled_from_outside or any(map(is_public, listening)):
            return Reachability.PUBLIC
        told = self._host.addrs
        announced = not set(told).issuperset(listening)  # else what is more than we listen at was only observed
        if announced and any(map(is_public, told)):
            return Reachability.PUBLIC
        if self._config.prefix != PUBLIC_PREFIX and not any(map(is_public, told)):
            return Reachability.PUBLIC
        return Reachability.UNKNOWN

    def _decide(self) -> None:
        reachability = self.reachability()
        if reachability is Reachability.UNKNOWN:
            self._switch(self._config.mode == "auto-server")
        else:
            self._switch(reachability is Reachability.PUBLIC)

    def _switch(self, serve: bool) -> None:
        if serve == self._serving:
            return
        self._serving = serve
        logger.info("the DHT %s is %s now", self._config.protocol, f"a {self.mode}")
        if serve:
            self._host.set_stream_handler(self._config.protocol, self._server.serve)
        else:
            self._host.remove_stream_handler(self._config.protocol)
            self._server.close()
