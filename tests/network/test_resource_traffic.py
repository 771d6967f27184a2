"""Whatever happens, in any order: limits hold at every step, and in the end everything is back."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import LocalProtocolError, ResourceLimitExceeded
from py_p2pstack.network.ip_limits import IpLimits, SubnetLimit
from py_p2pstack.network.resources import ConnectionScope, ResourceManager, ScopeLimit, StreamScope
from tests.network.scopes import FREE, LOOPBACK, QUIC, REMOTE, is_empty
from tests.peer_ids import peer


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
