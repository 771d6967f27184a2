"""Files that tests of the SQLite datastore look into, and spoil."""

from __future__ import annotations

from pathlib import Path


def names(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


def contents(path: Path) -> bytes:
    return path.read_bytes()


def fill(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def overwrite(path: Path, start: int, count: int) -> None:
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\xa5" * count
    path.write_bytes(data)
