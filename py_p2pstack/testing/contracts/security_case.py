"""A security protocol to try, and what the claims about it are made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from py_p2pstack.core.security import Handshake, RecordLayer, Secured, SecurityTransport
from py_p2pstack.core.types import Buffer
from py_p2pstack.identity import PeerId, PrivateKey

YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"
ALICE, BOB, MALLORY = (PrivateKey.from_seed(name.ljust(32)) for name in (b"alice", b"bob", b"mallory"))


@dataclass(frozen=True, slots=True)
class SecurityCase:
    """A security protocol to try."""

    bind: Callable[[PrivateKey], SecurityTransport]
    """Binds it to an identity."""


Pair = tuple[Handshake, Handshake]


def begin(
    case: SecurityCase,
    *,
    expected: PeerId | None = None,
    alice: Sequence[str] = (YAMUX,),
    bob: Sequence[str] = (YAMUX,),
) -> Pair:
    """Two sides of a handshake, alice's the initiator; `expected`: whom she wants (bob, if None)."""
    return (
        case.bind(ALICE).handshake(initiator=True, peer=expected or BOB.public_key.peer_id(), muxers=alice),
        case.bind(BOB).handshake(initiator=False, peer=None, muxers=bob),
    )


def pump(
    sides: Sequence[Handshake], *, piece: int = 1 << 20, touch: Callable[[int, int], int] | None = None
) -> tuple[Secured, Secured]:
    """Carry bytes between two handshakes, at most `piece` at a time, until both are done.

    `touch` may change each byte: it is given its number on the wire and its value. Raises what a side raises, and
    AssertionError when neither has a word to say before the end.
    """
    outcomes: list[Secured | None] = [None, None]
    extra = [b"", b""]
    count = 0
    while not all(outcomes):
        idle = True
        for number, side in enumerate(sides):
            data = side.bytes_to_send()
            other = 1 - number
            while data:
                idle = False
                cut, data = data[:piece], data[piece:]
                if touch is not None:
                    cut = bytes(touch(count + place, byte) for place, byte in enumerate(cut))
                count += len(cut)
                if outcomes[other]:  # what one has to say behind the other's end belongs to the record layer
                    extra[other] += cut
                else:
                    outcomes[other] = sides[other].receive_data(cut)
        assert not idle or all(outcomes), "both sides wait for each other"
    for number, side in enumerate(sides):
        extra[1 - number] += side.bytes_to_send()
    for outcome, behind in zip(outcomes, extra, strict=True):
        assert outcome is not None
        assert open_all(outcome.records, outcome.unread + behind) == b""
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    return outcomes[0], outcomes[1]


def channel(case: SecurityCase) -> tuple[RecordLayer, RecordLayer]:
    """Two record layers that belong together: alice's and bob's."""
    for_alice, for_bob = pump(begin(case))
    return for_alice.records, for_bob.records


def seal(records: RecordLayer, plaintext: bytes) -> bytes:
    """One record."""
    out = bytearray(len(plaintext) + records.overhead)
    return bytes(out[: records.seal_into(plaintext, memoryview(out))])


def open_records(records: RecordLayer, data: Buffer) -> tuple[list[bytes], int]:
    """What each whole record holds, and how many bytes they took."""
    plaintexts: list[bytes] = []
    start = 0
    while True:
        plaintext, end = records.open_record(memoryview(data), start)
        if end == start:
            return plaintexts, end
        plaintexts.append(bytes(plaintext))
        start = end


def open_all(records: RecordLayer, data: bytes) -> bytes:
    """What whole records hold together."""
    plaintexts, used = open_records(records, data)
    assert used == len(data)
    return b"".join(plaintexts)


@contextmanager
def raising(*errors: type[Exception]) -> Iterator[None]:
    """Demand one of these errors."""
    try:
        yield
    except errors:
        return
    raise AssertionError(f"none of {', '.join(error.__name__ for error in errors)} was raised")
