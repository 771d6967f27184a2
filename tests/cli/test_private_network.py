"""`--psk`: a key that members of a private network share, and who gets in with it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from py_p2pstack.transports.pnet import load_psk
from tests.cli.terminal import Command, RunningNode, one_error


def test_the_key_of_a_private_network_is_made_once(p2pstack: Command, tmp_path: Path) -> None:
    made = p2pstack("keygen", "--type", "psk", "--data-dir", tmp_path)
    path = tmp_path / "swarm.key"
    assert made.out.decode().strip() == str(path)
    key = load_psk(path)
    assert len(key) == 32
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "never overwritten" in one_error(p2pstack("keygen", "--type", "psk", "--output", path), 1)
    assert load_psk(path) == key
    other = tmp_path / "other.key"
    told = json.loads(p2pstack("keygen", "--type", "psk", "--output", other, "--json").out)
    assert (told["peer_id"], told["key_type"], told["file"]) == (None, "psk", str(other))
    assert load_psk(other) != key


def test_only_members_are_talked_to(p2pstack: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "swarm.key", tmp_path / "other.key"
    for key in keys:
        p2pstack("keygen", "--type", "psk", "--output", key)
    node = RunningNode(tmp_path / "node", "--psk", str(keys[0]))
    try:
        where = ("--bootstrap", node.address)
        monkeypatch.setenv("P2PSTACK_PSK", str(keys[0]))
        assert b"kept by 1 of 1 peers" in p2pstack("dht", "put", "greeting", "hello", *where).out
        assert p2pstack("dht", "get", "greeting", "--data-dir", tmp_path / "node").out.strip() == b"hello"
        assert p2pstack("ping", node.address, "--count", "1", *where).code == 0
        one_error(p2pstack("ping", node.address, "--timeout", "1", "--psk", keys[1], *where), 5)
        monkeypatch.delenv("P2PSTACK_PSK")
        one_error(p2pstack("ping", node.address, "--timeout", "1", *where), 5)
    finally:
        node.process.kill()
        node.process.communicate()


def test_a_file_that_holds_no_such_key_is_told_of(p2pstack: Command, tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    assert "No such file" in one_error(p2pstack("node", "run", "--psk", path, "--data-dir", tmp_path), 2)
    path.write_bytes(b"not a key")
    told = one_error(p2pstack("node", "run", "--psk", path, "--data-dir", tmp_path), 2)
    assert "/key/swarm/psk/1.0.0/" in told
    assert "keygen --type psk" in told
