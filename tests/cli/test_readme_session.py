"""The README's session in three terminals prints what the README says."""

from __future__ import annotations

import re
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from tests.cli.session import README, blocks, played


def comparable(text: str) -> str:
    """Without what differs each time: times, the identity of a short-lived node, and the width of columns."""
    text = re.sub(r"[\d.]+ (ms|s)\b", "TIME", text)
    text = re.sub(r"◉ …\w+  this node", "◉ US", text)
    return re.sub(r" +", " ", text)


def test_the_session_of_the_readme_is_what_is_printed() -> None:
    session = blocks(README.read_text(encoding="utf-8"))
    assert len(session) == 5
    assert [comparable(block) for block in played(session)] == [comparable(block) for block in session]
