"""Key files: for the owner alone, whole or not there, never overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from py_p2pstack.errors import InvalidKey
from py_p2pstack.identity import KeyType, PrivateKey, load_key_file, load_or_create_key_file, save_key_file

KEY = PrivateKey.from_seed(bytes(32))
posix = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.mark.parametrize("key_type", [KeyType.ED25519, KeyType.SECP256K1])
def test_a_created_key_is_the_same_the_next_time(tmp_path: Path, key_type: KeyType) -> None:
    path = tmp_path / "key"
    key = load_or_create_key_file(path, key_type)
    assert key.key_type is key_type
    assert load_or_create_key_file(str(path)).encode() == key.encode()
    assert path.read_bytes() == key.encode()


@posix
def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        save_key_file(path, KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_a_file_that_others_may_touch_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    save_key_file(path, KEY)
    path.chmod(mode)
    with pytest.raises(InvalidKey, match=rf"mode 0{mode:o}\): chmod 600"):
        load_key_file(path)
    with pytest.raises(InvalidKey, match="chmod 600"):
        load_or_create_key_file(path)
    path.chmod(0o400)
    assert load_key_file(path).encode() == KEY.encode()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="never overwritten"):
        save_key_file(path, KEY)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def no_links(source: object, target: object) -> None:
    raise OSError("no hard links here")


def test_a_file_system_without_hard_links_gets_the_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "key"
    save_key_file(path, KEY)
    assert load_key_file(path).encode() == KEY.encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_whoever_comes_second_ends_with_the_firsts_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    # another process creates the file between our look and our own attempt
    path = tmp_path / "key"
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    generate = PrivateKey.generate

    def late(key_type: KeyType) -> PrivateKey:
        save_key_file(path, KEY)
        monkeypatch.setattr(Path, "exists", lambda self: False)
        return generate(key_type)

    monkeypatch.setattr(PrivateKey, "generate", late)
    assert load_or_create_key_file(path).encode() == KEY.encode()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_key_file(tmp_path / "key", KEY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"hello", KEY.encode()[:-1], KEY.encode() + b"\n", bytes(100_000)])
def test_a_file_that_holds_no_key_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKey, match="holds no private key"):
        load_key_file(path)


def test_a_missing_file_or_directory_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_key_file(tmp_path / "key")
    with pytest.raises(FileNotFoundError):
        load_or_create_key_file(tmp_path / "no such directory" / "key")
