"""Query events ↔ lines of JSON, so that an operation can be saved, sent, and looked at again.

    {"schema":1,"event":"SendingQuery","query_id":7,"at":0.0132,"peer":"12D3KooW…","distance":"3f…"}

Peer ids are base58, addresses their text, distances hexadecimal, keys and values base64. What was read is equal to what
was written. Nothing here does I/O.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.errors import InvalidTrace, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import EndReason
from py_p2pstack.protocols.dht.events import EVENT_TYPES, QueryEvent

SCHEMA = 1
MAX_LINE = 1024 * 1024  # characters; a lookup update of 1,024 peers has 64 KiB


class _Form(NamedTuple):
    """How a field is written, and read."""

    write: Callable[[Any], object]
    read: Callable[[Any], Any]


def _write_info(info: PeerInfo) -> dict[str, object]:
    return {"id": str(info.peer_id), "addresses": [str(address) for address in info.addresses]}


def _read_info(told: Any) -> PeerInfo:
    return PeerInfo(PeerId.parse(told["id"]), tuple(map(Multiaddr.parse, told["addresses"])))


def _checked(kind: type | tuple[type, ...]) -> Callable[[Any], Any]:
    def read(told: Any) -> Any:
        if not isinstance(told, kind) or isinstance(told, bool):
            raise TypeError(f"{told!r:.80}")
        return told

    return read


def _many(form: _Form) -> _Form:
    def read(told: Any) -> object:
        if not isinstance(told, list):
            raise TypeError(f"{told!r:.80}")
        return tuple(map(form.read, told))

    return _Form(lambda items: [form.write(item) for item in items], read)


def _maybe(form: _Form) -> _Form:
    return _Form(
        lambda item: None if item is None else form.write(item),
        lambda told: None if told is None else form.read(told),
    )


_PEER = _Form(str, PeerId.parse)
_INFO = _Form(_write_info, _read_info)
_WHOLE = _Form(int, _checked(int))
_SECONDS = _Form(float, lambda told: float(_checked((int, float))(told)))
_TEXT = _Form(str, _checked(str))
_BYTES = _Form(lambda data: b64encode(data).decode(), lambda told: b64decode(told, validate=True))

_FORMS: Mapping[str, _Form] = {
    "PeerId": _PEER,
    "PeerId | None": _maybe(_PEER),
    "tuple[PeerId, ...]": _many(_PEER),
    "tuple[PeerInfo, ...]": _many(_INFO),
    "int": _WHOLE,
    "float": _SECONDS,
    "str": _TEXT,
    "bytes": _BYTES,
    "EndReason": _Form(lambda reason: reason.value, EndReason),
}
"""By the type a field is declared with (a string, as annotations are)."""
_DISTANCE = _Form(lambda distance: f"{distance:064x}", lambda told: int(told, 16))  # JSON has no 256-bit integers

_KINDS: Mapping[str, type[QueryEvent]] = {kind.__name__: kind for kind in EVENT_TYPES}
_FIELDS: Mapping[type[QueryEvent], Mapping[str, _Form]] = {
    kind: {field.name: _DISTANCE if field.name == "distance" else _FORMS[str(field.type)] for field in fields(kind)}
    for kind in EVENT_TYPES
}


def to_json(event: QueryEvent) -> dict[str, object]:
    """Return an event as what `json` writes."""
    head: dict[str, object] = {"schema": SCHEMA, "event": type(event).__name__}
    return head | {name: form.write(getattr(event, name)) for name, form in _FIELDS[type(event)].items()}


def from_json(told: object) -> QueryEvent:
    """Return the event. Unknown members are passed over, as later versions may add some. Raises InvalidTrace."""
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise InvalidTrace(f"no event of schema {SCHEMA}: {told!r:.120}")
    kind = _KINDS.get(str(told.get("event")))
    if kind is None:
        raise InvalidTrace(f"no such event: {told.get('event')!r:.80}")
    try:
        return kind(**{name: form.read(told[name]) for name, form in _FIELDS[kind].items()})
    except (KeyError, TypeError, ValueError, AttributeError, P2PError) as fault:
        raise InvalidTrace(f"malformed {kind.__name__}: {type(fault).__name__} {fault}") from None


def to_line(event: QueryEvent) -> str:
    """Return an event as one line of JSON, without the line end."""
    return json.dumps(to_json(event), separators=(",", ":"))


def from_line(line: str) -> QueryEvent:
    """Return the event of a line. Raises InvalidTrace."""
    if len(line) > MAX_LINE:
        raise InvalidTrace(f"a line of {len(line)} characters; the limit is {MAX_LINE}")
    try:
        told = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as fault:
        raise InvalidTrace(f"no JSON: {fault}") from None
    return from_json(told)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def load(lines: Iterable[str]) -> Iterator[QueryEvent]:
    """Replay a saved operation: the events of all lines that are not empty, in order. Raises InvalidTrace."""
    return (from_line(line) for line in lines if line.strip())
