"""Kinds of addresses: only the beginning of an address tells where it leads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.addresses import (
    Multiaddr,
    host_and_port,
    ip_group,
    ip_of,
    is_dns,
    is_loopback,
    is_private,
    is_public,
    is_relay,
    is_unspecified,
    subnet_of,
    transport_of,
)

PEER = "/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("/ip4/8.8.8.8/tcp/1", "public"),
        ("/ip4/127.0.0.1/tcp/1", "loopback private"),
        ("/ip4/127.5.0.1/tcp/1", "loopback private"),
        ("/ip4/10.0.0.1/tcp/1", "private"),
        ("/ip4/172.16.0.1/tcp/1", "private"),
        ("/ip4/192.168.1.1/tcp/1", "private"),
        ("/ip4/169.254.1.1/tcp/1", "private"),
        ("/ip4/100.64.0.1/tcp/1", "private"),
        ("/ip4/0.0.0.0/tcp/1", "unspecified private"),
        ("/ip4/224.0.0.1/udp/1", ""),
        ("/ip6/2606:4700::1/tcp/1", "public"),
        ("/ip6/::1/tcp/1", "loopback private"),
        ("/ip6/::/tcp/1", "unspecified private"),
        ("/ip6/fe80::1/tcp/1", "private"),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", "private"),
        ("/ip6/fc00::1/tcp/1", "private"),
        # an IPv4 address in IPv6 clothes is what it stands for
        ("/ip6/::ffff:127.0.0.1/tcp/1", "loopback private"),
        ("/ip6/::ffff:10.0.0.1/tcp/1", "private"),
        ("/ip6/::ffff:8.8.8.8/tcp/1", "public"),
        ("/ip6/64:ff9b::808:808/tcp/1", "public"),
        ("/ip6/64:ff9b::a00:1/tcp/1", "private"),
        ("/dns4/example.com/tcp/1", "dns public"),
        ("/dnsaddr/bootstrap.libp2p.io", "dns public"),
        ("/dns4/localhost/tcp/1", "dns loopback private"),
        ("/dns/a.LOCALHOST./tcp/1", "dns loopback private"),
        ("/dns4/printer.local/tcp/1", "dns private"),
        ("/dns4/notlocal/tcp/1", "dns public"),
        ("/memory/7", "loopback private"),
        ("/tcp/1", ""),
        ("/p2p-circuit", "relay"),
        (f"/ip4/8.8.8.8/tcp/1{PEER}/p2p-circuit", "public relay"),
        # what comes later in an address does not change where it leads
        ("/ip6/::1/tcp/1/ip4/8.8.8.8", "loopback private"),
        ("/ip4/8.8.8.8/tcp/1/ip4/127.0.0.1", "public"),
        ("/dns4/example.com/tcp/1/ip4/127.0.0.1", "dns public"),
        (f"{PEER}/p2p-circuit/ip4/127.0.0.1/tcp/1", "relay"),
        ("/tcp/1/memory/1", ""),
    ],
)
def test_an_address_is_of_these_kinds_and_no_others(text: str, kinds: str) -> None:
    address = Multiaddr.parse(text)
    found = {
        "public": is_public(address),
        "private": is_private(address),
        "loopback": is_loopback(address),
        "unspecified": is_unspecified(address),
        "dns": is_dns(address),
        "relay": is_relay(address),
    }
    assert {kind for kind, is_so in found.items() if is_so} == set(kinds.split())


@given(st.ip_addresses())
def test_no_address_is_both_public_and_private(ip: object) -> None:
    address = Multiaddr.parse(f"/{'ip6' if ':' in str(ip) else 'ip4'}/{ip}/tcp/1")
    assert not (is_public(address) and is_private(address))
    assert not is_loopback(address) or is_private(address)


def test_an_empty_address_is_of_no_kind() -> None:
    empty = Multiaddr.parse("/ws").decapsulate("ws")
    assert ip_of(empty) is None
    assert not any(kind(empty) for kind in (is_public, is_private, is_loopback, is_unspecified, is_dns, is_relay))
    assert transport_of(empty) == ""
    assert host_and_port(empty) is None
    assert ip_group(empty) is None


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("/ip4/192.0.2.1/tcp/1", "192.0.2.1"),
        ("/ip6/2001:db8::1/tcp/1", "2001:db8::1"),
        ("/ip6/::ffff:192.0.2.1/tcp/1", "192.0.2.1"),
        ("/dns4/example.com/tcp/1/ip4/192.0.2.1", "None"),
        ("/memory/1", "None"),
    ],
)
def test_the_ip_is_the_one_at_the_beginning(text: str, ip: str) -> None:
    assert str(ip_of(Multiaddr.parse(text))) == ip


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("/ip4/192.0.2.1/tcp/1", "192.0.0.0/16"),
        ("/ip6/::ffff:192.0.2.1/tcp/1", "192.0.0.0/16"),
        ("/ip6/2001:db8:1:2::3/udp/1/quic-v1", "2001:db8::/32"),
        ("/dns4/example.com/tcp/1", None),
    ],
)
def test_the_group_is_a_slash_16_or_a_slash_32(text: str, group: str | None) -> None:
    assert ip_group(Multiaddr.parse(text)) == group


def test_a_subnet_is_as_long_as_asked_for() -> None:
    ipv4, ipv6 = Multiaddr.parse("/ip4/192.0.2.129/tcp/1"), Multiaddr.parse("/ip6/2001:db8:1:2ff::3/tcp/1")
    assert subnet_of(ipv4, 25, 56) == "192.0.2.128/25"
    assert subnet_of(ipv6, 25, 56) == "2001:db8:1:200::/56"
    assert subnet_of(ipv4, 32, 128) == "192.0.2.129/32"
    assert subnet_of(ipv4, 0, 0) == "0.0.0.0/0"
    assert subnet_of(Multiaddr.parse("/memory/1"), 16, 32) is None


@pytest.mark.parametrize(
    ("text", "transport"),
    [
        ("/ip4/1.2.3.4/tcp/1", "tcp"),
        (f"/ip4/1.2.3.4/tcp/1{PEER}", "tcp"),
        ("/ip4/1.2.3.4/udp/1", "udp"),
        ("/ip4/1.2.3.4/udp/1/quic-v1", "quic-v1"),
        ("/ip4/1.2.3.4/udp/1/quic", "quic"),
        ("/ip4/1.2.3.4/udp/1/quic-v1/webtransport", "webtransport"),
        ("/ip4/1.2.3.4/udp/1/webrtc-direct", "webrtc-direct"),
        ("/dns4/a.b/tcp/1/ws", "ws"),
        ("/dns4/a.b/tcp/1/wss", "wss"),
        ("/dns4/a.b/tcp/1/tls/ws", "wss"),
        ("/dns4/a.b/tcp/1/tls/sni/a.b/ws", "wss"),
        (f"/ip4/1.2.3.4/udp/1/quic-v1{PEER}/p2p-circuit{PEER}", "p2p-circuit"),
        ("/memory/1", "memory"),
        ("/unix/tmp/socket", "unix"),
        ("/ip4/1.2.3.4", ""),
    ],
)
def test_the_transport_is_told_by_the_protocols(text: str, transport: str) -> None:
    assert transport_of(Multiaddr.parse(text)) == transport


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ip4/1.2.3.4/tcp/80", ("1.2.3.4", 80)),
        ("/ip6/::1/udp/4001/quic-v1", ("::1", 4001)),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", ("fe80::1%eth0", 1)),
        ("/dns4/example.com/tcp/443/wss", ("example.com", 443)),
        ("/ip4/1.2.3.4", None),
        ("/ip4/1.2.3.4/ws/tcp/1", None),
        ("/tcp/1", None),
        ("/memory/1", None),
    ],
)
def test_host_and_port_are_those_at_the_beginning(text: str, expected: tuple[str, int] | None) -> None:
    assert host_and_port(Multiaddr.parse(text)) == expected
