"""One network of three implementations, a third of which dies without a word, again and again."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.interop.conftest import MATRIX, start
from tests.interop.peer import Peer
from tests.interop.test_values import encoded

pytestmark = pytest.mark.interop

HOSTS = 3  # in each process
FIRST = {"go": 2, "js": 2, "ours": 4}  # processes: 6 + 6 + 12 nodes
DOOMED = ("go", "js", "ours")  # one process of each dies in a round: 9 of 24 nodes
ROUNDS = 4  # after which no node that was there at first still is
VALUES = 4  # put by each implementation at first


class Node(NamedTuple):
    """One host of a process."""

    group: Peer
    host: int

    def start(self, command: str, **arguments: Any) -> Future[dict[str, Any]]:
        """Have this host run a command."""
        return self.group.start(command, node=self.host, **arguments)

    @property
    def address(self) -> str:
        """Where it listens, with its id."""
        return str(self.group.nodes[self.host]["addrs"][0])


class MixedNetwork:
    """The processes alive, and every value ever put."""

    def __init__(self, stack: ExitStack, rng: random.Random) -> None:
        self._stack = stack
        self._rng = rng
        self.groups: list[Peer] = []
        self.values: dict[str, str] = {}

    @property
    def nodes(self) -> list[Node]:
        """Every host alive."""
        return [Node(group, index) for group in self.groups for index in range(HOSTS)]

    def one_of(self, language: str) -> Node:
        """Some host of an implementation."""
        return self._rng.choice([node for node in self.nodes if node.group.language == language])

    def join(self, *languages: str) -> None:
        """Start a process of each; its hosts connect to two hosts of others and look round."""
        known = self.nodes
        fresh = [
            self._stack.enter_context(start(language, "--dht", "server", "--nodes", str(HOSTS)))
            for language in languages
        ]
        newcomers = [Node(group, index) for group in fresh for index in range(HOSTS)]
        for number, node in enumerate(newcomers):
            # The first ones have only each other: a chain.
            others = self._rng.sample(known, 2) if known else newcomers[max(0, number - 1) : number]
            for other in others:
                node.start("connect", addr=other.address).result(60)
        for done in [node.start("bootstrap") for node in newcomers if known or node is not newcomers[0]]:
            done.result(60)
        self.groups += fresh

    def kill(self, *languages: str) -> None:
        """End the oldest process of each implementation as a crash would."""
        for language in languages:
            oldest = next(group for group in self.groups if group.language == language)
            self.groups.remove(oldest)
            oldest.kill()

    def put(self, language: str, count: int) -> None:
        """Put new values by hosts of an implementation."""
        puts = []
        for _ in range(count):
            key = f"/v/mixed {len(self.values)}"
            value = self.values[key] = encoded(f"by {language}, {key}".encode())
            puts.append(self.one_of(language).start("put", key=key, value=value))
        for done in puts:
            done.result(60)

    def missing(self) -> list[str]:
        """What is not got, by whom: every value is asked for by each implementation."""
        asked = [
            (language, key, self.one_of(language).start("get", key=key)) for key in self.values for language in DOOMED
        ]
        lost = []
        for language, key, answer in asked:
            fault = answer.exception(60)
            if fault is not None or answer.result()["value"] != self.values[key]:
                lost.append(f"{language} does not get {key}: {fault or 'another value'}")
        return lost


@pytest.mark.row("DHT: 24 nodes of three implementations, a third killed and replaced, 4 times", others=("go", "js"))
def test_a_mixed_network_keeps_every_value_while_a_third_of_it_is_replaced(request: pytest.FixtureRequest) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    begun = time.monotonic()
    with ExitStack() as stack:
        network = MixedNetwork(stack, random.Random(seed))
        network.join(*(language for language, count in FIRST.items() for _ in range(count)))
        for group in network.groups:
            if group.language != "ours":
                request.config.stash[MATRIX].name(group.language, group.name)
        for language in FIRST:
            network.put(language, VALUES)
        assert network.missing() == []
        for _ in range(ROUNDS):
            # A third dies. What is left has every value, and takes new ones.
            network.kill(*DOOMED)
            assert network.missing() == []
            for language in DOOMED:
                network.put(language, 1)
            # As many come anew. They get every value too, and by getting it store it where it was missing.
            network.join(*DOOMED)
            assert network.missing() == []
        assert len(network.nodes) == HOSTS * sum(FIRST.values())
    print(f"{len(network.values)} values, {ROUNDS} rounds, {time.monotonic() - begun:.0f} s")
