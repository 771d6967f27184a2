"""What an endpoint says to those it has no connection with: few words, for who asks may not be who is answered."""

from __future__ import annotations

import os

from qh3.quic.packet import get_retry_integrity_tag

from py_p2pstack.allowance import Allowance
from py_p2pstack.transports.quic import codec
from py_p2pstack.transports.quic.address import SocketAddress
from py_p2pstack.transports.quic.codec import LongHeader
from py_p2pstack.transports.quic.credentials import Credentials
from py_p2pstack.transports.quic.sockets import DatagramSocket

_ANSWERS = 1000.0  # packets a second, at most


class Strangers:
    """Answers from one socket. `now` is seconds of the endpoint's clock."""

    def __init__(self, socket: DatagramSocket, credentials: Credentials) -> None:
        self._socket = socket
        self._credentials = credentials
        self._token_key = os.urandom(32)
        self._answers = Allowance(_ANSWERS, _ANSWERS)

    def tell_version(self, header: LongHeader, sender: SocketAddress, now: float) -> None:
        """Answer a version that we do not speak with the one we do."""
        self._answer(codec.version_negotiation(header, os.urandom(1)[0]), sender, now)

    def ask_again(self, header: LongHeader, sender: SocketAddress, now: float) -> None:
        """Have a newcomer prove that it is where it says, by coming back with a token (Retry, RFC 9000 §8.1.2)."""
        cid = os.urandom(codec.CID_LENGTH)
        token = codec.make_token(self._token_key, _name(sender), header.destination, cid, now)
        retry = codec.retry_head(header, cid, token)
        tag = get_retry_integrity_tag(retry, header.destination, version=codec.VERSION)
        self._answer(retry + tag, sender, now)

    def proven(self, header: LongHeader, sender: SocketAddress, now: float) -> bytes | None:
        """The connection id that the sender called first, if it comes back with a token of ours."""
        if not header.token:
            return None
        return codec.open_token(self._token_key, _name(sender), header.destination, header.token, now)

    def reset(self, data: bytes, cid: bytes, sender: SocketAddress, now: float) -> None:
        """Answer a packet of a connection we know nothing of, perhaps one of our last life (RFC 9000 §10.3)."""
        reset = codec.stateless_reset(self._credentials.reset_key, data, cid, os.urandom(64))
        if reset is not None:
            self._answer(reset, sender, now)

    def _answer(self, datagram: bytes, to: SocketAddress, now: float) -> None:
        if self._answers.take(now):
            self._socket.send_nowait([datagram], to)


def _name(sender: SocketAddress) -> bytes:
    return f"{sender[0]} {sender[1]}".encode()
