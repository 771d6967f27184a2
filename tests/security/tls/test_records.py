"""TLS records of a peer that keeps us busy with what is no data; what all protocols share is in the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from OpenSSL import SSL

from py_p2pstack.errors import DecryptError
from py_p2pstack.security.tls import TlsRecords, TlsTransport, openssl, records
from py_p2pstack.security.tls.records import MAX_IDLE
from py_p2pstack.testing.contracts.security_case import open_records
from tests.security.tls.certificates import NOW
from tests.security.tls.key_updates import APPLICATION_DATA, Traffic
from tests.security.tls.mallory import Mallory
from tests.security.tls.test_machine import ALICE, GOOD, meet

Met = tuple[TlsRecords, Mallory, Traffic]


@pytest.fixture(params=[openssl.channel, openssl.Public], ids=["direct", "public"])
def met(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Met:
    """Our records, and Mallory, whose side of the channel is written by hand."""
    make: Callable[[SSL.Connection], openssl.Channel] = request.param
    monkeypatch.setattr(records, "channel", make)
    mallory = Mallory(server=False, shows=GOOD)
    side = TlsTransport(ALICE, wall_clock=lambda: NOW).handshake(initiator=False, peer=None, muxers=())
    ours = meet(side, mallory).records
    assert isinstance(ours, TlsRecords)
    return ours, mallory, Traffic(mallory.key_log)


def test_key_updates_are_followed_and_answered(met: Met) -> None:
    ours, mallory, traffic = met
    out = memoryview(bytearray(1000))
    for wanted in (False, True, True):
        wire = traffic.key_update(wanted=wanted) + traffic.record(APPLICATION_DATA, b"data")
        assert open_records(ours, wire) == ([b"data"], len(wire))
        mallory.tls.bio_write(out[: ours.seal_into(b"answer", out)])
        assert mallory.tls.recv(100) == b"answer"


@pytest.mark.parametrize("among_data", [False, True])
def test_records_without_data_are_cut_off(met: Met, among_data: bool) -> None:
    """Each costs more than it weighs, and may have us owe an answer."""
    ours, _, traffic = met
    data = [traffic.record(APPLICATION_DATA, b"x") for _ in range(among_data)]
    updates = 0
    with pytest.raises(DecryptError, match="without data"):
        while True:
            wire = b"".join([*data, *(traffic.key_update(wanted=True) for _ in range(3))])
            assert open_records(ours, wire)[1] == len(wire)
            data = [traffic.record(APPLICATION_DATA, b"x") for _ in data]
            updates += 3
    assert MAX_IDLE - 4 < updates <= MAX_IDLE
