"""One bucket of the routing table: entries in the order they came, and what is known of each."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


@dataclass(slots=True)
class Entry(Generic[P]):
    """A peer in the table. All times are those passed in as `now`."""

    peer: P
    key: int
    cpl: int
    """How many leading bits its key shares with ours."""
    added_at: float
    last_useful_at: float | None
    """When it last helped a lookup along; None: never yet."""
    last_success_at: float
    """When it last answered a query of ours."""
    replaceable: bool
    """Whether a newcomer may take its place when the bucket is full (entries of the first, hasty bootstrap)."""


class Bucket(Generic[P]):
    """At most k entries by peer; the table sees to the bound."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[P, Entry[P]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def replaceable(self) -> Entry[P] | None:
        """The oldest entry that may be replaced."""
        return next((entry for entry in self.entries.values() if entry.replaceable), None)

    def split(self, cpl: int) -> Bucket[P]:
        """Move every entry that shares more than `cpl` bits into a new bucket."""
        farther, nearer = Bucket[P](), Bucket[P]()
        for peer, entry in self.entries.items():
            (nearer if entry.cpl > cpl else farther).entries[peer] = entry
        self.entries = farther.entries
        return nearer
