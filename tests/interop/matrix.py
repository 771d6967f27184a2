"""What a run saw, as a table: a row for each claim, a column for each peer and direction."""

from __future__ import annotations

from tests.interop.peer import OTHERS

SIGNS = {"passed": "✓", "failed": "✗", "skipped": "–"}
COLUMNS = tuple((language, direction) for language in OTHERS for direction in ("we dial", "we listen"))


class Matrix:
    """Collects outcomes; a cell is as good as the worst of what went into it."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[tuple[str, str], list[tuple[str, str]]]] = {}
        self._names: dict[str, str] = {}
        self.browser: str | None = None
        """What the browser calls itself, if there was one."""

    def name(self, language: str, name: str) -> None:
        """Note what the peer of a language calls itself."""
        self._names[language] = name

    def record(self, row: str, language: str, direction: str, outcome: str, detail: str) -> None:
        """Note one outcome; `detail` names a part of the cell (a key type, say)."""
        self._cells.setdefault(row, {}).setdefault((language, direction or "we dial"), []).append((outcome, detail))

    @property
    def empty(self) -> bool:
        """Whether nothing was recorded."""
        return not self._cells

    @property
    def complete(self) -> bool:
        """Whether every peer took part: only then does the document tell the whole."""
        return set(self._names) == set(OTHERS)

    def _cell(self, row: str, column: tuple[str, str]) -> str:
        outcomes = self._cells[row].get(column, [])
        if not outcomes:
            return ""
        for worst in ("failed", "passed"):
            if any(outcome == worst for outcome, _ in outcomes):
                break
        else:
            worst = "skipped"
        details = [detail for outcome, detail in outcomes if detail and outcome == "passed"]
        return " ".join([SIGNS[worst], *details])

    def table(self) -> str:
        """The matrix as a Markdown table."""
        head = [
            "",
            *(f"{self._names.get(language, language)}, {direction}" for language, direction in COLUMNS),
        ]
        rows = [[row, *(self._cell(row, column) for column in COLUMNS)] for row in self._cells]
        lines = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]
        return "\n".join(lines)

    def document(self) -> str:
        """The whole of docs/interop.md."""
        return (
            "# What works with what\n\n"
            "Written by `make interop`: each cell is a test that ran against a real peer of the implementation named.\n"
            "✓ seen to work · ✗ failed · "
            "– the peer's library has no such thing, is known to fail at it (the test says why), or cannot tell.\n"
            "A row that names its own direction fills the first column of its peer alone.\n\n"
            f"{self.table()}\n\n"
            f"The page: {self.browser or 'none, there is no browser where this was written'}.\n"
        )
