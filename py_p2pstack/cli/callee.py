"""Something that answers calls: a node in this process, or one at the other end of a control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from py_p2pstack.protocols.dht.events import OnEvent

Answer = dict[str, Any]
Give = Callable[[Answer], Awaitable[None]]
"""Passes an item on; may wait for whoever takes it."""


class Callee(Protocol):
    """What can be called."""

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, give: Give, on_event: OnEvent | None = None
    ) -> Answer:
        """Ask; what is found on the way goes to `give`, each step to `on_event`. Raises Failure, P2PError."""
        ...
