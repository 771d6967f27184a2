"""The resource manager: every limit holds, every refusal leaves no trace, and everything comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ConnectionClosed, LocalProtocolError, ResourceLimitExceeded
from py_p2pstack.network.ip_limits import IpLimits, SubnetLimit
from py_p2pstack.network.resources import (
    ConnectionScope,
    Priority,
    ResourceLimits,
    ResourceManager,
    ScopeLimit,
    ScopeStats,
    StreamScope,
)
from tests.peer_ids import peer

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
REMOTE = Multiaddr.parse("/ip4/192.0.2.1/tcp/1")
QUIC = Multiaddr.parse("/ip4/127.0.0.1/udp/1/quic-v1")
ALICE, BOB = peer(1), peer(2)
FREE = ResourceLimits.unlimited()
NOTHING = ScopeStats(0, 0, 0, 0, 0, 0, 0)
ECHO = "/echo/1.0.0"


def manager(**limits: object) -> ResourceManager:
    return ResourceManager(replace(FREE, **limits), clock=lambda: 0.0)  # type: ignore[arg-type]


def connect(resources: ResourceManager, who: int = 1, direction: Direction = IN) -> ConnectionScope:
    scope = resources.reserve_connection(direction, LOOPBACK)
    scope.set_peer(peer(who))
    return scope


def is_empty(resources: ResourceManager) -> bool:
    stats = resources.stats()
    totals = [replace(stats.system, refusals=0), replace(stats.transient, refusals=0)]
    return totals == [NOTHING, NOTHING] and not (stats.peers or stats.protocols or stats.services)


# --- where things are counted ----------------------------------------------------------------------


def test_a_connection_moves_from_transient_to_its_peer() -> None:
    resources = manager()
    scope = resources.reserve_connection(IN, LOOPBACK)
    assert resources.stats().transient.connections_inbound == 1
    scope.set_peer(ALICE)
    stats = resources.stats()
    assert stats.transient == NOTHING
    assert stats.peers[ALICE] == stats.system == ScopeStats(1, 0, 0, 0, 1, 0, 0)
    scope.done()
    assert is_empty(resources)


def test_a_stream_moves_from_transient_to_its_protocol_and_service() -> None:
    resources = manager()
    connection = connect(resources)
    scope = resources.reserve_stream(ALICE, OUT, connection)
    assert resources.stats().transient.streams_outbound == 1
    scope.set_protocol(ECHO)
    scope.set_service("echo")
    stats = resources.stats()
    assert stats.transient == NOTHING
    assert stats.protocols[ECHO].streams_outbound == stats.services["echo"].streams_outbound == 1
    assert stats.peers[ALICE].streams_outbound == stats.system.streams_outbound == 1
    scope.done()
    connection.done()
    assert is_empty(resources)


def test_only_connections_with_a_socket_of_their_own_cost_a_descriptor() -> None:
    resources = manager()
    resources.reserve_connection(OUT, QUIC)
    resources.reserve_connection(OUT, Multiaddr.parse("/memory/1"))
    assert resources.stats().system.file_descriptors == 0
    resources.reserve_connection(OUT, LOOPBACK)
    assert resources.stats().system.file_descriptors == 1


def test_done_twice_gives_back_once() -> None:
    resources = manager()
    other = connect(resources)
    connection = connect(resources)
    stream = resources.reserve_stream(ALICE, IN, connection)
    for _ in range(2):
        stream.done()
        connection.done()
    assert resources.stats().system.connections_inbound == 1
    other.done()
    assert is_empty(resources)


def test_a_stream_may_outlive_its_connection() -> None:
    resources = manager()
    connection = connect(resources)
    stream = resources.reserve_stream(ALICE, IN, connection)
    stream.set_protocol(ECHO)
    connection.done()
    assert ALICE in resources.stats().peers
    stream.done()
    assert is_empty(resources)


# --- limits ----------------------------------------------------------------------------------------


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


# --- memory ----------------------------------------------------------------------------------------


def test_memory_is_counted_wherever_its_owner_is() -> None:
    resources = manager()
    connection = resources.reserve_connection(IN, LOOPBACK)
    connection.reserve_memory(100)
    assert resources.stats().transient.memory == 100
    connection.set_peer(ALICE)
    stream = resources.reserve_stream(ALICE, IN, connection)
    stream.reserve_memory(10)
    assert resources.stats().transient.memory == 10
    stream.set_protocol(ECHO)
    stream.set_service("echo")
    stats = resources.stats()
    assert stats.transient.memory == 0
    assert stats.protocols[ECHO].memory == stats.services["echo"].memory == 10
    assert stats.peers[ALICE].memory == stats.system.memory == 110
    stream.release_memory(4)
    assert resources.stats().services["echo"].memory == 6
    connection.release_memory(100)
    assert resources.stats().system.memory == 6
    stream.done()
    connection.done()
    assert is_empty(resources)


@pytest.mark.parametrize("scope", ["system", "transient", "peer", "protocol", "protocol_peer", "service", "stream"])
def test_memory_limits_hold_on_streams(scope: str) -> None:
    resources = manager(**{scope: ScopeLimit(memory=1000)})
    connection = connect(resources)
    stream = resources.reserve_stream(ALICE, IN, connection)
    if scope != "transient":
        stream.set_protocol(ECHO)
        stream.set_service("echo")
    stream.reserve_memory(1000)
    with pytest.raises(ResourceLimitExceeded, match=f"^{scope}.*memory: limit 1000 reached"):
        stream.reserve_memory(1)
    assert stream.memory == resources.stats().system.memory == 1000
    assert resources.stats().refusals == {scope: 1}
    stream.done()
    connection.done()
    assert is_empty(resources)


@pytest.mark.parametrize("scope", ["system", "peer", "connection"])
def test_memory_limits_hold_on_connections(scope: str) -> None:
    resources = manager(**{scope: ScopeLimit(memory=1000)})
    connection = connect(resources)
    connection.reserve_memory(1000)
    with pytest.raises(ResourceLimitExceeded, match=f"^{scope}.*memory"):
        connection.reserve_memory(1)
    connection.done()
    assert is_empty(resources)


def test_what_matters_less_may_fill_less() -> None:
    resources = manager(system=ScopeLimit(memory=1024))
    connection = connect(resources)
    for priority, most in ((Priority.LOW, 408), (Priority.MEDIUM, 612), (Priority.HIGH, 816), (Priority.ALWAYS, 1024)):
        with pytest.raises(ResourceLimitExceeded):
            connection.reserve_memory(most + 1, priority)
        connection.reserve_memory(most, priority)
        connection.release_memory(most)


@pytest.mark.parametrize("scope", ["peer", "protocol"])
def test_memory_must_fit_where_its_owner_moves(scope: str) -> None:
    resources = manager(**{scope: ScopeLimit(memory=10)})
    connection = resources.reserve_connection(IN, LOOPBACK)
    if scope == "peer":
        connection.reserve_memory(11)
        with pytest.raises(ResourceLimitExceeded, match=r"peer .* memory"):
            connection.set_peer(ALICE)
        connection.release_memory(1)
        connection.set_peer(ALICE)
    else:
        connection.set_peer(ALICE)
        stream = resources.reserve_stream(ALICE, IN, connection)
        stream.reserve_memory(11)
        with pytest.raises(ResourceLimitExceeded, match=r"protocol .* memory"):
            stream.set_protocol(ECHO)
        assert resources.stats().transient.memory == 11
        stream.done()
    connection.done()
    assert is_empty(resources)


# --- misuse ----------------------------------------------------------------------------------------


def test_misuse_is_told_and_changes_nothing() -> None:
    resources = manager()
    connection = resources.reserve_connection(IN, LOOPBACK)
    with pytest.raises(LocalProtocolError, match="not of"):
        resources.reserve_stream(ALICE, IN, connection)
    connection.set_peer(ALICE)
    with pytest.raises(LocalProtocolError, match="has a peer"):
        connection.set_peer(ALICE)
    with pytest.raises(LocalProtocolError, match="not of"):
        resources.reserve_stream(BOB, IN, connection)
    stream = resources.reserve_stream(peer(1), IN, connection)  # an equal peer id will do
    with pytest.raises(LocalProtocolError, match="no protocol yet"):
        stream.set_service("echo")
    stream.set_protocol(ECHO)
    with pytest.raises(LocalProtocolError, match="has a protocol"):
        stream.set_protocol(ECHO)
    for place in (stream, connection):
        with pytest.raises(ValueError, match="at least 0"):
            place.reserve_memory(-1)
        with pytest.raises(LocalProtocolError, match="1 bytes given back, 0 are reserved"):
            place.release_memory(1)
        with pytest.raises(LocalProtocolError):
            place.release_memory(-1)
    stream.done()
    connection.done()
    assert is_empty(resources)


def test_what_was_given_back_stays_given_back() -> None:
    resources = manager()
    connection = connect(resources)
    stream = resources.reserve_stream(ALICE, IN, connection)
    stream.done()
    stream.set_protocol(ECHO)  # the stream ended inside its negotiation: nothing to say any more
    stream.set_service("echo")
    stream.release_memory(1)
    with pytest.raises(ConnectionClosed):
        stream.reserve_memory(1)
    connection.done()
    connection.release_memory(1)
    with pytest.raises(ConnectionClosed):
        connection.reserve_memory(1)
    with pytest.raises(LocalProtocolError):
        connection.set_peer(ALICE)
    with pytest.raises(ConnectionClosed):
        resources.reserve_stream(ALICE, IN, connection)
    assert is_empty(resources)


# --- nothing piles up ------------------------------------------------------------------------------


def test_a_connected_peer_cannot_pile_up_protocol_scopes() -> None:
    resources = manager(max_idle_scopes_per_peer=4)
    connection = connect(resources)
    for number in range(500):
        stream = resources.reserve_stream(ALICE, IN, connection)
        stream.set_protocol(f"/any/{number}")
        stream.set_service(f"any {number}")
        stream.done()
    assert len(resources.stats().protocols) <= 4
    assert len(resources.stats().services) <= 4
    connection.done()
    assert is_empty(resources)


def test_the_managers_repr_tells_what_it_holds() -> None:
    resources = manager()
    connect(resources)
    assert repr(resources) == "<ResourceManager <Scope system conns 1+0 streams 0+0 memory 0> 1 peers>"
    assert resources.limits == FREE


class Traffic(RuleBasedStateMachine):
    """Anything may happen in any order: limits hold at every step, and in the end everything is back."""

    LIMITS = replace(
        FREE,
        system=ScopeLimit(connections=6, connections_inbound=4, streams=12, streams_outbound=8, memory=1000),
        transient=ScopeLimit(connections=3, streams=5, memory=300),
        peer=ScopeLimit(connections=3, streams=6, memory=500, file_descriptors=2),
        protocol=ScopeLimit(streams=7, memory=400),
        protocol_peer=ScopeLimit(streams=4, streams_inbound=3, memory=250),
        service=ScopeLimit(streams=5, memory=300),
        service_peer=ScopeLimit(streams=3),
        ip=IpLimits(ipv4=(SubnetLimit(prefix_length=32, connections=2, rate=0, burst=0),)),
        max_idle_scopes_per_peer=1,
        max_undecided_streams_per_peer=3,
    )

    def __init__(self) -> None:
        super().__init__()
        self.resources = ResourceManager(self.LIMITS, clock=lambda: 0.0)
        self.connections: list[tuple[ConnectionScope, int | None]] = []
        self.streams: list[StreamScope] = []

    def _places(self) -> list[ConnectionScope | StreamScope]:
        return [*self.streams, *(scope for scope, _ in self.connections)]

    @rule(direction=st.sampled_from(Direction), address=st.sampled_from([LOOPBACK, REMOTE, QUIC]))
    def connection_begins(self, direction: Direction, address: Multiaddr) -> None:
        try:
            self.connections.append((self.resources.reserve_connection(direction, address), None))
        except ResourceLimitExceeded:
            pass

    @rule(data=st.data(), who=st.integers(1, 3))
    def peer_is_proven(self, data: st.DataObject, who: int) -> None:
        unproven = [index for index, (_, known) in enumerate(self.connections) if known is None]
        if unproven:
            index = data.draw(st.sampled_from(unproven))
            try:
                self.connections[index][0].set_peer(peer(who))
                self.connections[index] = (self.connections[index][0], who)
            except ResourceLimitExceeded:
                pass

    @rule(data=st.data(), direction=st.sampled_from(Direction))
    def stream_begins(self, data: st.DataObject, direction: Direction) -> None:
        proven = [(scope, who) for scope, who in self.connections if who is not None]
        if proven:
            scope, who = data.draw(st.sampled_from(proven))
            try:
                self.streams.append(self.resources.reserve_stream(peer(who), direction, scope))
            except ResourceLimitExceeded:
                pass

    @rule(data=st.data(), name=st.sampled_from("abc"))
    def stream_agrees(self, data: st.DataObject, name: str) -> None:
        if self.streams:
            try:
                data.draw(st.sampled_from(self.streams)).set_protocol(name)
            except (ResourceLimitExceeded, LocalProtocolError):
                pass

    @rule(data=st.data(), name=st.sampled_from("xy"))
    def stream_serves(self, data: st.DataObject, name: str) -> None:
        if self.streams:
            try:
                data.draw(st.sampled_from(self.streams)).set_service(name)
            except (ResourceLimitExceeded, LocalProtocolError):
                pass

    @rule(data=st.data(), size=st.integers(0, 200), give_back=st.booleans())
    def memory(self, data: st.DataObject, size: int, give_back: bool) -> None:
        places = self._places()
        if places:
            place = data.draw(st.sampled_from(places))
            try:
                if give_back:
                    place.release_memory(min(size, place.memory))
                else:
                    place.reserve_memory(size)
            except ResourceLimitExceeded:
                pass

    @rule(data=st.data())
    def connection_ends(self, data: st.DataObject) -> None:
        if self.connections:
            self.connections.pop(data.draw(st.integers(0, len(self.connections) - 1)))[0].done()

    @rule(data=st.data())
    def stream_ends(self, data: st.DataObject) -> None:
        if self.streams:
            self.streams.pop(data.draw(st.integers(0, len(self.streams) - 1))).done()

    @invariant()
    def counts_are_true_and_within_limits(self) -> None:
        stats, limits = self.resources.stats(), self.LIMITS
        held = sum(place.memory for place in self._places())
        assert stats.system.memory == held <= limits.system.memory
        assert stats.system.connections_inbound + stats.system.connections_outbound == len(self.connections)
        assert stats.system.streams_inbound + stats.system.streams_outbound == len(self.streams)
        pairs = [(stats.system, limits.system), (stats.transient, limits.transient)]
        pairs += [(each, limits.peer) for each in stats.peers.values()]
        pairs += [(each, limits.protocol) for each in stats.protocols.values()]
        pairs += [(each, limits.service) for each in stats.services.values()]
        for peer_scope in self.resources._table.peers.values():
            mute = [each for each in self.streams if each._peer is peer_scope and each._inbound and not each._protocol]
            assert peer_scope.undecided == len(mute) <= limits.max_undecided_streams_per_peer
        for scope, limit in pairs:
            assert 0 <= scope.connections_inbound <= limit.connections_inbound
            assert 0 <= scope.connections_inbound + scope.connections_outbound <= limit.connections
            assert 0 <= scope.streams_inbound <= limit.streams_inbound
            assert 0 <= scope.streams_outbound <= limit.streams_outbound
            assert scope.streams_inbound + scope.streams_outbound <= limit.streams
            assert 0 <= scope.memory <= limit.memory
            assert 0 <= scope.file_descriptors <= limit.file_descriptors

    def teardown(self) -> None:
        for stream in self.streams:
            stream.done()
        for connection, _ in self.connections:
            connection.done()
        assert is_empty(self.resources)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)
