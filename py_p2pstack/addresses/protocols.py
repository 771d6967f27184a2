"""The multiaddr protocols: code, name, size of the value, and the value's text.

The text of a few rare protocols is left to the `multiaddr` package, loaded when one of them first turns up.
Source: github.com/multiformats/multiaddr, protocols.csv.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from py_p2pstack.errors import InvalidAddress, RemoteProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.wire import varint

VARIABLE = -1
_MAX_NAME = 253  # a DNS name, RFC 1035 §2.3.4
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 §2.5.5.2


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    """One protocol; there is one object of each. Without `to_text` its text is left to the `multiaddr` package."""

    code: int
    name: str
    size: int
    """Bytes of the value; 0: none; VARIABLE: behind a varint length."""
    to_text: Callable[[bytes], str] | None = None
    to_bytes: Callable[[str], bytes] | None = None
    check: Callable[[bytes], object] | None = None
    """Raises ValueError for bytes that are no value; without one, all bytes of the right size are."""

    @property
    def is_path(self) -> bool:
        """Whether its value is a path, which in text takes all that follows."""
        return self.name == "unix"


def _ip4_text(value: bytes) -> str:
    return f"{value[0]}.{value[1]}.{value[2]}.{value[3]}"


def _ip4_bytes(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def _ip6_text(value: bytes) -> str:
    if value[:12] == _MAPPED:  # Python 3.13 writes these so, older ones in hex
        return f"::ffff:{_ip4_text(value[12:])}"
    return str(ipaddress.IPv6Address(value))


def _ip6_bytes(text: str) -> bytes:
    if "%" in text:
        raise ValueError("a zone belongs into ip6zone")
    return ipaddress.IPv6Address(text).packed


def _port_text(value: bytes) -> str:
    return str(value[0] << 8 | value[1])


def _port_bytes(text: str) -> bytes:
    return _digits(text, 0xFFFF).to_bytes(2, "big")


def _number_text(value: bytes) -> str:
    return str(int.from_bytes(value, "big"))


def _number_bytes(text: str) -> bytes:
    return _digits(text, (1 << 64) - 1).to_bytes(8, "big")


def _digits(text: str, largest: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 20) or int(text) > largest:
        raise ValueError(f"not a number up to {largest}")
    return int(text)


def _name_text(value: bytes) -> str:
    text = value.decode("utf-8")
    if not text or len(value) > _MAX_NAME or "/" in text or " " in text or not text.isprintable():
        raise ValueError("not a name")
    return text


def _name_bytes(text: str) -> bytes:
    value = text.encode()
    _name_text(value)
    return value


def _peer_text(value: bytes) -> str:
    return str(PeerId(value))


def _peer_bytes(text: str) -> bytes:
    return PeerId.parse(text).to_bytes()


def _hash_text(value: bytes) -> str:
    try:
        code = varint.decode(value)
        size = varint.decode(value, code[1]) if code else None
    except RemoteProtocolError as fault:
        raise ValueError(str(fault)) from None
    if size is None or sum(size) != len(value):
        raise ValueError("not a multihash")
    return "u" + base64.urlsafe_b64encode(value).decode().rstrip("=")


def _hash_bytes(text: str) -> bytes:
    if text[:1] != "u":
        raise ValueError("not base64url with the multibase letter u")
    value = base64.b64decode(text[1:] + "=" * (-len(text[1:]) % 4), altchars=b"-_", validate=True)
    if _hash_text(value) != text:
        raise ValueError("not the canonical base64url")
    return value


def _path_text(value: bytes) -> str:
    text = value.decode("utf-8")
    if text[:1] != "/" or text[-1:] == "/" or not text.isprintable():
        raise ValueError("not an absolute path")
    return text


def _path_bytes(text: str) -> bytes:
    value = ("/" + text.removeprefix("/")).encode()  # as go-multiaddr; the package leaves the slash out
    _path_text(value)
    return value


PROTOCOLS = (
    Protocol(4, "ip4", 4, _ip4_text, _ip4_bytes),
    Protocol(6, "tcp", 2, _port_text, _port_bytes),
    Protocol(41, "ip6", 16, _ip6_text, _ip6_bytes),
    Protocol(273, "udp", 2, _port_text, _port_bytes),
    Protocol(421, "p2p", VARIABLE, _peer_text, _peer_bytes, PeerId),
    Protocol(53, "dns", VARIABLE, _name_text, _name_bytes, _name_text),
    Protocol(54, "dns4", VARIABLE, _name_text, _name_bytes, _name_text),
    Protocol(55, "dns6", VARIABLE, _name_text, _name_bytes, _name_text),
    Protocol(56, "dnsaddr", VARIABLE, _name_text, _name_bytes, _name_text),
    Protocol(449, "sni", VARIABLE, _name_text, _name_bytes, _name_text),
    Protocol(42, "ip6zone", VARIABLE, _name_text, _name_bytes, _name_text),
    Protocol(466, "certhash", VARIABLE, _hash_text, _hash_bytes, _hash_text),
    Protocol(777, "memory", 8, _number_text, _number_bytes),
    Protocol(33, "dccp", 2, _port_text, _port_bytes),
    Protocol(132, "sctp", 2, _port_text, _port_bytes),
    *(
        Protocol(code, name, 0)
        for code, name in (
            (290, "p2p-circuit"),
            (477, "ws"),
            (478, "wss"),
            (448, "tls"),
            (454, "noise"),
            (460, "quic"),
            (461, "quic-v1"),
            (465, "webtransport"),
            (280, "webrtc-direct"),
            (281, "webrtc"),
            (480, "http"),
            (443, "https"),
            (301, "udt"),
            (302, "utp"),
            (275, "p2p-webrtc-star"),
            (276, "p2p-webrtc-direct"),
            (479, "p2p-websocket-star"),
        )
    ),
    Protocol(43, "ipcidr", 1),
    Protocol(400, "unix", VARIABLE, _path_text, _path_bytes, _path_text),
    Protocol(444, "onion", 12),
    Protocol(445, "onion3", 37),
    Protocol(446, "garlic64", VARIABLE),
    Protocol(447, "garlic32", VARIABLE),
    Protocol(481, "http-path", VARIABLE),
)
BY_CODE = {protocol.code: protocol for protocol in PROTOCOLS}
BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS} | {"ipfs": BY_CODE[421]}


def value_text(protocol: Protocol, value: bytes) -> str:
    """The text of a value. Raises InvalidAddress for a value that is none."""
    try:
        if protocol.to_text is not None:
            return protocol.to_text(value)
        codec, foreign = _foreign(protocol)
        return str(codec.to_string(foreign, value))
    except ValueError as fault:  # the package's errors, and our InvalidPeerId, are ValueErrors too
        raise InvalidAddress(f"a malformed {protocol.name} value: {fault}") from None


def value_bytes(protocol: Protocol, text: str) -> bytes:
    """The bytes of a value. Raises InvalidAddress for text that is none."""
    try:
        if protocol.to_bytes is not None:
            return protocol.to_bytes(text)
        codec, foreign = _foreign(protocol)
        return bytes(codec.to_bytes(foreign, text))
    except ValueError as fault:
        raise InvalidAddress(f"a malformed {protocol.name} value {text[:200]!r}: {fault}") from None


def check_value(protocol: Protocol, value: bytes) -> None:
    """Raise InvalidAddress unless the value has a text, and the text stands for this value."""
    if protocol.to_text is None:
        if value_bytes(protocol, value_text(protocol, value)) != value:
            raise InvalidAddress(f"a {protocol.name} value not in its canonical form")
    elif protocol.check is not None:
        try:
            protocol.check(value)
        except ValueError as fault:
            raise InvalidAddress(f"a malformed {protocol.name} value: {fault}") from None


def _foreign(protocol: Protocol) -> tuple[Any, Any]:
    """The `multiaddr` package's codec for a rare protocol, and its name for the protocol."""
    from multiaddr.codecs import codec_by_name
    from multiaddr.protocols import protocol_with_code

    foreign = protocol_with_code(protocol.code)
    return codec_by_name(foreign.codec), foreign
