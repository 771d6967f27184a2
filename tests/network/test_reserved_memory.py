"""Memory in the books: counted wherever its owner is, within the limits of each."""

from __future__ import annotations

import pytest

from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.network.resources import Priority, ScopeLimit
from tests.network.scopes import ALICE, ECHO, IN, LOOPBACK, connect, is_empty, manager


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
