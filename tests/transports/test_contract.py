"""Every raw transport keeps the same promises."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.testing.contracts import RAW_TRANSPORT, RawTransportCase
from py_p2pstack.transports.memory import MemoryNetwork, MemoryTransport
from py_p2pstack.transports.pnet import PnetTransport
from py_p2pstack.transports.tcp import TcpTransport
from py_p2pstack.transports.websocket import WebSocketConfig, WebSocketTransport
from tests.transports.websocket.certificates import web_config

pytestmark = pytest.mark.anyio


def _deaf_socket(family: socket.AddressFamily, host: str) -> socket.socket:
    """A bound port on which nobody listens, and nobody else can."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0))
    return sock


@asynccontextmanager
async def tcp(family: socket.AddressFamily, host: str, prefix: str) -> AsyncGenerator[RawTransportCase]:
    with _deaf_socket(family, host) as deaf:
        yield RawTransportCase(
            transport=TcpTransport(),
            listen=Multiaddr.parse(f"{prefix}/tcp/0"),
            nobody=Multiaddr.parse(f"{prefix}/tcp/{deaf.getsockname()[1]}"),
            foreign=Multiaddr.parse(f"{prefix}/tcp/80/ws"),
        )


@asynccontextmanager
async def websocket(
    family: socket.AddressFamily, host: str, prefix: str, config: WebSocketConfig | None = None
) -> AsyncGenerator[RawTransportCase]:
    suffix = "tls/ws" if config else "ws"
    with _deaf_socket(family, host) as deaf:
        yield RawTransportCase(
            transport=WebSocketTransport(config),
            listen=Multiaddr.parse(f"{prefix}/tcp/0/{suffix}"),
            nobody=Multiaddr.parse(f"{prefix}/tcp/{deaf.getsockname()[1]}/{suffix}"),
            foreign=Multiaddr.parse(f"{prefix}/tcp/80"),
        )


@asynccontextmanager
async def memory(network: MemoryNetwork) -> AsyncGenerator[RawTransportCase]:
    async with network:
        yield RawTransportCase(
            transport=MemoryTransport(network, "alice"),
            listen=Multiaddr.parse("/memory/0"),
            nobody=Multiaddr.parse("/memory/999"),
            foreign=Multiaddr.parse("/ip4/127.0.0.1/tcp/1"),
        )


@asynccontextmanager
async def private(open_case: AbstractAsyncContextManager[RawTransportCase]) -> AsyncGenerator[RawTransportCase]:
    """The same inside a private network."""
    async with open_case as case:
        yield replace(case, transport=PnetTransport(case.transport, bytes(32)))


CASES = {
    "tcp4": lambda: tcp(socket.AF_INET, "127.0.0.1", "/ip4/127.0.0.1"),
    "tcp6": lambda: tcp(socket.AF_INET6, "::1", "/ip6/::1"),
    "memory": lambda: memory(MemoryNetwork()),
    "memory-small": lambda: memory(MemoryNetwork(capacity=70_000, max_read=999)),
    "memory-slow": lambda: memory(
        MemoryNetwork(
            random.Random(1),
            latency=0.0005,
            jitter=0.0005,
            bandwidth=500e6,
            loss=0.001,
            resolution=0.0002,
            capacity=1 << 20,
        )
    ),
    "ws4": lambda: websocket(socket.AF_INET, "127.0.0.1", "/ip4/127.0.0.1"),
    "ws6": lambda: websocket(socket.AF_INET6, "::1", "/ip6/::1"),
    "wss4": lambda: websocket(socket.AF_INET, "127.0.0.1", "/ip4/127.0.0.1", web_config()),
    "pnet-ws4": lambda: private(websocket(socket.AF_INET, "127.0.0.1", "/ip4/127.0.0.1")),
    "pnet-tcp4": lambda: private(tcp(socket.AF_INET, "127.0.0.1", "/ip4/127.0.0.1")),
    "pnet-memory-small": lambda: private(memory(MemoryNetwork(capacity=70_000, max_read=999))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("claim", RAW_TRANSPORT, ids=lambda claim: claim.__name__)
async def test_contract(claim: Callable[[RawTransportCase], Awaitable[None]], case: str) -> None:
    if case in ("tcp6", "ws6") and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with CASES[case]() as subject:
        await claim(subject)
