"""Limits: go-libp2p's base figures, what memory adds, and none at all."""

from __future__ import annotations

from dataclasses import fields

from py_p2pstack.network.limits import UNLIMITED, ResourceLimits, ScopeLimit

MIB, GIB = 1 << 20, 1 << 30


def test_little_memory_gives_the_base_figures() -> None:
    limits = ResourceLimits.scaled(64 * MIB)
    assert limits.system == ScopeLimit(
        connections_inbound=64,
        connections_outbound=128,
        connections=128,
        streams_inbound=1024,
        streams_outbound=2048,
        streams=2048,
        file_descriptors=256,
        memory=128 * MIB,
    )
    assert limits.peer.connections == 8
    assert (limits.peer.streams_inbound, limits.peer.streams_outbound) == (256, 512)
    assert limits.peer.memory == 64 * MIB
    assert limits.protocol_peer.streams == 256
    assert limits.service.connections == UNLIMITED


def test_each_gib_adds_its_share() -> None:
    limits = ResourceLimits.scaled(4 * GIB, 16_384)
    assert limits.system.connections_inbound == 64 + 4 * 64
    assert limits.system.memory == 128 * MIB + 4 * GIB
    assert limits.system.file_descriptors == 16_384
    assert limits.transient.file_descriptors == 4096
    assert limits.peer.connections == 8
    assert limits.peer.streams_inbound == 256 + 4 * 128
    assert limits.peer.file_descriptors == 256


def test_half_a_gib_adds_half() -> None:
    assert ResourceLimits.scaled(GIB // 2).system.streams == 2048 + 1024


def test_the_defaults_are_those_of_a_gib() -> None:
    assert ResourceLimits() == ResourceLimits.scaled(GIB, 512)
    assert ResourceLimits().system.connections > 192  # else the connection manager would never come to trim


def test_unlimited_limits_nothing() -> None:
    limits = ResourceLimits.unlimited()
    scopes = [value for field in fields(limits) if isinstance(value := getattr(limits, field.name), ScopeLimit)]
    assert len(scopes) == 9
    assert set(scopes) == {ScopeLimit()}
    assert limits.ip.ipv4 == limits.ip.ipv6 == ()
