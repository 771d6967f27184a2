"""What we lean on in qh3, whose inner parts are no API: one of these fails first when that changes."""

from __future__ import annotations

from importlib.metadata import version

from qh3 import tls
from qh3.quic.tls_bridge import QuicTlsBridge

from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.tls import _Context
from tests.transports.quic.machines import connected, events


def test_the_version_is_the_one_we_know() -> None:
    assert version("qh3").startswith("2.1.")


def test_the_methods_we_replace_are_there() -> None:
    for name in ("_process_certificate", "_client_handle_certificate_verify", "_server_handle_hello", "handle_message"):
        assert getattr(tls.Context, name) is not getattr(_Context, name)
    assert callable(QuicTlsBridge.serialize_transport_parameters)


def test_only_the_certificates_suite_and_groups_we_chose_are_offered() -> None:
    machines = connected()
    context = machines.alice._tls.tls
    assert context._cipher_suites == [tls.CipherSuite.AES_128_GCM_SHA256]
    assert context._compress_certificate_algorithms is None
    assert context.session_ticket is None
    assert context.new_session_ticket_cb is None


def test_bytes_wait_in_the_core_until_they_are_asked_for() -> None:
    """And shut the connection's window: what nobody takes stops the sender."""
    machines = connected(QuicConfig(connection_window=100_000, stream_window=1 << 20))
    assert machines.bob is not None
    stream = machines.alice.core.open_stream(False)
    machines.alice.core.send_stream(stream, bytes(1 << 20), False)
    machines.run(seconds=5.0)
    assert machines.alice.core.get_send_buffer_size(stream) == (1 << 20) - 100_000
    taken = sum(len(event[2]) for event in events(machines.bob) if event[0] == "stream_data")
    assert taken == 100_000
    machines.run(seconds=1.0)
    assert machines.alice.core.get_send_buffer_size(stream) < (1 << 20) - 100_000


def test_the_core_grants_a_stream_nothing_by_itself() -> None:
    machines = connected(QuicConfig(stream_window=50_000))
    assert machines.bob is not None
    stream = machines.alice.core.open_stream(False)
    machines.alice.core.send_stream(stream, bytes(1 << 20), False)
    for _ in range(5):
        machines.run(seconds=1.0)
        told = events(machines.bob)
    assert machines.alice.core.get_send_buffer_size(stream) == (1 << 20) - 50_000
    assert told == []


def test_streams_beyond_the_peers_limit_are_refused_by_the_core() -> None:
    machines = connected(QuicConfig(max_inbound_streams=3))
    limits = machines.alice.core.stream_limits
    assert limits == (3, 0, 0, 0)
    opened = [machines.alice.core.open_stream(False) for _ in range(3)]
    assert opened == [0, 4, 8]
    assert machines.alice.core.stream_limits[2] == 3


def test_a_ping_is_told_by_its_number() -> None:
    machines = connected()
    machines.run(seconds=1.0)
    machines.alice.core.send_ping(77)
    machines.run(seconds=1.0)
    assert ("ping_acknowledged", 77) in events(machines.alice)


def test_what_is_unsent_is_told_of_each_stream_and_of_all() -> None:
    machines = connected()
    core = machines.alice.core
    streams = [core.open_stream(False) for _ in range(3)]
    for stream in streams:
        core.send_stream(stream, bytes(1000), False)
    assert [core.get_send_buffer_size(stream) for stream in (*streams, None)] == [1000, 1000, 1000, 3000]
    machines.run()
    assert core.get_send_buffer_size(None) == 0


def test_what_must_wait_for_its_time_is_told_by_the_timer_and_the_rest_by_the_window() -> None:
    machines = connected()
    machines.run(seconds=1.0)
    held_back = [machines.alice.holds_back]
    stream = machines.alice.core.open_stream(False)
    machines.alice.core.send_stream(stream, bytes(1 << 20), False)
    machines.alice.datagrams_to_send(machines.now)
    held_back.append(machines.alice.holds_back)
    machines.run(seconds=5.0)
    held_back.append(machines.alice.holds_back)
    assert held_back == [False, True, False]
    assert machines.alice.core.bytes_in_flight == 0
