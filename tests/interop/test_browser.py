"""A page with js-libp2p in a real Chromium, over WebSocket: it dials our nodes, and reads and writes their DHT."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.conftest import MATRIX, start
from tests.interop.peer import CommandFailed, Peer, command_of
from tests.interop.test_dht import until_known
from tests.interop.test_values import contents, encoded, found_provider, sign, until
from tests.transports.websocket.certificates import self_signed

pytestmark = pytest.mark.interop

MIB = 1 << 20
LISTENING = ("--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/tcp/0/ws")
EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
BACKENDS = ("asyncio", "trio", "asyncio")


def node(backend: str, *options: str) -> Peer:
    """One of ours, in the DHT, that pages can dial, and others over TCP."""
    return start("ours", *LISTENING, "--dht", "server", "--backend", backend, *options, listen=False)


def websocket_address(node: Peer) -> str:
    """Where a page can dial a node that listens on TCP too."""
    return next(str(address) for address in node.ready["addrs"] if "/ws/" in address)


def opened(request: pytest.FixtureRequest, stack: ExitStack) -> Peer:
    """A page that knows nobody; skips where there is no browser."""
    page = stack.enter_context(start("browser", "--dht", "client", listen=False))
    request.config.stash[MATRIX].browser = page.name
    return page


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Peer]]:
    """Three of ours that know each other; the first is the one that pages are told of."""
    with ExitStack() as stack:
        three = [stack.enter_context(node(backend)) for backend in BACKENDS]
        for other in three[1:]:
            other.call("connect", addr=three[0].address)
            until_known(three[0], other)
        for each in three:
            each.call("bootstrap")
        yield three


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, nodes: list[Peer]) -> Iterator[Peer]:
    """A page that dialled the first node over WebSocket, and looked round."""
    with ExitStack() as stack:
        page = opened(request, stack)
        page.call("connect", addr=websocket_address(nodes[0]))
        page.call("bootstrap")
        yield page


def row(claim: str) -> pytest.MarkDecorator:
    """The row of a claim; the browser's library is js."""
    return pytest.mark.row(f"a page in Chromium: {claim}", others=("js",))


@row("dial over WebSocket, ping, identify")
def test_page_and_node_see_each_other(nodes: list[Peer], page: Peer) -> None:
    assert len(page.call("ping", peer=nodes[0].id, count=3)["rtt_ms"]) == 3
    assert len(nodes[0].call("ping", peer=page.id, count=3)["rtt_ms"]) == 3
    seen = page.call("identify", peer=nodes[0].id)
    assert seen["agent"].startswith("py_p2pstack/")
    assert "/p2pstack/kad/1.0.0" in seen["protocols"]
    assert seen["observed_addr"].endswith("/ws")
    seen = nodes[0].call("identify", peer=page.id)
    assert "Chrome/" in seen["agent"]
    assert seen["key_type"] == "ed25519"
    assert "/p2pstack/kad/1.0.0" not in seen["protocols"]  # a client


@row("echo 16 MiB, 100 concurrent streams, stream reset, both ways")
def test_streams_carry_what_they_carry_elsewhere(nodes: list[Peer], page: Peer) -> None:
    for opener, server in ((page, nodes[0]), (nodes[0], page)):
        assert opener.call("echo", peer=server.id, size=16 * MIB, chunk=65536) == {"bytes": 16 * MIB, "ok": True}
        assert opener.call("streams", peer=server.id, count=100, size=1000) == {"opened": 100}
        assert opener.call("reset", peer=server.id, code=7)["reset"]


@row("DHT: value put there, kept and got by all our nodes")
@pytest.mark.parametrize("kind", ["/v/", "/ipns/"])
def test_every_node_has_what_a_page_put(nodes: list[Peer], page: Peer, kind: str) -> None:
    key, value = ("/v/from a page", encoded(b"\x00\xff" * 5000)) if kind == "/v/" else sign(page, kind)
    page.call("put", key=key, value=value)
    for each in nodes:
        assert page.call("get_at", peer=each.id, key=key) == {"value": value}
        assert each.call("get", key=key) == {"value": value}


@row("DHT: value put by our nodes, got there")
def test_a_page_gets_what_any_node_put(nodes: list[Peer], page: Peer) -> None:
    for number, each in enumerate(nodes):
        key, value = f"/v/from node {number}", encoded(each.id.encode() * 100)
        assert each.call("put", key=key, value=value) == {"replicas": 2}
        assert page.call("get", key=key) == {"value": value}


@row("DHT: provided by us, found there")
def test_a_page_finds_the_provider_of_a_key(nodes: list[Peer], page: Peer) -> None:
    """Not the other way round: nobody keeps a provider that has no address, as a page has none."""
    key = contents(f"of {nodes[1].id}")
    nodes[1].call("provide", key=key)
    addresses = found_provider(page, key, nodes[1])
    assert addresses is not None
    assert any(websocket_address(nodes[1]).startswith(address) for address in addresses)


