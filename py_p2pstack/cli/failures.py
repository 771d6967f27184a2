"""What went wrong, as a user is told: an exit code and one line, `error: cause → what to do`."""

from __future__ import annotations

from enum import IntEnum

from py_p2pstack import errors


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    NO_PEERS = 5
    INVALID_RECORD = 6


class Failure(Exception):
    """A command ends without what was asked of it."""

    def __init__(self, code: int, cause: str, remedy: str = "") -> None:
        super().__init__(cause)
        self.code = int(code)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"error: {one_line(self.cause)}" + (f" → {one_line(self.remedy)}" if self.remedy else "")

    def to_json(self) -> dict[str, object]:
        """As it is told over the control socket and by `--json`."""
        return {"code": self.code, "cause": self.cause, "remedy": self.remedy}


_KINDS: tuple[tuple[type[BaseException], Exit, str], ...] = (
    (errors.ValueNotFound, Exit.NOT_FOUND, "check the key; whoever has the value must put it first"),
    (errors.PeerNotFound, Exit.NOT_FOUND, "check the peer id; the peer must be online and in the same network"),
    (errors.OperationTimeout, Exit.TIMEOUT, "try again, or give it more time with --timeout"),
    (TimeoutError, Exit.TIMEOUT, "try again, or give it more time with --timeout"),
    (errors.LookupFailure, Exit.NO_PEERS, "name a reachable peer of this network with --bootstrap"),
    (errors.RecordError, Exit.INVALID_RECORD, "give a key and a value that its namespace allows"),
    (errors.StorageLocked, Exit.ERROR, "stop the node that runs there, or take another --data-dir"),
    (errors.StorageReadOnly, Exit.ERROR, "make the data directory writable, or take another --data-dir"),
    (errors.StorageFull, Exit.ERROR, "make room on the disk, or take another --data-dir"),
    (errors.ListenError, Exit.ERROR, "take another address or port with --listen"),
    (errors.DialError, Exit.ERROR, "check the address, and that the peer is running"),
    (errors.NegotiationError, Exit.ERROR, "ask a peer that speaks this protocol"),
    (errors.PutFailed, Exit.ERROR, "try again, or lower --quorum"),
    (errors.ProvideFailed, Exit.ERROR, "try again; the node must have an address that others can reach"),
    (errors.NotEnabled, Exit.ERROR, "ask another node"),
    (errors.InvalidKey, Exit.ERROR, "name a private key file that only you can read"),
    (errors.P2PError, Exit.ERROR, "try again; --debug shows more"),
    (PermissionError, Exit.ERROR, "check who owns it and its permissions"),
    (OSError, Exit.ERROR, "check the path and the disk"),
)


def failure_of(fault: BaseException) -> Failure | None:
    """Return what to tell of an error; None for one that is a fault of this program."""
    if isinstance(fault, Failure):
        return fault
    if isinstance(fault, BaseExceptionGroup):
        told = [failure_of(each) for each in fault.exceptions]
        return None if None in told else told[0]
    if isinstance(fault, errors.DialError) and any(isinstance(why, errors.PeerIdMismatch) for _, why in fault.attempts):
        return Failure(Exit.ERROR, str(fault), "another peer is there: check the peer id, or ask for its address")
    for kind, code, remedy in _KINDS:
        if isinstance(fault, kind):
            return Failure(code, _cause(fault) or kind.__name__, remedy)
    return None


def _cause(fault: BaseException) -> str:
    """What happened, and to which file, without the numbers of the operating system."""
    if isinstance(fault, OSError) and fault.strerror and not isinstance(fault, errors.P2PError):
        return fault.strerror if fault.filename is None else f"{fault.filename}: {fault.strerror}"
    return str(fault)


def one_line(text: str) -> str:
    """All of a text in one line, without control characters that a stranger may have put there."""
    joined = (
        "; ".join(line.strip() for line in text.splitlines() if line.strip()).replace(":; ", ": ").replace(",; ", ", ")
    )
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in joined)
