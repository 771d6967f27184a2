"""The control socket of a running node, the end of who asks; see `control`."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteReceiveStream, ByteStream, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

from py_p2pstack.cli.callee import Answer, Give
from py_p2pstack.cli.failures import Exit, Failure

if TYPE_CHECKING:
    from py_p2pstack.protocols.dht.events import OnEvent

VERSION = 1
SOCKET = "control.sock"
PORT_FILE = "control.json"
MAX_ANSWER = 16 * 1024 * 1024  # bytes of a line
GRACE = 5.0  # seconds a node has for a line beyond the time its work may take


class RunningNode:
    """The other end: a node that runs in some data directory."""

    def __init__(self, directory: Path, stream: ByteStream, token: str, network: str | None, timeout: float) -> None:
        """`network`: the one it must be in; None if any will do. `timeout`: seconds its work for a line may take."""
        self._directory = directory
        self._stream = stream
        self._timeout = timeout + GRACE
        self._head = {"version": VERSION, "token": token, "network": network}

    def __str__(self) -> str:
        return f"the node that runs in {self._directory}"

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, give: Give, on_event: OnEvent | None = None
    ) -> Answer:
        """The one call of this connection. Raises Failure, also if the node falls silent."""
        request = self._head | {"call": name, "arguments": arguments, "trace": on_event is not None}
        reader = reader_of(self._stream)
        try:
            with anyio.fail_after(self._timeout):
                await self._stream.send(to_line(request))
            while True:
                with anyio.fail_after(self._timeout):
                    line = await reader.receive_until(b"\n", MAX_ANSWER)
                match from_line(line):
                    case {"event": event}:
                        _tell(on_event, event)
                    case {"item": dict(item)}:
                        await give(item)
                    case {"result": dict(result)}:
                        return result
                    case {"error": {"code": int(code), "cause": str(cause), "remedy": str(remedy)}}:
                        raise Failure(code, cause, remedy)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError, anyio.DelimiterNotFound):
            raise Failure(Exit.ERROR, "the running node ended before its answer", "start it, and try again") from None
        except TimeoutError:
            raise Failure(
                Exit.TIMEOUT, f"{self} was silent for {self._timeout:g} s", "look whether it hangs, and restart it"
            ) from None


@asynccontextmanager
async def running_node(
    directory: Path, *, network: str | None = None, timeout: float = 60.0
) -> AsyncIterator[RunningNode | None]:
    """Connect to the node that runs in a data directory; None if there is none."""
    found = await _connect(directory)
    if found is None:
        yield None
        return
    stream, token = found
    async with stream:
        yield RunningNode(directory, stream, token, network, timeout)


async def _connect(directory: Path) -> tuple[ByteStream, str] | None:
    try:
        if sys.platform != "win32" and (directory / SOCKET).exists():
            return await anyio.connect_unix(directory / SOCKET), ""
        with (directory / PORT_FILE).open("rb") as file:
            told = from_line(file.read(4096))
        port = int(told["port"])
        if not 0 < port < 1 << 16:
            raise ValueError("no port")
        return await anyio.connect_tcp("127.0.0.1", port), str(told["token"])
    except PermissionError:
        raise Failure(
            Exit.ERROR,
            f"the node in {directory} belongs to somebody else",
            "ask as its user, or name another --data-dir",
        ) from None
    except OSError:
        return None  # none, or what a node that was killed left behind
    except (Failure, KeyError, TypeError, ValueError):
        raise Failure(Exit.ERROR, f"{directory / PORT_FILE} is damaged", "remove it, and restart the node") from None


def reader_of(stream: ByteStream) -> BufferedByteReceiveStream:
    """What reads a control socket line by line."""
    return BufferedByteReceiveStream(_Reads(stream))


class _Reads(ByteReceiveStream):
    """The receiving half of a stream. Closes nothing.

    anyio's Unix sockets on asyncio (seen with 4.16) log an InvalidStateError when a read is cancelled in the moment in
    which data or the end comes; to wait with `wait_readable` first does not.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
        self._unix = raw if raw.family == getattr(socket, "AF_UNIX", None) else None

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._unix is not None:
            await anyio.wait_readable(self._unix)
        return await self._stream.receive(max_bytes)

    async def aclose(self) -> None:
        """Nothing to do."""


def _tell(on_event: OnEvent | None, told: object) -> None:
    from py_p2pstack.protocols.dht.trace import from_json  # only where there is something to draw

    if on_event is not None:
        on_event(from_json(told))


def to_line(message: Mapping[str, object]) -> bytes:
    """A message as it goes over the socket."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> dict[str, Any]:
    """The message of a line. Raises Failure."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise Failure(
            Exit.USAGE, "what came over the control socket is no JSON object", "use the same version for both"
        )
    return message