@row("DHT: a node it was not told of is found there, dialled and talked to")
def test_a_page_finds_and_dials_a_node_it_was_not_told_of(nodes: list[Peer], page: Peer) -> None:
    """The stranger comes when the page has looked round already."""
    with node("trio", "--dht-idle") as stranger:
        stranger.call("connect", addr=nodes[0].address)
        until_known(nodes[0], stranger)
        assert stranger.id not in page.call("peers")["peers"]
        found = page.call("find_peer", target=stranger.id)
        assert found["id"] == stranger.id
        [address] = {each for each in found["addrs"] if each.endswith("/ws")}
        page.call("connect", addr=f"{address}/p2p/{stranger.id}")
        assert page.call("echo", peer=stranger.id, size=MIB, chunk=4096) == {"bytes": MIB, "ok": True}


@row("wss, with a certificate of the user's")
def test_a_page_dials_inside_the_tls_of_the_web(tmp_path: Path) -> None:
    """A page served over https may use no other WebSocket."""
    certificate, key = self_signed()
    (tmp_path / "trust.pem").write_bytes(certificate)
    (tmp_path / "server.pem").write_bytes(certificate + key)
    listening = ("--listen", "/ip4/127.0.0.1/tcp/0/tls/ws", "--web-cert", str(tmp_path / "server.pem"))
    with (
        start("ours", *listening, listen=False) as ours,
        start("browser", "--web-trust", str(tmp_path / "trust.pem"), listen=False) as page,
    ):
        page.call("connect", addr=ours.address)
        assert page.call("identify", peer=ours.id)["observed_addr"].endswith("/tls/ws")
        for opener, server in ((page, ours), (ours, page)):
            assert opener.call("echo", peer=server.id, size=MIB, chunk=65536) == {"bytes": MIB, "ok": True}


@row("wss, refused without a certificate that it trusts")
def test_a_page_refuses_a_certificate_that_nobody_vouches_for(tmp_path: Path, page: Peer) -> None:
    certificate, key = self_signed()
    (tmp_path / "server.pem").write_bytes(certificate + key)
    listening = ("--listen", "/ip4/127.0.0.1/tcp/0/tls/ws", "--web-cert", str(tmp_path / "server.pem"))
    with start("ours", *listening, listen=False) as ours:
        with pytest.raises(CommandFailed):
            page.call("connect", addr=ours.address)
        assert ours.call("peers") == {"peers": []}


@row("it is closed, and its connection is gone")
def test_a_page_that_is_closed_is_gone_from_the_node(request: pytest.FixtureRequest, nodes: list[Peer]) -> None:
    with ExitStack() as stack:
        page = opened(request, stack)
        page.call("connect", addr=websocket_address(nodes[0]))
        assert page.id in nodes[0].call("peers")["peers"]
    until(lambda: page.id not in nodes[0].call("peers")["peers"])


# --- the example ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example(page: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `npm start` serves the example, with the packages of the peer, which are those that it asks for."""
    home = tmp_path_factory.mktemp("example") / "browser"
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("node_modules"))
    modules = next(path for path in Path(command_of("browser")[1]).parents if (path / "node_modules").exists())
    (home / "node_modules").symlink_to(modules / "node_modules")
    package = json.loads((home / "package.json").read_text(encoding="utf-8"))
    installed = json.loads((modules / "package.json").read_text(encoding="utf-8"))
    assert package["dependencies"].items() <= installed["dependencies"].items()
    program, *options = package["scripts"]["start"].replace(":8000", ":0").split()
    with subprocess.Popen(
        [home / "node_modules" / ".bin" / program, *options],
        cwd=home,
        stdin=subprocess.PIPE,  # its end is the server's
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        yield next(line.split()[-1] for line in server.stderr if "Local:" in line)


GREET = """
    document.querySelector('input').value = ADDRESS
    document.querySelector('button').click()
    new Promise((resolve) => {
      const text = () => document.querySelector('pre').textContent
      const look = () => /is now|failed/.test(text()) ? resolve(text()) : setTimeout(look, 50)
      look()
    })
"""


def test_the_example_does_what_it_says(nodes: list[Peer], page: Peer, example: str) -> None:
    said = page.call("visit", url=example, script=GREET.replace("ADDRESS", json.dumps(websocket_address(nodes[0]))))
    name, connected, value = said["value"].splitlines()
    assert connected.startswith(f"connected to {nodes[0].id}, ")
    greeting = f"hello from {name.removeprefix('this page is ')}"
    assert value == f"/v/greeting is now: {greeting}"
    assert nodes[2].call("get", key="/v/greeting") == {"value": encoded(greeting.encode())}


def test_the_example_tells_what_failed(page: Peer, example: str) -> None:
    said = page.call("visit", url=example, script=GREET.replace("ADDRESS", '"/nonsense"'))
    assert "it failed: " in said["value"]
