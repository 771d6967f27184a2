"""The multiaddr protocols: code, name, size of the value, and the value's text for the common ones.

Source: github.com/multiformats/multiaddr, protocols.csv.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from py_p2pstack.errors import InvalidAddress, InvalidPeerId
from py_p2pstack.identity import PeerId

VARIABLE = -1
_MAX_NAME = 253  # a DNS name, RFC 1035 §2.3.4


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol. Without `to_text` its text is left to the `multiaddr` package."""

    code: int
    name: str
    size: int
    """Bytes of the value; 0: none; VARIABLE: behind a varint length."""
    to_text: Callable[[bytes], str] | None = None
    to_bytes: Callable[[str], bytes] | None = None


def _ip6_text(value: bytes) -> str:
    return str(ipaddress.IPv6Address(value))


def _port_text(value: bytes) -> str:
    return str(value[0] << 8 | value[1])


def _port_bytes(text: str) -> bytes:
    if not (text.isascii() and text.isdecimal()) or len(text) > 5 or int(text) > 0xFFFF:
        raise ValueError(f"not a port: {text}")
    return int(text).to_bytes(2, "big")


def _number_text(value: bytes) -> str:
    return str(int.from_bytes(value, "big"))


def _number_bytes(text: str) -> bytes:
    if not (text.isascii() and text.isdecimal()) or len(text) > 20:
        raise ValueError(f"not a number: {text}")
    return int(text).to_bytes(8, "big")


def _name_text(value: bytes) -> str:
    text = value.decode("utf-8")
    if not text or len(value) > _MAX_NAME or "/" in text or not text.isprintable() or " " in text:
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


PROTOCOLS = (
    Protocol(4, "ip4", 4, lambda value: "%d.%d.%d.%d" % tuple(value), lambda text: ipaddress.IPv4Address(text).packed),
    Protocol(6, "tcp", 2, _port_text, _port_bytes),
    Protocol(41, "ip6", 16, _ip6_text, lambda text: ipaddress.IPv6Address(text).packed),
    Protocol(273, "udp", 2, _port_text, _port_bytes),
    Protocol(421, "p2p", VARIABLE, _peer_text, _peer_bytes),
    Protocol(53, "dns", VARIABLE, _name_text, _name_bytes),
    Protocol(54, "dns4", VARIABLE, _name_text, _name_bytes),
    Protocol(55, "dns6", VARIABLE, _name_text, _name_bytes),
    Protocol(56, "dnsaddr", VARIABLE, _name_text, _name_bytes),
    Protocol(449, "sni", VARIABLE, _name_text, _name_bytes),
    Protocol(42, "ip6zone", VARIABLE, _name_text, _name_bytes),
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
    Protocol(400, "unix", VARIABLE),
    Protocol(444, "onion", 12),
    Protocol(445, "onion3", 37),
    Protocol(446, "garlic64", VARIABLE),
    Protocol(447, "garlic32", VARIABLE),
    Protocol(466, "certhash", VARIABLE),
    Protocol(481, "http-path", VARIABLE),
)
BY_CODE = {protocol.code: protocol for protocol in PROTOCOLS}
BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS} | {"ipfs": BY_CODE[421]}


def value_text(protocol: Protocol, value: bytes) -> str:
    """The text of a value. Raises InvalidAddress for a value that is none."""
    try:
        if protocol.to_text is not None:
            return protocol.to_text(value)
        return _foreign(protocol).to_string(_foreign_protocol(protocol), value)
    except (ValueError, KeyError, InvalidPeerId) as fault:
        raise InvalidAddress(f"a malformed {protocol.name} value: {fault}") from None


def value_bytes(protocol: Protocol, text: str) -> bytes:
    """The bytes of a value. Raises InvalidAddress for text that is none."""
    try:
        if protocol.to_bytes is not None:
            return protocol.to_bytes(text)
        return _foreign(protocol).to_bytes(_foreign_protocol(protocol), text)
    except (ValueError, KeyError, InvalidPeerId) as fault:
        raise InvalidAddress(f"a malformed {protocol.name} value {text!r}: {fault}") from None


def _foreign_protocol(protocol: Protocol):  # type: ignore[no-untyped-def]
    from multiaddr.protocols import protocol_with_code

    return protocol_with_code(protocol.code)


def _foreign(protocol: Protocol):  # type: ignore[no-untyped-def]
    """The `multiaddr` package's codec for a rare protocol."""
    from multiaddr.codecs import codec_by_name

    return codec_by_name(_foreign_protocol(protocol).codec)
