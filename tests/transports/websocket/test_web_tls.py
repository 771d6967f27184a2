"""The TLS of the web against a client that keeps it busy with what is no data."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Buffer
from py_p2pstack.transports.websocket.web_tls import FEED, MAX_IDLE, WebTlsConnection
from tests.security.tls.key_updates import APPLICATION_DATA, Traffic
from tests.transports.websocket.certificates import web_config

ADDRESS = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")


class Pipe:
    """A raw connection in the test's hand."""

    local_address = remote_address = ADDRESS

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.sent = bytearray()
        self.room = 1 << 30

    def receive_nowait(self, buffer: memoryview) -> int | None:
        count = min(len(buffer), len(self.incoming))
        buffer[:count] = self.incoming[:count]
        del self.incoming[:count]
        return count or None

    def send_nowait(self, data: Buffer) -> int:
        count = min(len(data), self.room)
        self.sent += memoryview(data)[:count]
        self.room -= count
        return count

    async def wait_readable(self) -> None: ...

    async def wait_writable(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def met(tmp_path: Path) -> tuple[WebTlsConnection, Pipe, Traffic]:
    """Our side, its pipe, and a client's hand behind the handshake."""
    pipe, config = Pipe(), web_config.__wrapped__()
    assert config.server_tls is not None
    assert config.client_tls is not None
    config.client_tls.keylog_filename = str(tmp_path / "keys")
    ours = WebTlsConnection(pipe, config.server_tls, None)
    to_client, from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = config.client_tls.wrap_bio(to_client, from_client, server_hostname="localhost")
    while not ours.ready:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        pipe.incoming += from_client.read()
        assert ours.receive_nowait(memoryview(bytearray(100))) is None
        to_client.write(pipe.sent)
        pipe.sent.clear()
    return ours, pipe, Traffic((tmp_path / "keys").read_text())


def receive(ours: WebTlsConnection) -> bytes | None:
    buffer = memoryview(bytearray(1 << 16))
    count = ours.receive_nowait(buffer)
    return None if count is None else bytes(buffer[:count])


def test_key_updates_are_followed_and_answered(met: tuple[WebTlsConnection, Pipe, Traffic]) -> None:
    ours, pipe, client = met
    for wanted in (False, True):
        pipe.incoming += client.key_update(wanted=wanted) + client.record(APPLICATION_DATA, b"data")
        assert receive(ours) == b"data"
        assert receive(ours) is None
        pipe.sent.clear()
        assert ours.send_nowait(b"five!") == 5
        assert len(pipe.sent) == 27 * (1 + wanted)  # the answer goes ahead of what is sent next, and is as long


def test_records_without_data_are_read_in_turns_and_cut_off(met: tuple[WebTlsConnection, Pipe, Traffic]) -> None:
    ours, pipe, client = met
    pipe.incoming += b"".join(client.key_update(wanted=False) for _ in range(4 * MAX_IDLE // 27))
    there, turns = len(pipe.incoming), 0
    with pytest.raises(OSError, match="without data"):
        while receive(ours) is None:
            assert there - len(pipe.incoming) <= FEED
            there = len(pipe.incoming)
            turns += 1
    assert turns
    with pytest.raises(OSError, match="without data"):
        ours.send_nowait(b"x")


def test_answers_that_nobody_reads_are_bounded(met: tuple[WebTlsConnection, Pipe, Traffic]) -> None:
    ours, pipe, client = met
    pipe.room = 0
    with pytest.raises(OSError, match="reads no answers"):
        for _ in range(100):
            pipe.incoming += b"".join(client.key_update(wanted=True) for _ in range(50))
            pipe.incoming += client.record(APPLICATION_DATA, b"data")
            assert receive(ours) == b"data"
            assert receive(ours) is None
    assert len(ours._unsent) <= 2 * MAX_IDLE
