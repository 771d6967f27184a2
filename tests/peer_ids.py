"""Peer ids for tests that need many and no keys."""

from __future__ import annotations

from py_p2pstack.identity import PeerId


def peer(number: int) -> PeerId:
    """The peer id with this number: a SHA-256 multihash that no key belongs to."""
    return PeerId(b"\x12\x20" + number.to_bytes(32, "big"))
