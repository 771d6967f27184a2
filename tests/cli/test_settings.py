"""A flag goes before the environment, that before the config file, that before the default."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from py_p2pstack.cli.failures import Failure
from py_p2pstack.cli.settings import (
    OPTIONS,
    PUBLIC_BOOTSTRAP,
    ConfigFile,
    Root,
    bootstrap_of,
    data_dir,
    options,
)

PEER = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWHFrmLWTTDD4NodngtRMEVYgxrsDMp4F9iSwYntZ9WjHa"
OTHER = "/ip4/127.0.0.1/tcp/2/p2p/12D3KooWHFrmLWTTDD4NodngtRMEVYgxrsDMp4F9iSwYntZ9WjHa"


@click.command()
@options(*OPTIONS)
def everything(**values: Any) -> dict[str, Any]:
    """A command with every option, that returns what it got."""
    return values


def resolve(arguments: Sequence[str], environment: Mapping[str, str], config: str, where: Path) -> dict[str, Any]:
    """Run the command in some surroundings."""
    path = where / "config.toml"
    path.write_text(config, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("P2PSTACK_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        found = everything.main(arguments, standalone_mode=False, obj=Root(ConfigFile(path)))
        assert isinstance(found, dict)
        return found


# option, parameter, default, in the config file, in the environment, as a flag: each with what comes of it
TABLE: list[tuple[str, str, Any, tuple[str, Any], tuple[str, Any], tuple[list[str], Any]]] = [
    ("timeout", "timeout", 60.0, ("5", 5.0), ("6", 6.0), (["--timeout", "7"], 7.0)),
    ("quorum", "quorum", None, ("1", 1), ("2", 2), (["--quorum", "3"], 3)),
    ("namespace", "namespace", "v", ('"a"', "a"), ("b", "b"), (["--namespace", "c"], "c")),
    ("network", "network", "/p2pstack", ('"/a"', "/a"), ("ipfs", "/ipfs"), (["--network", "/c"], "/c")),
    ("data-dir", "data_dir", None, ('"a"', Path("a")), ("b", Path("b")), (["--data-dir", "c"], Path("c"))),
    ("backend", "backend", "asyncio", ('"trio"', "trio"), ("asyncio", "asyncio"), (["--backend", "trio"], "trio")),
    ("mode", "mode", "server", ('"client"', "client"), ("auto", "auto"), (["--mode", "server"], "server")),
    ("json", "json", False, ("true", True), ("0", False), (["--json"], True)),
    ("trace", "trace", False, ("true", True), ("false", False), (["--trace"], True)),
    (
        "bootstrap", "bootstrap", (), (f'["{PEER}"]', (PEER,)), (f"{PEER} {OTHER}", (PEER, OTHER)),
        (["-b", OTHER], (OTHER,)),
    ),
    (
        "listen", "listen", ("/ip4/0.0.0.0/tcp/0",), ('"/ip4/1.2.3.4/tcp/1"', ("/ip4/1.2.3.4/tcp/1",)),
        ("/ip4/1.2.3.4/tcp/2", ("/ip4/1.2.3.4/tcp/2",)), (["--listen", "/ip4/1.2.3.4/tcp/3"], ("/ip4/1.2.3.4/tcp/3",)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameter", "default", "config", "environment", "flag"), TABLE)
def test_flag_before_environment_before_config_file_before_default(
    tmp_path: Path,
    name: str,
    parameter: str,
    default: Any,
    config: tuple[str, Any],
    environment: tuple[str, Any],
    flag: tuple[list[str], Any],
) -> None:
    in_file = f"{name} = {config[0]}\n"
    variables = {f"P2PSTACK_{name.upper().replace('-', '_')}": environment[0]}
    assert resolve([], {}, "", tmp_path)[parameter] == default
    assert resolve([], {}, in_file, tmp_path)[parameter] == config[1]
    assert resolve([], variables, in_file, tmp_path)[parameter] == environment[1]
    assert resolve(flag[0], variables, in_file, tmp_path)[parameter] == flag[1]
    assert resolve(flag[0], {}, "", tmp_path)[parameter] == flag[1]


@pytest.mark.parametrize(
    "config",
    ["nonsense", "unknown = 1", "timeout = [1]", "json = 1", "bootstrap = [1]", "timeout = true"],
)
def test_a_config_file_that_is_none_is_told_of(tmp_path: Path, config: str) -> None:
    with pytest.raises(Failure, match="config file") as told:
        resolve([], {}, config, tmp_path)
    assert told.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timeout", "0"], ["--timeout", "x"], ["--quorum", "-1"], ["--network", "nonsense"], ["--network", "/a/"],
        ["--bootstrap", "/ip4/127.0.0.1/tcp/1"], ["--bootstrap", "x"], ["--listen", "x"], ["--backend", "twisted"],
    ],
)  # fmt: skip
def test_a_value_that_is_none_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        resolve(arguments, {}, "", tmp_path)


def test_a_value_of_the_config_file_is_checked_as_a_flag_is(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError):
        resolve([], {}, "timeout = -1", tmp_path)


def test_a_config_file_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no config file"):
        ConfigFile(tmp_path / "nothing").get("timeout")


def test_the_usual_config_file_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path)
    assert ConfigFile().get("timeout") is None


def test_a_config_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("#" * 1024 * 1024 + "\n")
    with pytest.raises(Failure, match="more than"):
        ConfigFile(tmp_path / "config.toml").get("timeout")


def test_the_data_directory_is_the_platforms_unless_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: tmp_path)
    assert data_dir(None) == tmp_path
    assert data_dir(Path("x")) == Path("x")


def test_the_public_network_has_bootstrap_peers_of_its_own() -> None:
    assert bootstrap_of("/ipfs", ()) == PUBLIC_BOOTSTRAP
    assert bootstrap_of("/ipfs", (PEER,)) == (PEER,)
    assert bootstrap_of("/p2pstack", ()) == ()
