"""The table of contracts tells the truth: it names every claim, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from py_p2pstack.testing.contracts import MUXER, RAW_TRANSPORT, SECURITY

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")


def test_every_claim_is_in_the_table_and_nothing_else_is() -> None:
    claims = {str(claim.__name__) for claim in (*RAW_TRANSPORT, *SECURITY, *MUXER)}
    rows = "\n".join(line for line in TABLE.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`([a-z_0-9]+)`", rows)) == claims


def test_every_test_named_in_the_table_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", TABLE)
    assert len(named) > 8
    assert not [path for path in named if not (ROOT / path).exists()]
