"""The keys of content: the multihash of a CID, which all CIDs of the same content share. No I/O."""

from __future__ import annotations

import base58

from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.wire import multibase, varint

MAX_MULTIHASH = 80  # bytes of a provided key (go-libp2p-kad-dht: handleAddProvider)
_MAX_TEXT = 256  # characters of a CID; its longest form, base16, has 180


def content_key(content: bytes | str) -> bytes:
    """The key under which content is provided: a multihash as it is, or that of a CID in text.

    Read are CIDv0 (`Qm…`) and CIDv1 in base32 (`bafy…`), base36 (`k…`), base58 (`z…`) and base16 (`f…`).
    Raises ValueError for anything else.
    """
    multihash = _of_cid(content.removeprefix("/ipfs/")) if isinstance(content, str) else bytes(content)
    if not is_multihash(multihash):
        raise ValueError(f"not a multihash of at most {MAX_MULTIHASH} bytes: {multihash[:80].hex()}")
    return multihash


def is_multihash(data: bytes) -> bool:
    """Whether these bytes can be a multihash: a code, a length, and as many bytes. (Not which codes there are.)"""
    if len(data) > MAX_MULTIHASH:
        return False
    try:
        _, length_at = _varint(data, 0)
        length, digest_at = _varint(data, length_at)
    except ValueError:
        return False
    return 0 < length == len(data) - digest_at


def _of_cid(text: str) -> bytes:
    if not 1 < len(text) <= _MAX_TEXT:
        raise ValueError(f"not a CID: {len(text)} characters")
    try:
        if len(text) == 46 and text.startswith("Qm") and text.isalnum():
            return base58.b58decode(text)
        data = multibase.decode(text)
        version, at = _varint(data, 0)
        _, multihash_at = _varint(data, at)
    except ValueError:
        raise ValueError(f"not a CID: {text!r}") from None
    if version != 1:
        raise ValueError(f"not a CID: version {version}")
    return data[multihash_at:]


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """A number and where it ends. Raises ValueError."""
    try:
        read = varint.decode(data, offset)
    except RemoteProtocolError as fault:
        raise ValueError(str(fault)) from None
    if read is None:
        raise ValueError("cut off")
    return read
