"""The works on a DHT of twenty nodes in two processes: joining, putting, getting, and what answering costs a server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.works import Bar, Work
from tests.interop.peer import CommandFailed, Peer

NODES = 10  # in each process
ASKER = 3  # the node of the first process that puts and gets: not the one the others joined at
VALUE = 100  # bytes
GENERATORS = 4  # connections, each with four streams, that load a server
LOAD_SECONDS = 2.0

_names = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Two processes whose nodes have all met, of one implementation; slow ones are asked for less."""

    language: str
    arguments: tuple[str, ...]
    first: Peer
    second: Peer
    joined: float
    """Seconds until every node had looked round."""
    slow: bool
    stored: set[str] = field(default_factory=set)
    """What was put to be got: once is enough, its own copies a node drops each time."""


def start(stack: ExitStack, language: str, *arguments: str) -> Network:
    """Start twenty nodes and let them join. Raises PeerMissing."""
    first, second = (
        stack.enter_context(Peer.listening(language, "--dht", "server", "--nodes", str(NODES), *arguments))
        for _ in range(2)
    )
    begun = time.perf_counter()
    joins = [peer.start("dht_join", addr=first.address) for peer in (first, second)]
    tables = [size for join in joins for size in join.result(60)["tables"]]
    joined = time.perf_counter() - begun
    slow = language == "py"
    if min(tables) < NODES and not slow:  # whose nodes do not all find each other when they join at once
        raise CommandFailed(f"{language}: the tables are not filled: {tables}")
    return Network(language=language, arguments=arguments, first=first, second=second, joined=joined, slow=slow)


def join(network: Network) -> float:
    """Seconds for twenty new nodes to join, all at once; of slow ones those it took at the start."""
    if network.slow:
        return network.joined
    with ExitStack() as stack:
        return start(stack, network.language, *network.arguments).joined


def put(concurrency: int) -> Callable[[Network], float]:
    """Values put per second by one node, each stored at the nineteen others."""

    def run(network: Network) -> float:
        return _rate(network, "bench_put", f"put {next(_names)}", 8 if network.slow else 100, concurrency)

    return run


def get(concurrency: int, quorum: int = 1) -> Callable[[Network], float]:
    """Values got per second by one node that has no copy of its own; the first answer will do with a quorum of 1."""

    def run(network: Network) -> float:
        name, count = "to be got", 8 if network.slow else 200
        if name not in network.stored:
            _rate(network, "bench_put", name, count, 1)
            network.stored.add(name)
        return _rate(network, "bench_get", name, count, concurrency, quorum=quorum)

    return run


def _rate(network: Network, command: str, name: str, count: int, concurrency: int, **more: int) -> float:
    result = network.first.call(
        command, node=ASKER, prefix=name, count=count, concurrency=concurrency, size=VALUE, **more
    )
    return count / float(result["seconds"])


def answers(network: Network) -> float:
    """FIND_NODE answers per second of the server's CPU time; go-libp2p asks, with requests encoded beforehand."""
    arguments = ("--dht", "server", *network.arguments)
    with (
        Peer.listening(network.language, *arguments) as server,
        Peer.listening("go", "--dht", "server", "--nodes", "20") as crowd,
        Peer("go", "--dht", "client", "--nodes", str(GENERATORS)) as load,
    ):
        for index in range(20):
            crowd.call("connect", node=index, addr=server.address)
        for met in [crowd.start("bootstrap", node=index) for index in range(20)]:
            met.result(60)  # by then the server has taken each into its table
        for index in range(GENERATORS):
            load.call("connect", node=index, addr=server.address)
        before = server.call("stats")["cpu_seconds"]
        runs = [
            load.start("bench_find_node", node=index, peer=server.id, seconds=LOAD_SECONDS, concurrency=4)
            for index in range(GENERATORS)
        ]
        count = sum(int(run.result(60)["count"]) for run in runs)
        return count / float(server.call("stats")["cpu_seconds"] - before)


DHT_WORKS: tuple[Work[Network], ...] = (
    Work(name="DHT: 20 nodes join", unit="s", run=join, less_is_better=True, at_most=1.5),
    Work(
        name="DHT: put, one at a time",
        unit="/s",
        run=put(1),
        bars=(Bar(against="py", ratio=20), Bar(against="kademlia", ratio=1)),
    ),
    Work(
        name="DHT: get, one at a time",
        unit="/s",
        run=get(1),
        bars=(Bar(against="py", ratio=100), Bar(against="kademlia", ratio=0.5)),
    ),
    Work(name="DHT: get, 8 at a time", unit="/s", run=get(8), bars=(Bar(against="py", ratio=100),)),
    Work(
        name="DHT: get, all of 20 asked",
        unit="/s",
        run=get(1, quorum=0),
        only=("ours", "ours, trio", "ours, uvloop", "go"),
    ),
    # After the gets: kademlia's nodes lose each other when they are asked for much at once.
    Work(name="DHT: put, 8 at a time", unit="/s", run=put(8), bars=(Bar(against="py", ratio=20),)),
    Work(
        name="DHT: FIND_NODE answers",
        unit="/CPU s",
        run=answers,
        only=("ours", "ours, trio", "ours, uvloop", "go"),
    ),
)
