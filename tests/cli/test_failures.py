"""Each kind of error has its exit code, and one line that says what to do."""

from __future__ import annotations

import pytest

from py_p2pstack import errors
from py_p2pstack.cli.failures import Failure, failure_of, one_line

TABLE: list[tuple[BaseException, int]] = [
    (errors.ValueNotFound("x"), 3),
    (errors.PeerNotFound("x"), 3),
    (errors.OperationTimeout("x"), 4),
    (TimeoutError(), 4),
    (errors.LookupFailure("x"), 5),
    (errors.InvalidRecord("x"), 6),
    (errors.RecordError("x"), 6),
    (errors.PutFailed("x", None), 1),
    (errors.ProvideFailed("x", None), 1),
    (errors.DialError("peer", [("/ip4/1.2.3.4", OSError("no"))]), 1),
    (errors.ListenError("/ip4/1.2.3.4", "in use"), 1),
    (errors.StorageFull("x"), 1),
    (errors.StorageReadOnly("x"), 1),
    (errors.StorageLocked("x"), 1),
    (errors.NegotiationError("x"), 1),
    (errors.NotEnabled("x"), 1),
    (errors.P2PError("x"), 1),
    (OSError("x"), 1),
    (Failure(6, "x", "y"), 6),
    (ExceptionGroup("several", [errors.ValueNotFound("x")]), 3),
]


@pytest.mark.parametrize(("fault", "code"), TABLE, ids=lambda value: type(value).__name__)
def test_an_error_has_its_code_and_one_line(fault: BaseException, code: int) -> None:
    failure = failure_of(fault)
    assert failure is not None
    assert failure.code == code
    assert str(failure).startswith("error: ")
    assert " → " in str(failure)
    assert "\n" not in str(failure)


def test_a_file_is_named_and_the_systems_numbers_are_not() -> None:
    failure = failure_of(IsADirectoryError(21, "Is a directory", "there"))
    assert failure is not None
    assert failure.cause == "there: Is a directory"


def test_a_peer_that_is_another_one_is_told_apart_from_one_that_is_away() -> None:
    failure = failure_of(errors.DialError("peer", [("/ip4/1.2.3.4", errors.PeerIdMismatch("a", "b"))]))
    assert failure is not None
    assert "another peer" in failure.remedy


@pytest.mark.parametrize("fault", [KeyError("x"), ExceptionGroup("several", [KeyError("x")])])
def test_a_fault_of_ours_is_none(fault: Exception) -> None:
    assert failure_of(fault) is None


def test_what_a_stranger_says_cannot_steer_the_terminal() -> None:
    assert one_line("one of a,\n\tb") == "one of a, b"
    assert one_line("a:\n  b\n  c\x1b[31m") == "a: b; c\N{REPLACEMENT CHARACTER}[31m"
