"""A bus of typed events: publishing never blocks, a slow subscriber loses its oldest events and is told how many."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Generic, TypeVar

import anyio

E = TypeVar("E")


class Subscription(Generic[E]):
    """An async iterator over the events of some types, from the moment it was made until it is closed."""

    __slots__ = ("_bus", "_queue", "_types", "_waiter", "dropped")

    def __init__(self, bus: EventBus, types: tuple[type[E], ...], buffer: int) -> None:
        self._bus = bus
        self._types = types
        self._queue: deque[E] = deque(maxlen=buffer)
        self._waiter: anyio.Event | None = None
        self.dropped = 0
        """How many events were lost because the buffer was full."""

    def _deliver(self, event: E) -> None:
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(event)
        if self._waiter is not None:
            self._waiter.set()

    def discard_waiting(self) -> None:
        """Forget the events that wait to be received."""
        self._queue.clear()

    def close(self) -> None:
        """End the subscription; a waiting iterator ends when it has given out what it holds."""
        self._bus._forget(self._types, self)
        if self._waiter is not None:
            self._waiter.set()

    async def receive(self) -> E:
        """Wait for the next event. Raises anyio.ClosedResourceError once closed and empty."""
        while not self._queue:
            if self not in self._bus:
                raise anyio.ClosedResourceError
            self._waiter = anyio.Event()
            try:
                await self._waiter.wait()
            finally:
                self._waiter = None
        return self._queue.popleft()

    def __aiter__(self) -> Subscription[E]:
        return self

    async def __anext__(self) -> E:
        try:
            return await self.receive()
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None

    def __enter__(self) -> Subscription[E]:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class EventBus:
    """Delivers each published event to the subscriptions of exactly its type. One subscriber per subscription."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        self._by_type: dict[type, list[Subscription[object]]] = {}

    def subscribe(self, *types: type[E], buffer: int = 256) -> Subscription[E]:
        """Listen to events of `types`; `buffer` bounds how many wait, the oldest being dropped."""
        if not types or buffer < 1:
            raise ValueError("subscribe needs at least one event type and a buffer of at least 1")
        subscription: Subscription[E] = Subscription(self, types, buffer)
        for kind in types:
            self._by_type.setdefault(kind, []).append(subscription)  # type: ignore[arg-type]  # invariance
        return subscription

    def publish(self, event: object) -> None:
        """Deliver `event`; returns at once."""
        for subscription in self._by_type.get(type(event), ()):
            subscription._deliver(event)

    def has_subscribers(self, kind: type) -> bool:
        """Whether anybody listens: lets a publisher skip building costly events."""
        return kind in self._by_type

    def __contains__(self, subscription: object) -> bool:
        return any(subscription in listeners for listeners in self._by_type.values())

    def _forget(self, types: tuple[type, ...], subscription: object) -> None:
        for kind in types:
            listeners = [other for other in self._by_type.get(kind, ()) if other is not subscription]
            if listeners:
                self._by_type[kind] = listeners
            else:
                self._by_type.pop(kind, None)
