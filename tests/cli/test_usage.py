"""Who we are, what a user gets wrong, and the help there is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from py_p2pstack import __version__
from py_p2pstack.cli.main import root
from tests.cli.terminal import COMMAND, Command, one_error, spawned


def test_the_version_is_told_at_once() -> None:
    done = spawned("--version", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert done.out.decode().strip() == f"p2pstack, version {__version__}"
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    heavy = {"anyio", "rich.console", "cryptography", "google.protobuf", "py_p2pstack.node", "py_p2pstack.protocols"}
    assert not imported & heavy


def test_without_the_extra_one_line_tells_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from py_p2pstack.cli import entry_point; entry_point()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ['error: click is not installed → pip install "py-p2pstack[cli]"']


def test_a_key_is_made_once_and_read_by_its_owner_alone(p2pstack: Command, tmp_path: Path) -> None:
    one_error(p2pstack("id", "--data-dir", tmp_path), 3)
    made = p2pstack("keygen", "--data-dir", tmp_path)
    assert made.code == 0
    assert p2pstack("id", "--data-dir", tmp_path).out == made.out
    key = tmp_path / "identity.key"
    before = hashlib.sha256(key.read_bytes()).digest()
    assert "never overwritten" in one_error(p2pstack("keygen", "--data-dir", tmp_path), 1)
    assert hashlib.sha256(key.read_bytes()).digest() == before
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        key.chmod(0o644)
        assert "chmod 600" in one_error(p2pstack("id", key), 1)


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_each_kind_of_key_is_made(p2pstack: Command, tmp_path: Path, kind: str) -> None:
    made = json.loads(p2pstack("keygen", "--type", kind, "--output", tmp_path / kind, "--json").out)
    told = json.loads(p2pstack("id", tmp_path / kind, "--json").out)
    assert told["schema"] == 1
    assert told["peer_id"] == made["peer_id"]
    assert told["key_type"] == kind


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["--nonsense"], ["dht", "nonsense"], ["dht", "get"], ["dht", "get", ""], ["dht", "get", "x", "y"],
        ["dht", "get", "x", "--timeout", "0"], ["dht", "get", "x", "--network", "nonsense"], ["ping"],
        ["dht", "get", "x", "--bootstrap", "/ip4/127.0.0.1/tcp/1"], ["node", "run", "--listen", "nonsense"],
        ["--config", "/nothing", "dht", "get", "x"],
    ],
)  # fmt: skip
def test_bad_usage_is_code_2(p2pstack: Command, arguments: list[str]) -> None:
    one_error(p2pstack(*arguments), 2)


@pytest.mark.parametrize("arguments", [[], ["dht"], ["node"]])
def test_a_group_alone_shows_its_help(p2pstack: Command, arguments: list[str]) -> None:
    shown = p2pstack(*arguments)
    assert shown.code == 2
    assert "Commands:" in shown.err


@pytest.mark.parametrize("arguments", [["-h"], ["dht", "put", "--help"], ["node", "run", "--help"], ["dht", "-h"]])
def test_help_is_code_0(p2pstack: Command, arguments: list[str]) -> None:
    shown = p2pstack(*arguments)
    assert shown.code == 0
    assert b"Usage: p2pstack" in shown.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(p2pstack: Command, shell: str) -> None:
    shown = p2pstack("completion", shell)
    assert shown.code == 0
    assert b"_P2PSTACK_COMPLETE" in shown.out


def test_commands_are_completed() -> None:
    words = {"_P2PSTACK_COMPLETE": "bash_complete", "COMP_WORDS": "p2pstack dht fi", "COMP_CWORD": "2"}
    done = spawned(env={**os.environ, **words})
    assert re.findall(r"plain,(\S+)", done.out.decode()) == ["find-peer", "find-providers"]


def test_a_bad_value_is_blamed_on_where_it_came_from(
    p2pstack: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "see p2pstack dht get --help" in one_error(p2pstack("dht", "get", "x", "--timeout", "nan"), 2)
    config = tmp_path / "config.toml"
    config.write_text('timeout = "soon"')
    assert f"correct it in {config}" in one_error(p2pstack("--config", config, "dht", "get", "x"), 2)
    monkeypatch.setenv("P2PSTACK_TIMEOUT", "soon")
    assert "correct P2PSTACK_TIMEOUT" in one_error(p2pstack("dht", "get", "x"), 2)


def test_a_key_that_cannot_be_written_is_told_by_its_own_name(p2pstack: Command, tmp_path: Path) -> None:
    path = tmp_path / "nothing" / "key"
    assert f"cannot write {path}: " in one_error(p2pstack("keygen", "--output", path), 1)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_as_good_as_an_empty_one(tmp_path: Path, closed: str) -> None:
    if os.name != "posix":
        pytest.skip("shells of other systems close none")
    command = f"{' '.join(COMMAND)} keygen --output {tmp_path / 'key'} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "key").exists()


def test_a_code_page_without_some_letters_is_no_reason_to_end(tmp_path: Path) -> None:
    surroundings = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    path = tmp_path / "k\N{GREEK SMALL LETTER ALPHA}"
    made = spawned("keygen", "--json", "--output", path, env=surroundings)
    assert json.loads(made.out)["file"] == str(path)
    assert " -> see p2pstack" in spawned("keygen", "--type", "x", env=surroundings).err


def test_what_we_got_wrong_is_one_line_too(p2pstack: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(root, "main", broken)
    assert "unexpected KeyError" in one_error(p2pstack("id"), 1)
