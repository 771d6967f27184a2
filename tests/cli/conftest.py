"""What the tests of the command line have: surroundings of their own, a command to type, two nodes that run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from py_p2pstack.cli.main import run
from tests.cli.terminal import Command, Ended, Nodes, RunningNode, spawned


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a test's own, and no directory of the user's."""
    for name in [name for name in os.environ if name.startswith("P2PSTACK_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.fixture(scope="package")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes that know each other."""
    first = RunningNode(tmp_path_factory.mktemp("first"))
    second = RunningNode(tmp_path_factory.mktemp("second"), "--bootstrap", first.address)
    try:
        while json.loads(spawned("dht", "stats", "--json", "--data-dir", first.directory).out)["table_peers"] < 1:
            pass
        yield first, second
    finally:
        for node in (first, second):
            node.process.kill()
            node.process.communicate()


@pytest.fixture
def p2pstack(capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run a command in this process."""

    def command(*arguments: object) -> Ended:
        code = run([str(each) for each in arguments])
        out, err = capfdbinary.readouterr()
        return Ended(code, out, err.decode())

    return command
