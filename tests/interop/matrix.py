"""What a run saw, as tables: a row for each claim and each stack, a column for each peer and direction."""

from __future__ import annotations

from typing import NamedTuple

from tests.interop.peer import OTHERS

SIGNS = {"passed": "✓", "failed": "✗", "skipped": "–"}
COLUMNS = tuple((language, direction) for language in OTHERS for direction in ("we dial", "we listen"))


class Outcome(NamedTuple):
    """Of one test."""

    sign: str
    """`passed`, `failed` or `skipped`."""
    detail: str = ""
    """What of the cell it is (a key type, say)."""
    remark: str = ""
    """Why it was skipped, where that is to be told."""


class Table:
    """Rows of cells; a cell is as good as the worst of what went into it."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[str, str], list[Outcome]]] = {}
        self._remarks: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    def record(self, row: str, language: str, direction: str, outcome: Outcome) -> None:
        """Note one outcome."""
        self._rows.setdefault(row, {}).setdefault((language, direction or "we dial"), []).append(outcome)
        if outcome.remark and outcome.remark not in self._remarks:
            self._remarks.append(outcome.remark)

    def _cell(self, row: str, column: tuple[str, str]) -> str:
        outcomes = self._rows[row].get(column, [])
        if not outcomes:
            return ""
        worst = next((sign for sign in ("failed", "passed") if any(each.sign == sign for each in outcomes)), "skipped")
        details = [each.detail for each in outcomes if each.detail and each.sign == "passed"]
        remarks = sorted({self._remarks.index(each.remark) + 1 for each in outcomes if each.remark})
        return " ".join([SIGNS[worst], *details, *(f"({number})" for number in remarks)])

    def markdown(self, names: dict[str, str]) -> str:
        """As a table, with its remarks below."""
        head = ["", *(f"{names.get(language, language)}, {direction}" for language, direction in COLUMNS)]
        rows = [[row, *(self._cell(row, column) for column in COLUMNS)] for row in self._rows]
        lines = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]
        if self._remarks:
            lines += ["", *(f"({number}) {remark}  " for number, remark in enumerate(self._remarks, 1))]
        return "\n".join(lines)


class Matrix:
    """Collects outcomes, and writes them up."""

    def __init__(self) -> None:
        self.claims = Table()
        """One row each."""
        self.stacks = Table()
        """A row for each transport, security and muxer together; skips tell why."""
        self._names: dict[str, str] = {}
        self.browser: str | None = None
        """What the browser calls itself, if there was one."""

    def name(self, language: str, name: str) -> None:
        """Note what the peer of a language calls itself."""
        self._names[language] = name

    @property
    def complete(self) -> bool:
        """Whether every peer took part: only then does the document tell the whole."""
        return set(self._names) == set(OTHERS)

    def tables(self) -> str:
        """All there is, in Markdown."""
        return "\n\n".join(table.markdown(self._names) for table in (self.stacks, self.claims) if table)

    def document(self) -> str:
        """The whole of docs/interop.md."""
        return (
            "# What works with what\n\n"
            "Written by `make interop`: each cell is a test that ran against a real peer of the implementation named.\n"
            "✓ seen to work · ✗ failed · "
            "– the peer's library has no such thing, is known to fail at it (the test says why), or cannot tell.\n\n"
            "## Transports, securities and muxers\n\n"
            "Each cell: connect, ping, identify, 16 MiB there and back from both sides, 100 streams at once, "
            "resets seen by both sides.\n\n"
            f"{self.stacks.markdown(self._names)}\n\n"
            "## Claims\n\n"
            "A row that names its own direction fills the first column of its peer alone.\n\n"
            f"{self.claims.markdown(self._names)}\n\n"
            f"The page: {self.browser or 'none, there is no browser where this was written'}.\n"
        )
