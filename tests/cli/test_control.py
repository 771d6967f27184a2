"""The control socket: calls, events, bounds, and who may use it."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from py_p2pstack.cli import control, control_client
from py_p2pstack.cli.callee import Answer, Give
from py_p2pstack.cli.control import MAX_PATH, ControlServer
from py_p2pstack.cli.control_client import PORT_FILE, SOCKET, running_node
from py_p2pstack.cli.failures import Failure
from py_p2pstack.errors import ValueNotFound
from py_p2pstack.protocols.dht import FinalPeer, QueryEvent
from py_p2pstack.protocols.dht.events import OnEvent
from tests.peer_ids import peer

pytestmark = pytest.mark.anyio

EVENT = FinalPeer(query_id=1, at=0.5, peer=peer(1), distance=7)
unix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")


class Echo:
    """Answers what it was asked; some calls behave specially."""

    def __init__(self) -> None:
        self.cancelled = anyio.Event()
        self.begun = anyio.Event()

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, give: Give, on_event: OnEvent | None = None
    ) -> Answer:
        match name:
            case "count":
                for number in range(arguments["to"]):
                    if on_event is not None:
                        on_event(EVENT)
                    await give({"number": number})
            case "wait":
                self.begun.set()
                try:
                    await anyio.sleep_forever()
                finally:
                    self.cancelled.set()
            case "fail":
                raise ValueNotFound("nobody has it")
            case "break":
                raise KeyError("a fault of ours")
            case "flood":
                assert on_event is not None
                for _ in range(arguments["events"]):
                    on_event(EVENT)
        return {"name": name, "arguments": dict(arguments)}


@asynccontextmanager
async def served(directory: Path, **options: Any) -> AsyncIterator[Echo]:
    """A node that serves its control socket."""
    echo = Echo()
    async with anyio.create_task_group() as tasks:
        await tasks.start(ControlServer(echo, directory, network="/p2pstack", **options).serve)
        yield echo
        tasks.cancel_scope.cancel()


async def nothing(item: Answer) -> None:
    """Take an item."""


async def ask(directory: Path, name: str, network: str | None = None, **arguments: Any) -> Answer:
    async with running_node(directory, network=network) as node:
        assert node is not None
        with anyio.fail_after(30):
            return await node.call(name, arguments, give=nothing)


@asynccontextmanager
async def raw(directory: Path) -> AsyncIterator[anyio.abc.SocketStream]:
    async with await anyio.connect_unix(directory / SOCKET) as stream:
        yield stream


async def answer_to(directory: Path, request: bytes) -> dict[str, Any]:
    async with raw(directory) as stream:
        await stream.send(request)
        told = await stream.receive()
    found = json.loads(told.splitlines()[0])
    assert isinstance(found, dict)
    return found


async def test_a_call_gets_its_result(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert await ask(tmp_path, "echo", word="höh") == {"name": "echo", "arguments": {"word": "höh"}}


async def test_items_and_events_come_in_order(tmp_path: Path) -> None:
    seen: list[object] = []

    async def give(item: Answer) -> None:
        seen.append(item["number"])

    async with served(tmp_path), running_node(tmp_path) as node:
        assert node is not None
        await node.call("count", {"to": 3}, give=give, on_event=seen.append)
    assert seen == [EVENT, 0, EVENT, 1, EVENT, 2]


async def test_without_trace_no_event_is_sent(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert (await ask(tmp_path, "count", to=2))["name"] == "count"


async def test_events_that_nobody_takes_are_dropped_and_the_result_comes(tmp_path: Path) -> None:
    events: list[QueryEvent] = []
    async with served(tmp_path), running_node(tmp_path) as node:
        assert node is not None
        with anyio.fail_after(30):
            await node.call("flood", {"events": 2 * control.QUEUE}, give=nothing, on_event=events.append)
    assert 0 < len(events) <= control.QUEUE + 1


async def test_a_failure_keeps_its_code_and_remedy(tmp_path: Path) -> None:
    async with served(tmp_path):
        with pytest.raises(Failure, match="nobody has it") as told:
            await ask(tmp_path, "fail")
    assert told.value.code == 3
    assert told.value.remedy


async def test_a_fault_of_the_node_is_told_and_the_node_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path):
        with pytest.raises(Failure, match="the node failed: KeyError"):
            await ask(tmp_path, "break")
        assert await ask(tmp_path, "echo")
    assert "a call over the control socket failed" in caplog.text


async def test_a_client_that_goes_away_cancels_its_call(tmp_path: Path) -> None:
    async with served(tmp_path) as echo:
        with anyio.move_on_after(5):
            async with running_node(tmp_path) as node, anyio.create_task_group() as tasks:
                assert node is not None
                tasks.start_soon(lambda: node.call("wait", {}, give=nothing))
                await echo.begun.wait()
                tasks.cancel_scope.cancel()
        with anyio.fail_after(30):
            await echo.cancelled.wait()


async def test_a_node_that_ends_ends_its_calls(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        failures: list[Failure] = []

        async def wait() -> None:
            with pytest.raises(Failure, match="ended before its answer") as told:
                await ask(tmp_path, "wait")
            failures.append(told.value)

        async with served(tmp_path) as echo:
            tasks.start_soon(wait)
            await echo.begun.wait()
    assert failures[0].code == 1


async def test_a_node_that_hangs_is_not_waited_for_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "GRACE", 0.01)
    async with served(tmp_path), running_node(tmp_path, timeout=0.01) as node:
        assert node is not None
        with anyio.fail_after(30), pytest.raises(Failure, match="was silent for") as told:
            await node.call("wait", {}, give=nothing)
    assert told.value.code == 4


@unix
async def test_the_node_of_somebody_else_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(anyio, "connect_unix", refused)
    (tmp_path / SOCKET).touch()
    with pytest.raises(Failure, match="somebody else"):
        async with running_node(tmp_path):
            pass


async def test_only_so_many_clients_are_served_at_once(tmp_path: Path) -> None:
    async with served(tmp_path, max_clients=1) as echo, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, tmp_path, "wait")
        await echo.begun.wait()
        with pytest.raises(Failure, match="serves 1 calls already"):
            await ask(tmp_path, "echo")
        tasks.cancel_scope.cancel()


async def test_a_node_of_another_network_is_not_asked(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert await ask(tmp_path, "echo", network="/p2pstack")
        with pytest.raises(Failure, match="in the network /p2pstack, not /ipfs") as told:
            await ask(tmp_path, "echo", network="/ipfs")
    assert told.value.code == 2


@unix
@pytest.mark.parametrize("request_line", [b"nonsense\n", b"[]\n", b"[" * 100_000 + b"\n", b'{"version":99}\n', b"{}\n"])
async def test_a_request_that_is_none_gets_an_error(tmp_path: Path, request_line: bytes) -> None:
    async with served(tmp_path):
        assert "error" in await answer_to(tmp_path, request_line)
        assert await ask(tmp_path, "echo")


@unix
async def test_a_request_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_REQUEST", 1000)
    async with served(tmp_path):
        assert (await answer_to(tmp_path, b"x" * 2000))["error"]["cause"] == "no whole request came"


@unix
async def test_a_client_that_says_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT", 0.01)
    async with served(tmp_path), raw(tmp_path) as stream:
        with pytest.raises(anyio.EndOfStream), anyio.fail_after(30):
            await stream.receive()


@unix
async def test_the_socket_is_for_its_owner_alone_and_goes_with_the_node(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
    assert not (tmp_path / SOCKET).exists()


@unix
async def test_a_socket_left_behind_is_nobody_and_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    async with running_node(tmp_path) as node:
        assert node is None
    async with served(tmp_path):
        assert await ask(tmp_path, "echo")


async def test_where_no_node_ever_ran_there_is_none(tmp_path: Path) -> None:
    async with running_node(tmp_path / "nothing") as node:
        assert node is None


# --- where there are no Unix sockets ---------------------------------------------------------------


def deep(directory: Path) -> Path:
    """A directory whose path is too long for a socket."""
    path = directory / ("x" * MAX_PATH)
    path.mkdir()
    return path


async def test_a_path_too_long_for_a_socket_takes_a_port_and_a_token(tmp_path: Path) -> None:
    path = deep(tmp_path)
    async with served(path):
        told = path / PORT_FILE
        if os.name == "posix":
            assert stat.S_IMODE(told.stat().st_mode) == 0o600
        assert await ask(path, "echo")
        told.write_text(json.dumps(json.loads(told.read_text()) | {"token": "guessed"}))
        with pytest.raises(Failure, match="another token"):
            await ask(path, "echo")
    assert not told.exists()


@pytest.mark.parametrize("content", ["nonsense", "{}", "[]", '{"port":"x","token":"y"}', '{"port":70000,"token":""}'])
async def test_a_damaged_port_file_is_told_of(tmp_path: Path, content: str) -> None:
    (tmp_path / PORT_FILE).write_text(content)
    with pytest.raises(Failure, match="is damaged"):
        async with running_node(tmp_path):
            pass


async def test_a_port_where_nobody_listens_is_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (tmp_path / PORT_FILE).write_text(json.dumps({"port": port, "token": "x"}))
    async with running_node(tmp_path) as node:
        assert node is None
