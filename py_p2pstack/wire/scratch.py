"""Buffers for what is done between two awaits: one of a thread serves all its connections."""

from __future__ import annotations

import threading
from mmap import mmap


class Scratch(threading.local):
    """A buffer of `size` bytes for each thread that looks at it; takes up memory where it is used."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(mmap(-1, size))
        """The whole of it. What is left there may be gone after an await."""
