"""Frames of ours in qh3's packets: the peer understands them, and no packet is ever sent in two forms."""

from __future__ import annotations

import pytest

from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.machine import QuicMachine
from py_p2pstack.transports.quic.postscript import MAX_SIZE, max_stream_data, varint
from tests.transports.quic.machines import ALICE, BOB, Machines, connected, events

WINDOW = 50_000


def transfer() -> tuple[Machines, QuicMachine, int]:
    """Alice has more to send than bob's window takes."""
    machines = connected(QuicConfig(stream_window=WINDOW))
    assert machines.bob is not None
    stream = machines.alice.core.open_stream(False)
    machines.alice.core.send_stream(stream, bytes(1 << 20), False)
    machines.run(seconds=1.0)
    events(machines.bob)
    return machines, machines.bob, stream


def grant(machines: Machines, bob: QuicMachine, frames: bytes) -> list[bytes]:
    """What bob sends with these frames; it arrives."""
    sent = [datagram for datagram, _ in bob.datagrams_to_send(machines.now, frames)]
    for datagram in sent:
        machines.alice.receive(datagram, len(datagram), BOB, machines.now)
    return sent


def test_credit_arrives_and_its_arrival_is_told() -> None:
    machines, bob, stream = transfer()
    for round_ in range(2, 12):
        grant(machines, bob, max_stream_data(stream, round_ * WINDOW))
        assert bob.carrier is not None
        assert ("stream_credit", stream, round_ * WINDOW) in events(machines.alice)
        machines.run(seconds=1.0)
        told = events(bob)
        assert ("ping_acknowledged", bob.carrier) in told or ("ping_acknowledged", round_ - 1) in told
        assert sum(len(event[2]) for event in told if event[0] == "stream_data") == WINDOW


def test_several_frames_fit_into_one_packet() -> None:
    machines, bob, stream = transfer()
    frames = b"".join(max_stream_data(stream, WINDOW + number) for number in range(32))
    grant(machines, bob, frames)
    assert ("stream_credit", stream, WINDOW + 31) in events(machines.alice)


@pytest.mark.parametrize("updates", [1, 2, 3, 5])
def test_key_updates_are_followed(updates: int) -> None:
    machines, bob, stream = transfer()
    for _ in range(updates):
        bob.core.request_key_update()
        bob.core.send_ping(1 << 20)
        machines.run(seconds=1.0)
        events(bob)
    grant(machines, bob, max_stream_data(stream, 2 * WINDOW))
    assert bob.carrier is not None
    assert ("stream_credit", stream, 2 * WINDOW) in events(machines.alice)


def test_frames_that_do_not_fit_wait() -> None:
    machines, bob, _ = transfer()
    [packet] = grant(machines, bob, bytes(MAX_SIZE))
    assert bob.carrier is None
    assert len(packet) < 100
    machines.run(seconds=1.0)
    assert machines.faults == (None, None)


def test_a_packet_is_sent_in_one_form_only() -> None:
    """Two plaintexts under one number would give the key away: what qh3 sealed must not leave as well."""
    machines, bob, stream = transfer()
    sealed: list[bytes] = []
    core = bob.core

    class Spy:
        def __getattr__(self, name: str) -> object:
            if name != "poll_transmit":
                return getattr(core, name)

            def poll(now: float) -> tuple[bytes, object] | None:
                transmit = core.poll_transmit(now)
                if transmit is not None:
                    sealed.append(transmit[0])
                return transmit

            return poll

    bob.core = Spy()  # type: ignore[assignment]
    sent = grant(machines, bob, max_stream_data(stream, 2 * WINDOW))
    assert len(sent) == len(sealed)
    assert sealed[-1] not in sent
    assert sent[:-1] == sealed[:-1]


def test_a_foreign_packet_is_left_alone() -> None:
    machines, bob, stream = transfer()
    grant(machines, bob, max_stream_data(stream, 2 * WINDOW))
    postscript = bob._postscript
    assert postscript is not None
    assert postscript.add(b"\x40" + bytes(60), 8, 5, b"x") is None
    assert postscript.add(b"\xc0" + bytes(60), 8, 5, b"x") is None
    machines.alice.core.send_ping(1)
    *_, (packet, _) = machines.alice.datagrams_to_send(machines.now)
    number = machines.alice.core.outstanding_application_packets[-1][0]
    assert postscript.add(packet, 8, number, b"x") is None
    bob.receive(packet, len(packet), ALICE, machines.now)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "4040"),
        (15293, "7bbd"),
        (494878333, "9d7f3e7d"),
        (151288809941952652, "c2197c5eff14e88c"),
    ],
    ids=str,
)
def test_varints_are_those_of_rfc_9000(value: int, encoded: str) -> None:
    assert varint(value).hex() == encoded
