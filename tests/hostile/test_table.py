"""The table of attacks tells the truth: every test it names exists, and every attack has a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = (ROOT.parent / "docs" / "attacks.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)


def test_every_test_named_in_the_table_of_attacks_exists() -> None:
    missing = []
    for path, name in NAMED:
        file = ROOT / path
        tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
        if name not in {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}:
            missing.append(f"{path}::{name}")
    assert not missing


def test_every_attack_has_a_row_with_tests_or_says_what_is_not_built() -> None:
    rows = [line for line in TABLE.splitlines() if re.match(r"\| (\d+|\+)", line)]
    assert {int(number) for row in rows for number in re.findall(r"^\| (\d+)", row)} == set(range(1, 20))
    for row in rows:
        assert "::test_" in row or "Not built yet" in row, row
    assert len(NAMED) > 100
