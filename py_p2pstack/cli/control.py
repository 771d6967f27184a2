"""The control socket of a running node, its own end: a call and its answers are lines of JSON, one call a connection.

    → {"version":1,"call":"dht.get","arguments":{…},"trace":true,"network":"/p2pstack"}
    ← {"event":{…}}        every step of a DHT operation, with `trace`; dropped rather than waited for
    ← {"item":{…}}         what is found on the way
    ← {"result":{…}}       the end, or {"error":{"code":3,"cause":"…","remedy":"…"}}

A client that goes away cancels its call. The socket is `control.sock` in the node's data directory, for the owner alone
(mode 0600). Where there are no Unix sockets, or the path is too long for one, it is a port on loopback, and
`control.json` (0600) has the port and a token that each call must carry.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketListener, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectSendStream

from py_p2pstack.cli.callee import Answer, Callee
from py_p2pstack.cli.control_client import PORT_FILE, SOCKET, VERSION, from_line, reader_of, to_line
from py_p2pstack.cli.failures import Exit, Failure, failure_of
from py_p2pstack.protocols.dht.events import QueryEvent
from py_p2pstack.protocols.dht.trace import to_json

logger = logging.getLogger(__name__)

MAX_PATH = 100  # bytes of a socket's path; Linux takes 107, macOS 103
MAX_REQUEST = 16 * 1024 * 1024  # bytes; a value is at most a few MiB, in base64
REQUEST_TIMEOUT = 10.0  # seconds for the request to come
SEND_TIMEOUT = 30.0  # for a client to take a line
QUEUE = 1024  # lines that wait to be taken


class ControlServer:
    """Serves the calls of one node to whoever may open its socket."""

    def __init__(self, calls: Callee, directory: Path, *, network: str, max_clients: int = 16) -> None:
        """`directory` must be the node's own: a socket left in it by a node that is gone is replaced."""
        self._calls = calls
        self._directory = directory
        self._network = network
        self._max_clients = max_clients
        self._clients = 0
        self._token = ""

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; tells when it listens. Raises OSError."""
        _remove_files(self._directory)
        listener = await self._listen()
        try:
            async with listener:
                task_status.started()
                await listener.serve(self._serve_client)
        finally:
            _remove_files(self._directory)

    async def _listen(self) -> SocketListener:
        path = self._directory / SOCKET
        if not _fits(path):
            raw = socket.create_server(("127.0.0.1", 0))
            self._token = secrets.token_hex(32)
            told = json.dumps({"version": VERSION, "port": raw.getsockname()[1], "token": self._token})
            _write_private(self._directory / PORT_FILE, told.encode())
        else:
            raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            before = os.umask(0o177)  # or else others could connect before the mode is set
            try:
                raw.bind(str(path))
            finally:
                os.umask(before)
            raw.listen()
        raw.setblocking(False)
        return await SocketListener.from_socket(raw)

    async def _serve_client(self, stream: ByteStream) -> None:
        self._clients += 1
        try:
            async with stream:
                if self._clients > self._max_clients:
                    busy = Failure(Exit.ERROR, f"the node serves {self._max_clients} calls already", "try again later")
                    await stream.send(to_line({"error": busy.to_json()}))
                else:
                    await self._answer(stream)
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError):
            pass  # gone, or as good as gone
        finally:
            self._clients -= 1

    async def _answer(self, stream: ByteStream) -> None:
        reader = reader_of(stream)
        try:
            with anyio.fail_after(REQUEST_TIMEOUT):
                request = from_line(await reader.receive_until(b"\n", MAX_REQUEST))
            self._check(request)
        except (Failure, anyio.DelimiterNotFound, anyio.IncompleteRead) as fault:  # a silent one is just left
            told = fault if isinstance(fault, Failure) else Failure(Exit.USAGE, "no whole request came")
            await stream.send(to_line({"error": told.to_json()}))
            return
        lines, taker = anyio.create_memory_object_stream[bytes](QUEUE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, reader, tasks.cancel_scope)
            tasks.start_soon(self._call, request, lines)
            async with taker:
                async for line in taker:
                    with anyio.fail_after(SEND_TIMEOUT):
                        await stream.send(line)
            tasks.cancel_scope.cancel()

    def _check(self, request: Mapping[str, Any]) -> None:
        if not hmac.compare_digest(str(request.get("token", "")).encode(), self._token.encode()):
            raise Failure(Exit.ERROR, "the control socket wants another token", "run it as the user who runs the node")
        if request.get("version") != VERSION:
            raise Failure(Exit.ERROR, "the running node is of another version", "use the same version for both")
        network = request.get("network")
        if network not in (None, self._network):
            raise Failure(
                Exit.USAGE,
                f"the running node is in the network {self._network}, not {network}",
                "leave --network away, or name another --data-dir",
            )

    async def _call(self, request: Mapping[str, Any], lines: MemoryObjectSendStream[bytes]) -> None:
        def on_event(event: QueryEvent) -> None:
            try:
                lines.send_nowait(to_line({"event": to_json(event)}))
            except (anyio.WouldBlock, anyio.BrokenResourceError):
                pass  # a picture with a gap is better than a lookup that waits

        async def give(item: Answer) -> None:
            await lines.send(to_line({"item": item}))

        async with lines:
            try:
                result = await self._calls.call(
                    str(request.get("call")),
                    request.get("arguments", {}),
                    give=give,
                    on_event=on_event if request.get("trace") else None,
                )
            except Exception as fault:
                told = failure_of(fault)
                if told is None:
                    logger.exception("a call over the control socket failed")
                    told = Failure(Exit.ERROR, f"the node failed: {type(fault).__name__}", "see its log")
                elif told.code == Exit.NO_PEERS:
                    told.remedy = "the node that runs knows nobody yet: restart it with a reachable --bootstrap"
                    if request.get("call") in ("dht.put", "dht.provide"):
                        told.remedy += "; it keeps this, and tells others as soon as there are any"
                await lines.send(to_line({"error": told.to_json()}))
            else:
                await lines.send(to_line({"result": result}))


async def _watch(reader: BufferedByteReceiveStream, scope: anyio.CancelScope) -> None:
    """End the call when its client is gone."""
    try:
        while True:
            await reader.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        scope.cancel()


def _fits(path: Path) -> bool:
    return sys.platform != "win32" and len(os.fsencode(path)) <= MAX_PATH


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _remove_files(directory: Path) -> None:
    """Remove the socket and the port file, if there are any."""
    for name in (SOCKET, PORT_FILE):
        (directory / name).unlink(missing_ok=True)
