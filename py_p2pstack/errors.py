"""The one exception tree: every error this package raises on purpose is a `P2PError`.

Foreign exceptions (`OSError`, `cryptography`, `protobuf`) are mapped to one of these where they are met, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class P2PError(Exception):
    """Root of everything this package raises on purpose."""

    def __copy__(self) -> Self:
        """The same without a traceback: what ended something may be raised to many, each time from another place."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        twin.__cause__ = self.__cause__
        return twin


# --- what a peer or a caller did wrong on the wire -------------------------------------------------


class ProtocolError(P2PError):
    """The rules of a wire protocol were broken."""


class LocalProtocolError(ProtocolError):
    """We were about to break the rules: a misuse of a machine by its caller."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules; `code` is the reply to send (a go-away or reset code), if the protocol has one."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class MessageTooLarge(RemoteProtocolError):
    """A peer announced or sent more than the bound on one message."""


class NegotiationError(ProtocolError):
    """multistream-select ended without a protocol both sides speak."""

    def __init__(self, message: str, *, protocols: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.protocols = tuple(protocols)


# --- identity, addresses, records ------------------------------------------------------------------


class InvalidKey(P2PError, ValueError):
    """A key could not be decoded, or is of a kind or size we refuse."""


class InvalidSignature(P2PError):
    """A signature does not verify."""


class InvalidPeerId(P2PError, ValueError):
    """Text or bytes that are no peer id."""


class InvalidAddress(P2PError, ValueError):
    """Text or bytes that are no multiaddr, or not one that fits the purpose."""


class RecordError(P2PError):
    """A signed envelope, peer record or DHT record is malformed, foreign or out of date."""


class InvalidRecord(RecordError):
    """A value does not belong under its key, by the rules of the key's namespace."""


# --- security --------------------------------------------------------------------------------------


class SecurityError(P2PError):
    """A secure channel could not be set up, or was broken by the peer."""


class HandshakeError(SecurityError):
    """A security handshake failed."""


class PeerIdMismatch(HandshakeError):
    """The peer proved another identity than the one we dialled."""

    def __init__(self, expected: object, actual: object) -> None:
        super().__init__(f"expected peer {expected}, the remote is {actual}")
        self.expected = expected
        self.actual = actual


class DecryptError(SecurityError):
    """A record does not authenticate; the channel is of no further use."""


# --- connections and streams -----------------------------------------------------------------------


class ConnectionClosed(P2PError):
    """The connection has ended. `code` is the go-away code, `remote` tells whether the peer sent it."""

    def __init__(self, message: str = "connection closed", *, code: int | None = None, remote: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.remote = remote


class StreamError(P2PError):
    """A stream is of no further use in the direction asked for."""


class StreamReset(StreamError):
    """The stream was reset. `code` is the reset code (0: none given), `remote` tells whether the peer did it."""

    def __init__(self, message: str = "stream reset", *, code: int = 0, remote: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.remote = remote


class StreamClosed(StreamError):
    """The stream was closed on our side before the call."""


class ResourceLimitExceeded(P2PError):
    """A bound of ours would be passed: which `scope`, its `limit`, and the `value` asked for."""

    def __init__(self, scope: str, limit: float, value: float) -> None:
        super().__init__(f"{scope}: limit {limit:g} reached ({value:g} asked for)")
        self.scope = scope
        self.limit = limit
        self.value = value


class OperationTimeout(P2PError, TimeoutError):
    """An operation took longer than its bound."""


# --- network ---------------------------------------------------------------------------------------


class NetworkError(P2PError):
    """A fault of dialling or listening."""


class ListenError(NetworkError):
    """We cannot listen on `address`."""

    def __init__(self, address: object, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address
        self.reason = reason


class UnsupportedAddress(NetworkError):
    """No transport of ours can dial or listen on this address."""


class Gated(NetworkError):
    """The connection gater, or a rule of ours, refused."""


class ResolutionError(NetworkError):
    """A name in an address could not be resolved, or nothing usable came of it."""

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(f"cannot resolve {name}: {reason}")
        self.name = name
        self.reason = reason


class DialError(NetworkError):
    """No address of `peer` led to a connection; `attempts` pairs each address with its own cause."""

    def __init__(self, peer: object, attempts: Sequence[tuple[object, BaseException]], reason: str = "") -> None:
        lines = "".join(f"\n  {address}: {cause}" for address, cause in attempts)
        super().__init__(f"cannot dial {peer}: {reason or 'all addresses failed'}{lines}")
        self.peer = peer
        self.attempts = tuple(attempts)


class DialBackoff(NetworkError):
    """The address failed a short while ago; it is not tried again before `retry_after` seconds are over."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"in backoff for another {retry_after:.1f} s")
        self.retry_after = retry_after


class NotConnected(NetworkError):
    """There is no connection to the peer, and none may be made."""


# --- routing ---------------------------------------------------------------------------------------


class RoutingError(P2PError):
    """A DHT operation could not do its work."""


class LookupFailure(RoutingError):
    """A lookup had no peer to start from."""


class PeerNotFound(RoutingError):
    """The lookup ended and nobody knew the peer."""


class ValueNotFound(RoutingError):
    """The search ended and nobody had a valid value."""


class PutFailed(RoutingError):
    """Fewer peers than wanted keep the value; `result` tells who, and why the others do not."""

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result


class ProvideFailed(RoutingError):
    """Nobody could be told that we provide the content; `result` tells why."""

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result


class DhtClosed(RoutingError):
    """The DHT was left while the operation ran, or was not entered (again)."""


class NotEnabled(RoutingError):
    """This node was configured to take no part in such operations."""


class InvalidTrace(P2PError, ValueError):
    """A saved DHT operation cannot be read."""


# --- storage ---------------------------------------------------------------------------------------


class StorageError(P2PError):
    """A datastore could not do what was asked; what it acknowledged before is untouched."""


class StorageFull(StorageError):
    """There is no room: on the disk, or within a bound of ours."""


class StorageReadOnly(StorageError):
    """The file, its directory or its disk cannot be written."""


class StorageLocked(StorageError):
    """Another process, or another part of this one, has the file open."""


class StorageTooNew(StorageError):
    """The file was written by a later version of this package."""
