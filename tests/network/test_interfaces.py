"""0.0.0.0 and :: spelled out."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.network import interfaces


def expand(*texts: str) -> list[str]:
    return [str(address) for address in interfaces.expand_unspecified(map(Multiaddr.parse, texts))]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[SimpleNamespace]]:
    """A machine with known interfaces."""
    inet, inet6 = socket.AF_INET, socket.AF_INET6
    cards: dict[str, list[tuple[int, str]]] = {
        "lo": [(inet, "127.0.0.1"), (inet6, "::1")],
        "eth0": [(inet, "192.0.2.5"), (inet6, "2001:db8::5"), (inet6, "fe80::1%eth0"), (-1, "00:11:22:33:44:55")],
        "alias": [(inet, "192.0.2.5"), (inet, "0.0.0.0")],
    }
    found = {name: [SimpleNamespace(family=f, address=a) for f, a in entries] for name, entries in cards.items()}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    monkeypatch.setattr(interfaces, "_cached", None)
    return found


def test_unspecified_addresses_become_one_per_interface_address(machine: object) -> None:
    assert expand("/ip4/0.0.0.0/tcp/4001") == ["/ip4/127.0.0.1/tcp/4001", "/ip4/192.0.2.5/tcp/4001"]
    assert expand("/ip6/::/udp/1/quic-v1") == ["/ip6/::1/udp/1/quic-v1", "/ip6/2001:db8::5/udp/1/quic-v1"]


def test_other_addresses_stay_in_their_order(machine: object) -> None:
    assert expand("/memory/1", "/ip4/0.0.0.0/tcp/1/ws", "/ip4/127.0.0.1/tcp/1/ws", "/ip4/10.0.0.1/tcp/1") == [
        "/memory/1",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/ip4/192.0.2.5/tcp/1/ws",
        "/ip4/10.0.0.1/tcp/1",
    ]


def test_interfaces_are_looked_at_again_after_a_while(
    machine: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = interfaces.interface_addresses()
    machine.pop("eth0")
    machine.pop("alias")
    assert interfaces.interface_addresses() == first
    monkeypatch.setattr(interfaces, "_MAX_AGE", -1)
    assert interfaces.interface_addresses() == ("127.0.0.1", "::1")


def test_this_machine_has_a_loopback_address() -> None:
    assert "127.0.0.1" in interfaces.interface_addresses()
