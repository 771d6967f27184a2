"""Raw transports and connections inside a private network."""

from __future__ import annotations

import os
from collections.abc import Callable

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.transport import RawConnection, RawListener, RawTransport
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import InvalidKey
from py_p2pstack.transports.pnet.psk import KEY_SIZE
from py_p2pstack.transports.pnet.xsalsa20 import NONCE_SIZE, require, xsalsa20

_CHUNK = 256 * 1024  # bytes scrambled at once: a muxer's batch


class PnetTransport:
    """A raw transport whose connections are all inside a private network; implements `core.transport.RawTransport`."""

    def __init__(self, raw: RawTransport, psk: bytes, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        """`psk`: the network's 32 bytes. Raises InvalidKey; SecurityError if the extra `pnet` is missing."""
        if len(psk) != KEY_SIZE:
            raise InvalidKey(f"the key of a private network has {KEY_SIZE} bytes, not {len(psk)}")
        require()
        self.name = raw.name
        self._raw = raw
        self._psk = psk
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"<PnetTransport over {self.name}>"

    def can_dial(self, address: Multiaddr) -> bool:
        """Whether the transport beneath can."""
        return self._raw.can_dial(address)

    def can_listen(self, address: Multiaddr) -> bool:
        """Whether the transport beneath can."""
        return self._raw.can_listen(address)

    async def dial(self, address: Multiaddr) -> RawConnection:
        """See `RawTransport.dial`."""
        return self._wrap(await self._raw.dial(address))

    async def listen(self, address: Multiaddr) -> RawListener:
        """See `RawTransport.listen`."""
        return PnetListener(await self._raw.listen(address), self._wrap)

    def _wrap(self, raw: RawConnection) -> RawConnection:
        return PnetConnection(raw, self._psk, self._random_bytes(NONCE_SIZE))


class PnetListener:
    """Accepts connections into the private network; implements `core.transport.RawListener`."""

    def __init__(self, raw: RawListener, wrap: Callable[[RawConnection], RawConnection]) -> None:
        self._raw = raw
        self._wrap = wrap

    @property
    def address(self) -> Multiaddr:
        """Where it listens."""
        return self._raw.address

    async def accept(self) -> RawConnection:
        """See `RawListener.accept`."""
        return self._wrap(await self._raw.accept())

    def close(self) -> None:
        """See `RawListener.close`."""
        self._raw.close()


class PnetConnection:
    """A raw connection of which every byte is scrambled; implements `core.transport.RawConnection`.

    The first 24 bytes each way are the sender's nonce. What was scrambled and found no room is kept beside its
    plaintext: a caller offers it again, as a rule; if it offers something else, that is scrambled in its place.
    """

    __slots__ = (
        *("_ahead", "_head", "_nonce", "_plain", "_psk", "_raw", "_scramble", "_unscramble"),
        *("local_address", "remote_address"),
    )

    def __init__(self, raw: RawConnection, psk: bytes, nonce: bytes) -> None:
        self._raw = raw
        self.local_address = raw.local_address
        self.remote_address = raw.remote_address
        self._psk = psk
        self._head = nonce
        self._scramble = xsalsa20(psk, nonce)
        self._plain = b""
        self._ahead = b""
        self._nonce = b""
        self._unscramble: Callable[..., bytes] | None = None

    def __repr__(self) -> str:
        return f"<PnetConnection over {self._raw!r}>"

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """See `RawConnection.receive_nowait`."""
        if self._unscramble is None and (outcome := self._receive_nonce()) != NONCE_SIZE:
            return outcome
        assert self._unscramble is not None
        count = self._raw.receive_nowait(buffer)
        if count:
            received = buffer[:count]
            self._unscramble(received, output=received)
        return count

    def _receive_nonce(self) -> int | None:
        """`NONCE_SIZE` once it is whole; else 0 at the end of input, None while more must come."""
        while missing := NONCE_SIZE - len(self._nonce):
            buffer = memoryview(bytearray(missing))
            count = self._raw.receive_nowait(buffer)
            if not count:
                return count
            self._nonce += buffer[:count]
        self._unscramble = xsalsa20(self._psk, self._nonce)
        return NONCE_SIZE

    def send_nowait(self, data: Buffer) -> int:
        """See `RawConnection.send_nowait`."""
        while self._head:
            sent = self._raw.send_nowait(self._head)
            self._head = self._head[sent:]
            if not sent:
                return 0
        view = memoryview(data)
        total = 0
        while total < len(view):
            piece = view[total : total + _CHUNK]
            size, sent = self._send_ahead(piece) if self._ahead else self._send_piece(piece)
            total += sent
            if sent < size:
                break
        return total

    def _send_piece(self, piece: memoryview) -> tuple[int, int]:
        """Scramble and send; returns how much was tried and how much went."""
        scrambled = self._scramble(piece)
        sent = self._raw.send_nowait(scrambled)
        if sent < len(piece):
            self._plain = bytes(piece[sent:])
            self._ahead = scrambled[sent:]
        return len(piece), sent

    def _send_ahead(self, piece: memoryview) -> tuple[int, int]:
        """The same with what has its key stream already."""
        size = min(len(piece), len(self._ahead))
        offered, plain, ahead = bytes(piece[:size]), self._plain[:size], self._ahead[:size]
        if offered != plain:
            ahead = _xor(_xor(ahead, plain), offered)
            self._plain = offered + self._plain[size:]
            self._ahead = ahead + self._ahead[size:]
        sent = self._raw.send_nowait(ahead)
        self._plain, self._ahead = self._plain[sent:], self._ahead[sent:]
        return size, sent

    async def wait_readable(self) -> None:
        """See `RawConnection.wait_readable`; the peer's nonce alone wakes nobody."""
        while True:
            await self._raw.wait_readable()
            if self._unscramble is not None:
                return
            try:
                if self._receive_nonce() == 0:
                    return
            except OSError:
                return  # whoever receives hears of it

    async def wait_writable(self) -> None:
        """See `RawConnection.wait_writable`."""
        await self._raw.wait_writable()

    def close(self) -> None:
        """See `RawConnection.close`."""
        self._raw.close()


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
