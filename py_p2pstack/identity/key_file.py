"""A private key in a file that its owner alone can read: the protobuf form, as other libp2ps store it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from py_p2pstack.errors import InvalidKey
from py_p2pstack.identity.keys import MAX_ENCODED_PRIVATE, KeyType, PrivateKey

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def save_key_file(path: str | os.PathLike[str], key: PrivateKey) -> None:
    """Write the key with mode 0600; the file appears whole or not at all.

    Raises FileExistsError (a key is never overwritten) and OSError.
    """
    save_secret_file(path, key.encode())


def save_secret_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write any secret as `save_key_file` does a key."""
    target = Path(path)
    if target.exists():
        raise FileExistsError(f"{target} exists; a key is never overwritten")
    draft = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, _NEW_FILE, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, target: Path) -> None:
    """Give the draft its name, unless another process was first."""
    try:
        try:
            os.link(draft, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: take the name first, as a rename would overwrite
            os.close(os.open(target, _NEW_FILE, 0o600))
            draft.replace(target)
    except FileExistsError:
        raise FileExistsError(f"{target} exists; a key is never overwritten") from None
    if os.name == "posix":  # the name must survive a power cut too
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def load_key_file(path: str | os.PathLike[str]) -> PrivateKey:
    """Read a key. Raises InvalidKey (also when others could read the file), FileNotFoundError, OSError."""
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise InvalidKey(f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 it")
        data = file.read(MAX_ENCODED_PRIVATE + 1)
    try:
        return PrivateKey.decode(data)
    except InvalidKey as fault:
        raise InvalidKey(f"{path} holds no private key: {fault}") from None


def load_or_create_key_file(path: str | os.PathLike[str], key_type: KeyType = KeyType.ED25519) -> PrivateKey:
    """Read the key, or make one and keep it there. Two processes that do this at once get the same key.

    Raises what `load_key_file` raises, but for FileNotFoundError, and OSError.
    """
    try:
        return load_key_file(path)
    except FileNotFoundError:
        pass
    key = PrivateKey.generate(key_type)
    try:
        save_key_file(path, key)
    except FileExistsError:
        return load_key_file(path)
    return key
