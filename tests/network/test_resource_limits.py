"""The limits on connections and streams: each holds, and a refusal leaves no trace."""

from __future__ import annotations

import pytest

from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.network.ip_limits import IpLimits, SubnetLimit
from py_p2pstack.network.resources import ResourceManager, ScopeLimit
from tests.network.scopes import ALICE, BOB, ECHO, IN, LOOPBACK, NOTHING, OUT, REMOTE, connect, is_empty, manager


@pytest.mark.parametrize("scope", ["system", "transient"])
@pytest.mark.parametrize(
    ("limit", "direction", "what"),
    [
        (ScopeLimit(connections_inbound=3), IN, "connections inbound"),
        (ScopeLimit(connections_outbound=3), OUT, "connections outbound"),
        (ScopeLimit(connections=3), IN, "connections"),
        (ScopeLimit(file_descriptors=3), OUT, "file descriptors"),
    ],
)
def test_connection_limits_hold_before_the_peer_is_known(
    scope: str, limit: ScopeLimit, direction: Direction, what: str
) -> None:
    resources = manager(**{scope: limit})
    held = [resources.reserve_connection(direction, LOOPBACK) for _ in range(3)]
    with pytest.raises(ResourceLimitExceeded, match=rf"{scope}: {what}: limit 3 reached \(4 asked for\)") as caught:
        resources.reserve_connection(direction, LOOPBACK)
    assert (caught.value.limit, caught.value.value) == (3, 4)
    assert resources.stats().refusals == {scope: 1}
    held.pop().done()
    resources.reserve_connection(direction, LOOPBACK).done()
    for place in held:
        place.done()
    assert is_empty(resources)


def test_one_peer_has_so_many_connections() -> None:
    resources = manager(peer=ScopeLimit(connections=2), peers={BOB: ScopeLimit(connections=3)})
    places = [connect(resources, 1), connect(resources, 1)]
    third = resources.reserve_connection(IN, LOOPBACK)
    with pytest.raises(ResourceLimitExceeded, match=f"peer {ALICE}: connections: limit 2"):
        third.set_peer(ALICE)
    assert resources.stats().transient.connections_inbound == 1  # still there: its owner gives it back
    assert resources.stats().peers[ALICE].refusals == 1
    third.done()
    places += [connect(resources, 2) for _ in range(3)]
    for place in places:
        place.done()
    assert is_empty(resources)


def test_a_refused_stranger_leaves_no_scope() -> None:
    resources = manager(peer=ScopeLimit(connections=0))
    place = resources.reserve_connection(IN, LOOPBACK)
    with pytest.raises(ResourceLimitExceeded):
        place.set_peer(ALICE)
    place.done()
    assert is_empty(resources)


@pytest.mark.parametrize("direction", [IN, OUT])
@pytest.mark.parametrize("scope", ["system", "transient", "peer"])
@pytest.mark.parametrize("total", [False, True])
def test_stream_limits_hold_before_the_protocol_is_known(scope: str, direction: Direction, total: bool) -> None:
    name = "streams" if total else f"streams_{direction.value}"
    resources = manager(**{scope: ScopeLimit(**{name: 3})})
    connection = connect(resources)
    held = [resources.reserve_stream(ALICE, direction, connection) for _ in range(3)]
    with pytest.raises(ResourceLimitExceeded, match=f"{scope}.*limit 3"):
        resources.reserve_stream(ALICE, direction, connection)
    assert resources.stats().refusals == {scope: 1}
    if not total:
        other = OUT if direction is IN else IN
        resources.reserve_stream(ALICE, other, connection).done()
    held.pop().done()
    resources.reserve_stream(ALICE, direction, connection).done()


def test_no_peer_has_more_than_its_share_of_streams_without_a_protocol() -> None:
    resources = manager(max_undecided_streams_per_peer=2, transient=ScopeLimit(streams_inbound=4))
    connection, other = connect(resources), connect(resources, 2)
    held = [resources.reserve_stream(ALICE, IN, connection) for _ in range(2)]
    with pytest.raises(ResourceLimitExceeded, match=r"^peer .*: streams without a protocol.*limit 2"):
        resources.reserve_stream(ALICE, IN, connection)
    assert resources.stats().refusals == {"peer": 1}
    resources.reserve_stream(ALICE, OUT, connection).done()
    resources.reserve_stream(BOB, IN, other).done()
    # A place is free again when a stream has a protocol, with memory or without, and when it ends.
    held[0].set_protocol(ECHO)
    held.append(resources.reserve_stream(ALICE, IN, connection))
    held[1].reserve_memory(10)
    held[1].set_protocol(ECHO)
    held.append(resources.reserve_stream(ALICE, IN, connection))
    held[2].done()
    held.append(resources.reserve_stream(ALICE, IN, connection))
    with pytest.raises(ResourceLimitExceeded):
        resources.reserve_stream(ALICE, IN, connection)
    for stream in held:
        stream.done()
    for place in (connection, other):
        place.done()
    assert is_empty(resources)


