"""The protocols every interop peer serves, and what their streams left to tell."""

from __future__ import annotations

import anyio

from py_p2pstack import Connection, ConnectionClosed, Host, Multiaddr, PeerId, Stream, StreamReset
from py_p2pstack.core.notifications import PeerIdentified

ECHO = "/echo/1.0.0"
SINK = "/sink/1.0.0"
RESET = "/reset/1.0.0"
AWAIT_RESET = "/await-reset/1.0.0"


class Handlers:
    """Registers the handlers; remembers the last reset and the last go-away seen."""

    def __init__(self, host: Host) -> None:
        self.reset_seen = anyio.Event()
        self.reset_code: int | None = None
        self.close_seen = anyio.Event()
        self.close_code: int | None = None
        host.set_stream_handler(ECHO, echo)
        host.set_stream_handler(SINK, sink)
        host.set_stream_handler(RESET, reset)
        host.set_stream_handler(AWAIT_RESET, self.await_reset)
        host.network.notify(self)
        self.observed: dict[PeerId, str] = {}

    async def watch(self, host: Host) -> None:
        """Remember how each peer sees us."""
        with host.events.subscribe(PeerIdentified) as identified:
            async for event in identified:
                if event.observed_address is not None:  # pushes do not tell
                    self.observed[event.peer] = str(event.observed_address)

    async def await_reset(self, stream: Stream) -> None:
        self.reset_seen, self.reset_code = anyio.Event(), None
        try:
            await stream.send(await stream.receive_exactly(1))
            async for _ in stream:
                pass
        except StreamReset as fault:
            self.reset_code = fault.code
        finally:
            self.reset_seen.set()

    def connected(self, connection: Connection) -> None:
        self.close_seen, self.close_code = anyio.Event(), None

    def disconnected(self, connection: Connection) -> None:
        reason = connection.close_reason
        if isinstance(reason, ConnectionClosed) and reason.remote:
            self.close_code = reason.code
            self.close_seen.set()

    def listening(self, address: Multiaddr) -> None: ...

    def listen_closed(self, address: Multiaddr) -> None: ...


async def echo(stream: Stream) -> None:
    async for data in stream:
        await stream.send(data)
    await stream.send_eof()


async def sink(stream: Stream) -> None:
    count = 0
    async for data in stream:
        count += len(data)
    await stream.send(count.to_bytes(8, "big"))


async def reset(stream: Stream) -> None:
    stream.reset(int.from_bytes(await stream.receive_exactly(4), "big"))
