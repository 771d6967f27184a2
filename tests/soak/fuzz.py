"""Fuzz loops: valid input, mutated, into everything that reads bytes of strangers.

A target takes bytes and may raise its own typed errors and nothing else. The inputs follow from the seed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from py_p2pstack.errors import P2PError

MAX_INPUT = 65_536  # bytes

INTERESTING = (0, 1, 2, 0x0A, 0x7F, 0x80, 0xFF)
NUMBERS = (
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x00\x04\x00\x01",
    b"\xff" * 9,
    b"\x80" * 10,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of foreign bytes."""

    name: str
    read: Callable[[bytes, random.Random], None]
    corpus: Sequence[bytes]
    """Valid inputs to begin with."""
    refusals: tuple[type[P2PError], ...]
    """How it may refuse."""


class Crash(Exception):
    """A target let something else out than a refusal; holds what it takes to see it again."""

    def __init__(self, target: str, data: bytes, seed: int) -> None:
        super().__init__(f"{target}, seed {seed}, input {data.hex()}")


def mutate(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    """Change one to eight things about `data`."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(8)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.choice(INTERESTING)
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 32)))
        elif kind == 3:
            del out[at : at + rng.choice((1, 2, 12, 100))]
        elif kind == 4:
            number = rng.choice(NUMBERS)
            out[at : at + len(number)] = number
        elif kind == 5:
            piece = out[at : at + rng.randrange(1, 64)]
            out[at:at] = piece * rng.choice((1, 2, 50))
        elif kind == 6:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            out[at:] = other[start:]
        else:
            del out[at:]
    return bytes(out[:MAX_INPUT])


def pieces(data: bytes, rng: random.Random) -> list[bytes]:
    """The same bytes as a stream may bring them."""
    if rng.random() < 0.5:
        return [data]
    out = []
    while data:
        size = rng.choice((1, 2, 7, 64, 1024))
        out.append(data[:size])
        data = data[size:]
    return out


def run(
    target: Target, seed: int, *, seconds: float | None = None, rounds: int | None = None
) -> tuple[int, int, float]:
    """Feed a target mutated inputs until time or rounds are over.

    Returns how many inputs there were, how many were refused, and the longest time one took in seconds. Raises Crash.
    """
    rng = random.Random(f"{seed}/{target.name}")
    end = None if seconds is None else time.monotonic() + seconds
    inputs = refused = 0
    longest = 0.0
    while (end is None or time.monotonic() < end) and (rounds is None or inputs < rounds):
        data = mutate(rng.choice(target.corpus), target.corpus, rng)
        inputs += 1
        start = time.perf_counter()
        try:
            target.read(data, rng)
        except target.refusals:
            refused += 1
        except Exception as fault:
            raise Crash(target.name, data, seed) from fault
        longest = max(longest, time.perf_counter() - start)
    return inputs, refused, longest
