"""A panic of qh3's Rust parts, which is no Exception, and leaves a core that panics at every call behind."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.errors import ConnectionClosed
from py_p2pstack.transports.quic.connection import QuicConnection
from tests.transports.quic.machines import ALICE, connected
from tests.transports.quic.pairs import Gate, listening, transport

pytestmark = pytest.mark.anyio

PanicException = type("PanicException", (BaseException,), {})


class Poisoned:
    """A core behind a panic."""

    def __getattr__(self, name: str) -> Any:
        raise PanicException(name)


def test_a_machine_that_panicked_has_ended_and_answers_everything() -> None:
    machine = connected().alice
    machine.core = Poisoned()  # type: ignore[assignment]
    machine.receive(b"\x40" + bytes(60), 61, ALICE, 1.0)
    assert machine.fault is not None
    assert machine.ended
    assert machine.timer() is None
    assert machine.datagrams_to_send(2.0) == []
    machine.handle_timer(2.0)
    machine.close(0)
    machine.command(machine.core.send_stream, 0, b"x", False)
    assert machine.core.get_send_buffer_size(0) == 0


def test_what_is_neither_an_exception_nor_a_panic_passes() -> None:
    machine = connected().alice

    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    machine.core = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        machine.receive(b"\x40" + bytes(60), 61, ALICE, 1.0)


async def test_a_panic_ends_its_connection_alone() -> None:
    gate = Gate()
    async with listening(transport(), gate) as listener, anyio.create_task_group() as tasks:
        ends = []
        for _ in range(2):
            ends.append(await transport().dial(listener.address, None))
            while len(gate.connections) < len(ends):
                await anyio.lowlevel.checkpoint()
        for end in (*ends, *gate.connections):
            tasks.start_soon(end.serve, lambda stream: True)
        stream = await ends[0].open_stream()
        await anyio.wait_all_tasks_blocked()
        broken, sound = gate.connections
        assert isinstance(broken, QuicConnection)
        broken.machine.core = Poisoned()  # type: ignore[assignment]
        await stream.send(b"boom")
        while not broken.closed:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(ConnectionClosed):
            await broken.open_stream()
        other = await ends[1].open_stream()
        await other.send(b"fine")
        assert not sound.closed
        for end in (*ends, *gate.connections):
            end.close()
