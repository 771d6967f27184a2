"""The composition root: the one place that names concrete transports, securities and muxers."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import MuxerFactory
from py_p2pstack.core.peerstore import Peerstore
from py_p2pstack.core.security import Handshake, SecurityTransport
from py_p2pstack.core.transport import RawTransport, Transport
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import SecurityError
from py_p2pstack.events import EventBus
from py_p2pstack.host import BasicHost
from py_p2pstack.identity import KeyType, PeerId, PrivateKey
from py_p2pstack.muxers import mplex, yamux
from py_p2pstack.muxers.mplex import MplexConfig
from py_p2pstack.muxers.session import mplex_factory, yamux_factory
from py_p2pstack.muxers.yamux import YamuxConfig
from py_p2pstack.network.config import SwarmConfig
from py_p2pstack.network.connection_manager import ConnectionManager, ConnectionManagerConfig
from py_p2pstack.network.gater import AllowAll, ConnectionGater
from py_p2pstack.network.resolver import DnsResolver, Resolver
from py_p2pstack.network.resources import ResourceLimits, ResourceManager
from py_p2pstack.network.router import Router
from py_p2pstack.network.swarm import Swarm
from py_p2pstack.peerstore import MemoryPeerstore
from py_p2pstack.protocols.identify import IdentifyConfig
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.transports.pnet import PnetTransport
from py_p2pstack.transports.quic import QuicConfig, QuicIdentity, QuicTransport
from py_p2pstack.transports.tcp import TcpTransport
from py_p2pstack.transports.websocket import WebSocketConfig, WebSocketTransport
from py_p2pstack.upgrade.upgrader import Upgrader, UpgraderConfig, UpgradingTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """The knobs of every part of a host."""

    swarm: SwarmConfig = field(default_factory=SwarmConfig)
    """Dialling, negotiating, closing."""
    upgrade: UpgraderConfig = field(default_factory=UpgraderConfig)
    """Handshakes."""
    yamux: YamuxConfig = field(default_factory=YamuxConfig)
    """Streams and their windows."""
    mplex: MplexConfig = field(default_factory=MplexConfig)
    """Streams without windows, where mplex is spoken."""
    websocket: WebSocketConfig = field(default_factory=WebSocketConfig)
    """Where WebSocket is spoken: bounds, and the certificates of `wss`."""
    quic: QuicConfig = field(default_factory=QuicConfig)
    """Where QUIC is spoken: windows, streams, handshakes."""
    identify: IdentifyConfig = field(default_factory=IdentifyConfig)
    """What we tell of ourselves."""
    resources: ResourceLimits = field(default_factory=ResourceLimits)
    """How much of everything, per scope."""
    connections: ConnectionManagerConfig = field(default_factory=ConnectionManagerConfig)
    """Between which watermarks connections are kept."""
    ping_timeout: float = 10.0
    """Seconds to wait for a pong."""


class Host(BasicHost):
    """A peer: an identity, its connections, and the protocols it serves.

        async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as host:
            host.set_stream_handler("/echo/1.0.0", echo)
            await host.connect("/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW…")

    It speaks TCP and WebSocket (extra `ws`), secured by Noise or TLS, multiplexed by yamux; and QUIC (extra `quic`),
    which has all that in itself. Entering the block binds the `listen` addresses (none: a host that only dials);
    leaving it says goodbye to every peer and ends every task.
    """

    def __init__(
        self,
        *,
        listen: Iterable[Multiaddr | str] = (),
        identity: PrivateKey | None = None,
        announce: Iterable[Multiaddr | str] = (),
        config: HostConfig | None = None,
        transports: Sequence[RawTransport] | None = None,
        security: Sequence[str] = ("noise", "tls"),
        muxers: Sequence[str] = ("yamux",),
        psk: bytes | None = None,
        peerstore: Peerstore | None = None,
        gater: ConnectionGater | None = None,
        resolver: Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Build a host; nothing happens until it is entered.

        Args:
            listen: multiaddrs to listen on; port 0 picks a free one.
            identity: our private key; a fresh Ed25519 key by default.
            announce: addresses to tell others instead of those we listen on (behind a port forward, say).
            config: bounds and times of all parts.
            transports: how raw bytes travel; TCP and WebSocket by default, and QUIC besides.
            security: which of `noise` and `tls` secure them; we propose the first, and take any of them.
            muxers: which of `yamux` and `mplex` (deprecated: for peers that have nothing else) make streams of them.
            psk: the key of a private network (`transports.pnet.load_psk` reads its file): we talk to its members only,
                and not by QUIC, which has no private networks.
            peerstore: what is known of peers; kept in memory by default.
            gater: who may connect; everybody by default.
            resolver: how names in addresses are resolved; DNS by default.
            clock, wall_clock: monotonic and calendar time in seconds, injected for tests and simulations.

        Raises:
            InvalidAddress: an address is malformed.
            ValueError: an unknown security protocol or muxer, or none at all.
            InvalidKey: a private network's key that is none.
            SecurityError: the environment has LIBP2P_FORCE_PNET=1, and no `psk` is given; or its extra is missing.
        """
        config = config or HostConfig()
        key = identity or PrivateKey.generate(KeyType.ED25519)
        peer = key.public_key.peer_id()
        events = EventBus()
        router = Router(events)
        peerstore = peerstore or MemoryPeerstore(clock=clock)
        upgrader = Upgrader(
            local_peer=peer,
            securities=_securities(security, key, wall_clock),
            muxers=_muxers(muxers, config),
            config=config.upgrade,
        )
        conn_manager = ConnectionManager(config.connections)
        raw: Sequence[RawTransport] = (
            [TcpTransport(), WebSocketTransport(config.websocket)] if transports is None else transports
        )
        if psk is not None:
            raw = [PnetTransport(transport, psk) for transport in raw]
        elif os.environ.get("LIBP2P_FORCE_PNET") == "1":  # the specification's safeguard
            raise SecurityError("LIBP2P_FORCE_PNET is set, and no key of a private network is given")
        finished: list[Transport] = [UpgradingTransport(transport, upgrader) for transport in raw]
        if transports is None and psk is None:  # QUIC has no private networks
            finished.append(QuicTransport(lambda: _quic_identity(key, wall_clock), config.quic))
        swarm = Swarm(
            local_peer=peer,
            transports=finished,
            peerstore=peerstore,
            router=router,
            events=events,
            resources=ResourceManager(config.resources, clock=clock),
            conn_manager=conn_manager,
            gater=gater or AllowAll(),
            resolver=resolver or DnsResolver(),
            config=config.swarm,
        )
        super().__init__(
            private_key=key,
            network=swarm,
            peerstore=peerstore,
            router=router,
            conn_manager=conn_manager,
            events=events,
            listen=[Multiaddr.parse(address) for address in listen],
            announce=[Multiaddr.parse(address) for address in announce],
            identify=config.identify,
            ping_timeout=config.ping_timeout,
            clock=clock,
            wall_clock=wall_clock,
        )