@pytest.mark.parametrize("direction", [IN, OUT])
@pytest.mark.parametrize("scope", ["protocol", "protocol_peer"])
@pytest.mark.parametrize("total", [False, True])
def test_protocol_limits_hold(scope: str, direction: Direction, total: bool) -> None:
    name = "streams" if total else f"streams_{direction.value}"
    resources = manager(**{scope: ScopeLimit(**{name: 2})})
    connection = connect(resources)
    held = []
    for _ in range(2):
        stream = resources.reserve_stream(ALICE, direction, connection)
        stream.set_protocol(ECHO)
        held.append(stream)
    third = resources.reserve_stream(ALICE, direction, connection)
    with pytest.raises(ResourceLimitExceeded, match=rf"^{scope} {ECHO}"):
        third.set_protocol(ECHO)
    third.set_protocol("/other/1.0.0")
    held.pop().done()
    fourth = resources.reserve_stream(ALICE, direction, connection)
    fourth.set_protocol(ECHO)
    assert resources.stats().transient == NOTHING
    for place in (third, fourth, *held):
        place.done()
    connection.done()
    assert is_empty(resources)


@pytest.mark.parametrize("scope", ["service", "service_peer"])
def test_service_limits_hold(scope: str) -> None:
    resources = manager(**{scope: ScopeLimit(streams_inbound=1)})
    connection = connect(resources)
    streams = [resources.reserve_stream(ALICE, IN, connection) for _ in range(2)]
    for stream in streams:
        stream.set_protocol(ECHO)
    streams[0].set_service("echo")
    with pytest.raises(ResourceLimitExceeded, match=f"^{scope} echo"):
        streams[1].set_service("echo")
    for stream in streams:
        stream.done()
    connection.done()
    assert is_empty(resources)


def test_single_protocols_and_services_can_have_limits_of_their_own() -> None:
    resources = manager(
        protocols={ECHO: ScopeLimit(streams=0)},
        protocol_peers={"/b": ScopeLimit(streams=0)},
        services={"a": ScopeLimit(streams=0)},
        service_peers={"b": ScopeLimit(streams=0)},
    )
    stream = resources.reserve_stream(ALICE, OUT, connect(resources))
    for protocol in (ECHO, "/b"):
        with pytest.raises(ResourceLimitExceeded):
            stream.set_protocol(protocol)
    stream.set_protocol("/c")
    for service in ("a", "b"):
        with pytest.raises(ResourceLimitExceeded):
            stream.set_service(service)
    stream.set_service("c")


def test_one_peer_cannot_use_up_a_protocol() -> None:
    resources = manager(protocol_peer=ScopeLimit(streams=2), protocol=ScopeLimit(streams=3))
    alice, bob = connect(resources, 1), connect(resources, 2)
    for _ in range(2):
        resources.reserve_stream(ALICE, IN, alice).set_protocol(ECHO)
    with pytest.raises(ResourceLimitExceeded, match=f"protocol_peer {ECHO} {ALICE}"):
        resources.reserve_stream(ALICE, IN, alice).set_protocol(ECHO)
    resources.reserve_stream(BOB, IN, bob).set_protocol(ECHO)
    with pytest.raises(ResourceLimitExceeded, match=f"protocol {ECHO}"):
        resources.reserve_stream(BOB, IN, bob).set_protocol(ECHO)


def test_connections_per_ip_are_limited_before_the_handshake_and_come_back() -> None:
    subnet = SubnetLimit(prefix_length=32, connections=2, rate=0, burst=0)
    resources = manager(ip=IpLimits(ipv4=(subnet,)))
    held = [resources.reserve_connection(IN, REMOTE), resources.reserve_connection(OUT, REMOTE)]
    with pytest.raises(ResourceLimitExceeded, match=r"ip 192\.0\.2\.1/32"):
        resources.reserve_connection(IN, REMOTE)
    assert resources.stats().refusals == {"ip": 1}
    assert resources.stats().system.connections_inbound == 1
    for place in held:
        place.done()
        place.done()
    resources.reserve_connection(IN, REMOTE)


def test_the_rate_per_ip_follows_the_clock() -> None:
    now = 0.0
    resources = ResourceManager(clock=lambda: now)
    for _ in range(16):
        resources.reserve_connection(IN, REMOTE).done()
    with pytest.raises(ResourceLimitExceeded, match="ip rate"):
        resources.reserve_connection(IN, REMOTE)
    now = 5.0
    resources.reserve_connection(IN, REMOTE).done()
    assert is_empty(resources)
