"""The contracts of libp2p's public interop runners, played without containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import pytest

from tests.interop.conftest import MATRIX, start
from tests.interop.peer import command_of
from tests.interop.public.redis import Redis, connected
from tests.interop.redis_stand_in import stand_in
from tests.interop.test_transports import STACKS, Stack

pytestmark = pytest.mark.interop

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
OURS = [sys.executable, "-m", "tests.interop.public.ping"]
RUNNERS = ("test-plans", "unified-testing")
MEETINGS = (Stack("tcp", "noise", "yamux"), Stack("ws", "tls", "yamux"), Stack("quic-v1"))
PATIENCE = 60.0  # seconds


@contextmanager
def real_redis() -> Iterator[str]:
    """Redis itself, keeping nothing; skips where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server here")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """Where Redis is; its stand-in where there is none."""
    with real_redis() if shutil.which("redis-server") else stand_in() as address:
        yield address


def environment(runner: str, stack: Stack, redis: str, *, dials: bool) -> dict[str, str]:
    """As a runner sets it for one process."""
    told = {"transport": stack.transport, "is_dialer": str(dials).lower(), "redis_addr": redis}
    if stack.security:
        told |= {"muxer": stack.muxer}
    if runner == "test-plans":
        told |= {"ip": "127.0.0.1", "test_timeout_seconds": "60", "security": stack.security}
    else:
        told |= {"listener_ip": "127.0.0.1", "test_timeout_secs": "60", "test_key": "a5b50d5e"}
        told |= {"secure_channel": stack.security, "debug": "false"}
        told = {name.upper(): value for name, value in told.items()}
    return os.environ | {name: value for name, value in told.items() if value}


def play(runner: str, stack: Stack, redis: str, *, dialer: list[str], listener: list[str]) -> str:
    """Let two programs meet, as the runner does; what the dialer printed."""
    with ExitStack() as running:

        def run(command: list[str], *, dials: bool) -> subprocess.Popen[str]:
            process = running.enter_context(
                subprocess.Popen(
                    command,
                    env=environment(runner, stack, redis, dials=dials),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
            running.callback(process.kill)
            return process

        run(listener, dials=False)
        process = run(dialer, dials=True)
        printed, logged = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, logged
        return printed


def measured(runner: str, printed: str) -> tuple[float, float]:
    """Milliseconds until the first pong, and of the ping, as the runner reads them."""
    if runner == "test-plans":
        told: dict[str, Any] = json.loads(printed)
        assert set(told) == {"handshakePlusOneRTTMillis", "pingRTTMilllis"}
        return told["handshakePlusOneRTTMillis"], told["pingRTTMilllis"]
    found = re.search(
        r"^latency:\n  handshake_plus_one_rtt: ([\d.]+)\n  ping_rtt: ([\d.]+)\n  unit: ms$", printed, re.MULTILINE
    )
    assert found, printed
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("meeting", STACKS, ids=str)
def test_two_of_ours_meet_as_unified_testing_has_them(meeting: Stack, redis: str) -> None:
    both, rtt = measured("unified-testing", play("unified-testing", meeting, redis, dialer=OURS, listener=OURS))
    assert both > rtt > 0


@pytest.mark.parametrize("meeting", MEETINGS, ids=str)
def test_two_of_ours_meet_as_test_plans_has_them(meeting: Stack, redis: str) -> None:
    both, rtt = measured("test-plans", play("test-plans", meeting, redis, dialer=OURS, listener=OURS))
    assert both > rtt > 0


def test_what_we_do_not_speak_is_told_and_fails(redis: str) -> None:
    told = environment("test-plans", Stack("webtransport", "noise", "yamux"), redis, dials=True)
    done = subprocess.run(OURS, env=told, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert "webtransport" in done.stderr


def test_a_dialer_without_a_listener_fails_in_time(redis: str) -> None:
    told = environment("unified-testing", STACKS[0], redis, dials=True) | {"TEST_TIMEOUT_SECS": "1"}
    done = subprocess.run(OURS, env=told, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.row("public interop contract: with their own program")
@pytest.mark.parametrize(("runner", "meeting"), [*zip(RUNNERS, MEETINGS[:2], strict=True)], ids=str)
@pytest.mark.parametrize("other", ["go", "rust", "js", "py"])
@pytest.mark.parametrize("direction", ["we dial", "we listen"])
def test_we_meet_the_program_of_another_library(
    request: pytest.FixtureRequest, other: str, direction: str, runner: str, meeting: Stack, redis: str
) -> None:
    """Not over QUIC: there py-libp2p's program leaves a dialer without an answer now and then, its own too."""
    if other != "py":
        pytest.skip(f"the {other} library's program is in no registry")
    if shutil.which("redis-server") is None:
        pytest.skip("py-libp2p's program wants more of Redis than its stand-in knows")
    with start(other, listen=False) as probe:
        request.config.stash[MATRIX].name(other, probe.name)
    theirs = [command_of(other)[0], "-m", "interop.transport.ping_test"]
    theirs += ["--test-plans"] if runner == "test-plans" else []
    dialer, listener = (OURS, theirs) if direction == "we dial" else (theirs, OURS)
    measured(runner, play(runner, meeting, redis, dialer=dialer, listener=listener))


async def _converse(address: str) -> list[object]:
    """A bit of everything the contract asks for."""
    replies: list[object] = []

    async def pop(redis: Redis) -> None:
        replies.append(await redis.call("BLPOP", "waited for", "10"))

    async with connected(address) as one, connected(address) as two:
        replies.append(await one.call("PING"))
        replies.append(await one.call("RPUSH", "list", "ä"))
        replies.append(await one.call("RPUSH", "list", "b"))
        replies.append(await two.call("BLPOP", "list", "1"))
        replies.append(await two.call("DEL", "list"))
        replies.append(await two.call("DEL", "list"))
        replies.append(await two.call("BLPOP", "list", "1"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pop, one)
            await two.call("RPUSH", "waited for", "c")
        with pytest.raises(ValueError, match=r"^ERR unknown command"):
            await one.call("NONSENSE")
    return replies


@pytest.mark.parametrize("server", [real_redis, stand_in], ids=["redis", "stand-in"])
def test_redis_and_its_stand_in_answer_alike(server: Any) -> None:
    with server() as address:
        told = anyio.run(_converse, address)
    assert told == [b"PONG", 1, 2, [b"list", "ä".encode()], 1, 0, None, [b"waited for", b"c"]]
