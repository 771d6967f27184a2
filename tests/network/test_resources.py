"""The resource manager: where things are counted, what misuse does, and everything comes back."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ConnectionClosed, LocalProtocolError
from py_p2pstack.network.resources import ScopeStats
from tests.network.scopes import ALICE, BOB, ECHO, FREE, IN, LOOPBACK, NOTHING, OUT, QUIC, connect, is_empty, manager
from tests.peer_ids import peer


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
