"""py_p2pstack in libp2p's public interop tests: dials or listens, as the environment says; see README.md."""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import anyio

from py_p2pstack import Host, HostConfig, Multiaddr, PeerInfo
from py_p2pstack.addresses import is_loopback
from py_p2pstack.transports.websocket import WebSocketConfig
from tests.interop.public.redis import connected
from tests.interop.public.settings import STANDALONE, Settings
from tests.transports.websocket.certificates import self_signed

LISTEN = {"tcp": "tcp/0", "ws": "tcp/0/ws", "wss": "tcp/0/tls/ws", "quic-v1": "udp/0/quic-v1"}


def make_host(settings: Settings) -> Host:
    """A host that speaks what is to be tested, and nothing else. Raises ValueError for what we do not speak."""
    if settings.transport not in LISTEN:
        raise ValueError(f"we do not speak {settings.transport}")
    listen = [] if settings.is_dialer else [f"/ip4/{settings.ip}/{LISTEN[settings.transport]}"]
    config = HostConfig(websocket=unverified() if settings.transport == "wss" else WebSocketConfig())
    if settings.transport in STANDALONE:
        return Host(listen=listen, config=config)
    return Host(listen=listen, config=config, security=[settings.security], muxers=[settings.muxer])


def unverified() -> WebSocketConfig:
    """A certificate that nobody signed, for a client that believes any: who a peer is, the security inside proves."""
    certificate, key = self_signed()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "web.pem"
        path.write_bytes(key + certificate)
        server.load_cert_chain(path)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return WebSocketConfig(server_tls=server, client_tls=client)


def to_tell(addresses: Sequence[Multiaddr]) -> Multiaddr:
    """The address by which a process in another container reaches us, if there is one."""
    return next((each for each in addresses if not is_loopback(each)), addresses[0])


async def listen(host: Host, settings: Settings) -> None:
    address = to_tell(host.full_addresses)
    async with connected(settings.redis) as redis:
        await redis.call("DEL", settings.key)
        await redis.call("RPUSH", settings.key, str(address))
    print(f"listening: {address}", file=sys.stderr)
    await anyio.sleep_forever()


async def dial(host: Host, settings: Settings) -> None:
    async with connected(settings.redis) as redis:
        told = await redis.call("BLPOP", settings.key, str(int(settings.timeout)))
    if not isinstance(told, list) or not isinstance(told[1], bytes):
        raise TimeoutError("nobody listened")
    listener = PeerInfo.parse(told[1].decode())
    print(f"dialling: {told[1].decode()}", file=sys.stderr)
    start = time.perf_counter()
    await host.connect(listener)
    rtt = await host.ping(listener.peer_id)
    print(settings.results(time.perf_counter() - start, rtt), flush=True)


async def main() -> int:
    """The exit code: 0 if a ping came back; a listener is ended by its runner, and fails if it is not."""
    settings = Settings.read(os.environ)
    with anyio.move_on_after(settings.timeout):
        async with make_host(settings) as host:
            await (dial if settings.is_dialer else listen)(host, settings)
            return 0
    print(f"not done in {settings.timeout:g} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(anyio.run(main))
    except ValueError as fault:
        sys.exit(str(fault))
