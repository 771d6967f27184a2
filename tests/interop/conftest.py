"""Pairs of peers, and the matrix of what was seen: printed at the end of a run and written to docs/interop.md."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.matrix import Matrix
from tests.interop.peer import OTHERS, Peer, PeerMissing

MATRIX = pytest.StashKey[Matrix]()
DOCUMENT = Path(__file__).parents[2] / "docs" / "interop.md"
DIRECTIONS = ("we dial", "we listen")


def start(language: str, *arguments: str, listen: bool = True, host: str = "/ip4/127.0.0.1") -> Peer:
    """Start a peer; skip, saying what is missing, where its toolchain is not there."""
    try:
        return Peer.listening(language, *arguments, host=host) if listen else Peer(language, *arguments)
    except PeerMissing as missing:
        pytest.skip(f"no {language} peer here: {missing}")


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest) -> str:
    """The language of the other peer."""
    return str(request.param)


@pytest.fixture(scope="module", params=DIRECTIONS)
def direction(request: pytest.FixtureRequest) -> str:
    """Who opened the connection."""
    return str(request.param)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, other: str, direction: str) -> Iterator[tuple[Peer, Peer]]:
    """Our peer and another's, connected over TCP, Noise and yamux; ours first."""
    with start("ours") as ours, start(other) as theirs:
        request.config.stash[MATRIX].name(other, theirs.name)
        dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
        dialer.call("connect", addr=listener.address)
        yield ours, theirs


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MATRIX] = Matrix()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marker = item.get_closest_marker("row")
    if marker is not None and (report.when == "call" or report.outcome == "skipped" or report.failed):
        params: dict[str, Any] = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        for other in marker.kwargs.get("others") or [params["other"]]:
            item.config.stash[MATRIX].record(
                marker.args[0], other, params.get("direction", ""), report.outcome, params.get("key_type", "")
            )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    matrix = config.stash[MATRIX]
    if matrix.empty:
        return
    terminalreporter.section("interop matrix")
    terminalreporter.write_line(matrix.table())
    if matrix.complete:
        DOCUMENT.write_text(matrix.document(), encoding="utf-8")
