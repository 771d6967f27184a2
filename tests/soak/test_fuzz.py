"""The fuzz loops in short: every reader of foreign bytes refuses with its own errors or not at all."""

from __future__ import annotations

import random

import pytest

from py_p2pstack.errors import P2PError, ProtocolError
from tests.soak import fuzz, fuzz_targets

TARGETS = fuzz_targets.targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_input_is_read_or_refused(target: fuzz.Target) -> None:
    inputs, refused, _ = fuzz.run(target, seed=1, rounds=400)
    assert inputs == 400
    assert refused > 0  # the mutations do reach the checks


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_corpus_itself_is_read(target: fuzz.Target) -> None:
    rng = random.Random(1)
    read = 0
    for data in target.corpus:
        try:
            target.read(data, rng)
        except P2PError:
            continue
        read += 1
    assert read


def test_what_a_target_lets_out_is_told_with_its_seed_and_input() -> None:
    def broken(data: bytes, rng: random.Random) -> None:
        raise ZeroDivisionError

    with pytest.raises(fuzz.Crash, match="broken, seed 7, input "):
        fuzz.run(fuzz.Target("broken", broken, [b"x"], (ProtocolError,)), seed=7, rounds=1)