class _Tls:
    """TLS, loaded with the first handshake that asks for it: OpenSSL's bindings take 8 MiB and a tenth of a second."""

    protocol = "/tls/1.0.0"

    def __init__(self, key: PrivateKey, wall_clock: Callable[[], float]) -> None:
        self._key = key
        self._wall_clock = wall_clock
        self._tls: SecurityTransport | None = None

    def handshake(self, *, initiator: bool, peer: PeerId | None, muxers: Sequence[ProtocolId]) -> Handshake:
        """See `SecurityTransport.handshake`."""
        if self._tls is None:
            from py_p2pstack.security.tls import TlsTransport

            self._tls = TlsTransport(self._key, wall_clock=self._wall_clock)
        return self._tls.handshake(initiator=initiator, peer=peer, muxers=muxers)


def _quic_identity(key: PrivateKey, wall_clock: Callable[[], float]) -> QuicIdentity:
    """Our certificate, made when QUIC is first asked for, and the judge of others'."""
    from py_p2pstack.security.tls import certificate

    ours = certificate.make(key, now=wall_clock())
    return QuicIdentity(
        peer=key.public_key.peer_id(),
        certificate=ours.der,
        key=ours.key_der,
        verify=lambda chain, *, expected: certificate.verify_chain(chain, now=wall_clock(), expected=expected),
        reset_key=hashlib.sha256(b"quic stateless reset" + key.encode()).digest(),
    )


def _securities(names: Sequence[str], key: PrivateKey, wall_clock: Callable[[], float]) -> list[SecurityTransport]:
    """The security protocols of these names, in order."""
    makers: dict[str, Callable[[], SecurityTransport]] = {
        "noise": lambda: NoiseTransport(key),
        "tls": lambda: _Tls(key, wall_clock),
    }
    return [makers[name]() for name in _known("security", names, makers)]


def _muxers(names: Sequence[str], config: HostConfig) -> dict[ProtocolId, MuxerFactory]:
    """The muxers of these names, in order."""
    makers: dict[str, tuple[ProtocolId, MuxerFactory]] = {
        "yamux": (yamux.PROTOCOL, yamux_factory(config.yamux)),
        "mplex": (mplex.PROTOCOL, mplex_factory(config.mplex)),
    }
    return dict(makers[name] for name in _known("muxers", names, makers))


def _known(what: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """The names, each once. Raises ValueError for one we do not know, and for none."""
    if not names or not set(names) <= set(known):
        raise ValueError(f"{what} must name some of {', '.join(known)}; not {', '.join(names) or 'none'}")
    return list(dict.fromkeys(names))
