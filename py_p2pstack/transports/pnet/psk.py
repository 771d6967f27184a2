"""The file in which a private network's key is kept (`swarm.key`): its kind, its encoding, the key."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from py_p2pstack.errors import InvalidKey

KEY_SIZE = 32
MAX_FILE = 1024  # bytes; the longest form has 97
_KIND = b"/key/swarm/psk/1.0.0/"


def load_psk(path: str | Path) -> bytes:
    """Read a key file. Raises InvalidKey, OSError."""
    with Path(path).open("rb") as file:
        return decode_psk(file.read(MAX_FILE + 1))


def decode_psk(data: bytes) -> bytes:
    """The 32 bytes of a key file's content, in base16, base64 or as they are. Raises InvalidKey."""
    if len(data) > MAX_FILE:
        raise InvalidKey("not the key of a private network: the file is too long")
    kind, _, rest = data.partition(b"\n")
    encoding, _, body = rest.partition(b"\n")
    if kind.rstrip(b"\r") != _KIND:
        raise InvalidKey(f"not the key of a private network: it does not begin with {_KIND.decode()}")
    encoding = encoding.rstrip(b"\r")
    try:
        if encoding == b"/base16/":
            key = binascii.unhexlify(body.strip())
        elif encoding == b"/base64/":
            key = base64.b64decode(body.strip(), validate=True)
        elif encoding == b"/bin/":
            key = body
        else:
            raise InvalidKey("the key of a private network in an unknown encoding")
    except binascii.Error:
        raise InvalidKey("the key of a private network does not decode") from None
    if len(key) != KEY_SIZE:
        raise InvalidKey(f"the key of a private network has {KEY_SIZE} bytes, not {len(key)}")
    return key


def encode_psk(key: bytes) -> bytes:
    """The content of a key file, in base16 as go-ipfs writes it."""
    return _KIND + b"\n/base16/\n" + key.hex().encode() + b"\n"
