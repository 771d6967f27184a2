"""Pairs of peers, and the matrix of what was seen: printed at the end of a run and written to docs/interop.md."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.matrix import Matrix, Outcome
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
    if report.when == "call" or report.outcome != "passed":
        _note(item, report)
    return report


def _note(item: pytest.Item, report: pytest.TestReport) -> None:
    """Write an outcome into its row: that of its stack, or that of its claim."""
    matrix = item.config.stash[MATRIX]
    params: dict[str, Any] = (
        item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    )
    other, direction = params.get("other", ""), params.get("direction", "")
    if "stack" in params:
        remark = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        matrix.stacks.record(str(params["stack"]), other, direction, Outcome(report.outcome, remark=remark))
    elif (marker := item.get_closest_marker("row")) is not None:
        for each in marker.kwargs.get("others") or [other]:
            matrix.claims.record(marker.args[0], each, direction, Outcome(report.outcome, params.get("key_type", "")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    matrix = config.stash[MATRIX]
    if not matrix.stacks and not matrix.claims:
        return
    terminalreporter.section("interop matrix")
    terminalreporter.write_line(matrix.tables())
    if matrix.complete:
        DOCUMENT.write_text(matrix.document(), encoding="utf-8")
