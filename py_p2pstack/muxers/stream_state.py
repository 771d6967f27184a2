"""The books of one stream: what came, what is to go, and both windows. Only the machine writes them."""

from __future__ import annotations

from py_p2pstack.core.types import Buffer

INITIAL_WINDOW = 256 * 1024  # of yamux, fixed by its specification; what has no windows does not look at it
_SMALL = 4096  # bytes below which pieces are gathered in one buffer instead of queued alone
_GATHERED = 64 * 1024  # bytes at which a gathering buffer is full


class StreamState:
    """One stream. A session's stream is a subclass that adds the waiting."""

    __slots__ = (
        "capacity",
        "consumed",
        "discarding",
        "drain_at",
        "epoch",
        "fault",
        "fin_queued",
        "fin_sent",
        "flags",
        "flushing",
        "grown_at",
        "id",
        "inbound",
        "queued",
        "ready",
        "receive_window",
        "received",
        "remote_fin",
        "send_window",
        "to_send",
        "unacknowledged",
        "unread",
    )

    def __init__(self, stream_id: int, *, inbound: bool, flags: int) -> None:
        self.id = stream_id
        self.inbound = inbound
        self.flags = flags
        """Flags (SYN or ACK) that the next frame carries."""
        self.unacknowledged = not inbound
        self.send_window = INITIAL_WINDOW
        self.to_send: list[Buffer] = []
        self.queued = 0
        """Bytes in `to_send`."""
        self.drain_at = -1
        """A sender waits until `queued` is no more than this; -1: none waits."""
        self.ready = False
        """Whether it stands in the machine's round."""
        self.fin_queued = False
        self.fin_sent = False
        self.flushing = False
        """Its connection is being closed by us; what was queued before still goes out."""
        self.receive_window = INITIAL_WINDOW
        """Bytes the peer may still send."""
        self.capacity = INITIAL_WINDOW
        """The window's full size."""
        self.grown_at = float("-inf")
        """When it grew last."""
        self.consumed = 0
        """Bytes consumed that the peer was not told of."""
        self.epoch = 0.0
        """When the last window update was made."""
        self.received: list[Buffer] = []
        self.unread = 0
        """Bytes in `received`."""
        self.remote_fin = False
        self.discarding = False
        """Nobody will read: what comes is dropped, and credited."""
        self.fault: Exception | None = None
        """Why the stream is of no further use: it was reset, or its connection ended."""

    def queue(self, data: Buffer) -> None:
        """Take `data` to be sent. A large `bytes` is kept as it is; all else is copied."""
        size = len(data)
        to_send = self.to_send
        if size < _SMALL:
            if to_send and type(tail := to_send[-1]) is bytearray and len(tail) < _GATHERED:
                tail += data
            else:
                to_send.append(bytearray(data))
        else:
            to_send.append(data if type(data) is bytes else bytes(data))
        self.queued += size

    def take(self, size: int, out: list[Buffer]) -> None:
        """Move the first `size` queued bytes to `out`."""
        self.queued -= size
        to_send = self.to_send
        while size:
            piece = to_send[0]
            length = len(piece)
            if length <= size:
                out.append(to_send.pop(0))
                size -= length
            elif type(piece) is bytearray:
                out.append(bytes(piece[:size]))
                del piece[:size]
                return
            else:
                view = piece if type(piece) is memoryview else memoryview(piece)
                out.append(view[:size])
                to_send[0] = view[size:]
                return

    def deliver(self, plaintext: Buffer, start: int, stop: int) -> None:
        """Take in received bytes: copied, unless they are the whole of a bytes object."""
        size = stop - start
        self.unread += size
        received = self.received
        piece = plaintext[start:stop]
        if size < _SMALL and received:
            tail = received[-1]
            if type(tail) is bytearray and len(tail) < _GATHERED:
                tail += piece
                return
            # one small piece stays a bytes object; the second begins a gathering buffer
            if len(tail) < _SMALL:
                received[-1] = bytearray(tail) + piece
                return
        received.append(bytes(piece))

    def read(self, max_bytes: int) -> bytes:
        """Give out 1..max_bytes of what came; the caller checked that something did."""
        received = self.received
        piece = received[0]
        size = len(piece)
        if size <= max_bytes:
            del received[0]
            self.unread -= size
            return piece if type(piece) is bytes else bytes(piece)
        self.unread -= max_bytes
        data = bytes(piece[:max_bytes])
        if type(piece) is bytearray:
            del piece[:max_bytes]
        else:
            view = piece if type(piece) is memoryview else memoryview(piece)
            rest = view[max_bytes:]
            received[0] = rest if 4 * len(rest) > len(view.obj) else bytes(rest)  # type: ignore[arg-type]
        return data

    def drop(self) -> int:
        """Forget everything received; returns how many bytes that were."""
        size = self.unread
        self.received.clear()
        self.unread = 0
        return size
