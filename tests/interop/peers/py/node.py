"""The host: TCP, WebSocket and QUIC, one security transport, one muxer, no limits."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable, Sequence

from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.rcmgr import ResourceLimits, ResourceManager
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport
from libp2p.transport.quic.config import QUICTransportConfig
from multiaddr import Multiaddr

PLENTY = 65_536
PATIENCE = 60.0

# The library's ECDSA keys cannot sign.
KEY_TYPES: dict[str, Callable[[], KeyPair]] = {
    "ed25519": ed25519.create_new_key_pair,
    "rsa": rsa.create_new_key_pair,
    "secp256k1": secp256k1.create_new_key_pair,
}
SECURITY = {"noise": TProtocol(NOISE), "tls": TProtocol(TLS)}


def parse_addresses(addresses: Sequence[str]) -> list[Multiaddr]:
    return [Multiaddr(address) for address in addresses]


def trusting(path: str | None) -> ssl.SSLContext | None:
    """Who is trusted on wss."""
    return ssl.create_default_context(cafile=path) if path else None


def certified(path: str | None) -> ssl.SSLContext | None:
    """The certificate shown on wss."""
    if path is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


def make_host(options: argparse.Namespace) -> IHost:
    """A host that never dials of its own accord: below its low watermark the library would."""
    key_pair = KEY_TYPES[options.key_type]()
    if options.security == "noise":
        security = NoiseTransport(key_pair, noise_privkey=new_noise_key_pair().private_key)
    else:
        security = TLSTransport(key_pair)
    return new_host(
        key_pair=key_pair,
        sec_opt={SECURITY[options.security]: security},
        muxer_preference=options.muxer.upper(),
        connection_config=ConnectionConfig(
            max_connections=PLENTY,
            min_connections=0,
            low_watermark=0,
            high_watermark=PLENTY,
            max_connections_per_peer=1,  # with more, each dial waits 250 ms for a second address, even when connected
            outbound_stream_protocol_negotiation_timeout=PATIENCE,
            inbound_stream_protocol_negotiation_timeout=PATIENCE,
        ),
        # Without limits, rates, breakers and counters it is also at its fastest.
        resource_manager=ResourceManager(
            limits=ResourceLimits(max_connections=PLENTY, max_memory_mb=PLENTY, max_streams=PLENTY),
            connection_limits=ConnectionLimits(),
            enable_metrics=False,
            enable_connection_tracking=False,
            enable_memory_limits=False,
            enable_circuit_breaker=False,
            enable_graceful_degradation=False,
            enable_rate_limiting=False,
        ),
        disable_identify_address_discovery=True,
        enable_quic=True,
        enable_websocket=True,
        # What comes faster than it is read is dropped beyond this many bytes, and lost: it was acknowledged.
        quic_transport_opt=QUICTransportConfig(MAX_STREAM_RECEIVE_BUFFER=64 << 20),
        tls_client_config=trusting(options.web_trust),
        tls_server_config=certified(options.web_cert),
    )
