"""Which of several records is the best: the one that ranks highest, of those that can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from py_p2pstack.errors import InvalidRecord


def best_of(values: Sequence[bytes], rank: Callable[[bytes], tuple[int, float, bytes]], kind: str) -> int:
    """Return the index of the value that ranks highest, the first of equals.

    `rank` raises InvalidRecord for what is no record of this `kind`; so does this, if that is all of them.
    """
    best: tuple[tuple[int, float, bytes], int] | None = None
    for index, value in enumerate(values):
        try:
            standing = rank(value)
        except InvalidRecord:
            continue
        if best is None or standing > best[0]:
            best = standing, index
    if best is None:
        raise InvalidRecord(f"none of {len(values)} values is an {kind} record")
    return best[1]
