"""Claims about all errors: what ended something can be told to many."""

from __future__ import annotations

from copy import copy

import pytest

from py_p2pstack.errors import (
    ConnectionClosed,
    DialError,
    NegotiationError,
    OperationTimeout,
    P2PError,
    RemoteProtocolError,
    ResourceLimitExceeded,
    StreamReset,
)


@pytest.mark.parametrize(
    "fault",
    [
        P2PError("it"),
        RemoteProtocolError("rules", code=7),
        NegotiationError("none in common", protocols=("/a", "/b")),
        OperationTimeout("late"),
        ResourceLimitExceeded("streams", 3, 4),
        DialError("Qm", [("/ip4/127.0.0.1", OSError("refused"))], "timed out"),
        StreamReset(code=5, remote=False),
        ConnectionClosed("gone", code=9, remote=True),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_copy_says_the_same_and_holds_on_to_nobody(fault: P2PError) -> None:
    try:
        raise fault from KeyError("why")
    except P2PError:
        twin = copy(fault)
    assert twin is not fault
    assert type(twin) is type(fault)
    assert (str(twin), vars(twin)) == (str(fault), vars(fault))
    assert twin.__cause__ is fault.__cause__
    assert fault.__traceback__ is not None
    assert twin.__traceback__ is None
